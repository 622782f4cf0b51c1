// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/internal/exposition"
)

var dryRun = parameter{"dryRun", "Tell what would happen, and change nothing.", "boolean"}

// routes is the API, all of it.
func routes() []route {
	return []route{
		{method: "GET", path: "/v1/healthz", id: "healthz", summary: "Whether the server runs.", answer: wire.Health{}, handle: healthz},
		{method: "GET", path: "/v1/readyz", id: "readyz", summary: "Whether changes can be made; 503 if not.", answer: wire.Health{}, handle: readyz},
		{method: "GET", path: "/ServiceStatus", id: "serviceStatus", summary: "Whether the component is reached, as Azure's tells it.", answer: wire.Health{}, handle: healthz},
		{
			method: "GET", path: "/metrics", id: "metrics", operation: token.Read, media: exposition.ContentType,
			summary: "What is known of self-hosted gateways, for Prometheus.", answer: "", handle: metrics,
		},
		{method: "GET", path: "/v1/openapi.json", id: "openapi", summary: "This document.", answer: map[string]any{}, handle: openAPI},

		{
			method: "POST", path: "/v1/apply", id: "apply", operation: token.Publish, writes: true,
			summary: "Creates and changes resources together: all of them or none.",
			query:   []parameter{dryRun}, body: wire.Manifests{}, answer: wire.Applied{}, handle: applyManifests,
		},
		{
			method: "POST", path: "/v1/delete", id: "delete", operation: token.Publish, writes: true,
			summary: "Deletes resources together: all of them or none.",
			query:   []parameter{dryRun}, body: wire.Deletion{}, answer: wire.Applied{}, handle: deleteManifests,
		},
		{
			method: "POST", path: "/v1/plan", id: "plan", operation: token.Ask, heavy: true,
			summary: "What an apply would change, and whose reachability.",
			body:    wire.Manifests{}, answer: wire.Plan{}, handle: planManifests,
		},
		{
			method: "POST", path: "/v1/explain", id: "explain", operation: token.Ask, heavy: true,
			summary: "What becomes of a request, hop by hop.",
			body:    answer.Question{}, answer: answer.Answer{}, handle: explain,
		},
		{
			method: "POST", path: "/v1/verify", id: "verify", operation: token.Ask, heavy: true,
			summary: "Runs every ReachabilityTest.", answer: wire.Verification{}, handle: verify,
		},
		{
			method: "GET", path: "/v1/requests/{id}", id: "getRequest", operation: token.Ask, heavy: true,
			summary: "Why a request that has happened ended as it did.", answer: wire.Request{}, handle: getRequest,
		},

		{
			method: "POST", path: "/v1/apis/{name}/deploy", id: "deploy", operation: token.Publish, writes: true,
			summary: "Makes a Deployment of the API and points a Stage at it.",
			body:    wire.Deploy{}, answer: wire.Deployed{}, handle: deployAPI,
		},
		{
			method: "GET", path: "/v1/gateways/{name}/matrix", id: "getMatrix", operation: token.Ask, heavy: true,
			summary: "Which components of a Gateway are reached from where, by explain.",
			query:   []parameter{{"all", "Ask about every Host, not one of each Subnet.", "boolean"}},
			answer:  answer.Matrix{}, handle: matrix,
		},
		{
			method: "POST", path: "/v1/endpoints/{name}/approve", id: "approveEndpoint", operation: token.Administer, writes: true,
			summary: "Lets an Endpoint's traffic in.", answer: wire.Resource{}, handle: approveEndpoint,
		},
		{
			method: "POST", path: "/v1/endpoints/{name}/reject", id: "rejectEndpoint", operation: token.Administer, writes: true,
			summary: "Shuts an Endpoint's traffic out.", answer: wire.Resource{}, handle: rejectEndpoint,
		},
		{
			method: "POST", path: "/v1/securitygroups/{name}/revoke", id: "revokeRule", operation: token.Administer, writes: true,
			summary: "Removes a rule that a SecurityGroupAuthorization granted; it is not restored.",
			body:    wire.Revocation{}, answer: wire.Resource{}, handle: revokeRule,
		},
		{
			method: "POST", path: "/v1/hosts/{name}/join", id: "joinHost", operation: token.Join, subject: "host",
			summary: "Registers a Host's WireGuard key and tells how to reach its hub.",
			body:    wire.Join{}, answer: wire.Joined{}, handle: joinHost,
		},
		{
			method: "POST", path: "/v1/links/{name}/join", id: "joinLink", operation: token.Join, subject: "link",
			summary: "Registers a Link's WireGuard key and tells how to reach its hub.",
			body:    wire.Join{}, answer: wire.Joined{}, handle: joinLink,
		},

		{
			method: "POST", path: "/v1/selfhostedgateways/{name}/rotate", id: "rotateKey", operation: token.Grant,
			summary: "Makes one of the two keys of a SelfHostedGateway anew; tokens that it signed are no longer good.",
			body:    wire.Rotation{}, answer: wire.Rotated{}, handle: rotateKey,
		},
		{
			method: "POST", path: "/v1/selfhostedgateways/{name}/revoke", id: "revokeAccess", operation: token.Grant,
			summary: "Ends every token, certificate and enrolment of a SelfHostedGateway, and closes its streams.",
			answer:  wire.RevokedAccess{}, handle: revokeAccess,
		},
		{
			method: "POST", path: "/v1/subscriptions/{name}/keys", id: "createKey", operation: token.Publish,
			summary: "Issues an API key for a Subscription and shows it this once.",
			body:    wire.NewKey{}, answer: wire.CreatedKey{}, handle: createKey,
		},
		{
			method: "GET", path: "/v1/keys", id: "listKeys", operation: token.Read,
			summary: "Lists the API keys that were issued, without the keys themselves.", answer: wire.Keys{}, handle: listKeys,
		},
		{
			method: "DELETE", path: "/v1/keys/{id}", id: "revokeKey", operation: token.Publish,
			summary: "Revokes an API key.", handle: revokeKey,
		},
		{
			method: "POST", path: "/v1/tokens", id: "createToken", operation: token.Grant,
			summary: "Makes a token and shows it this once.",
			body:    wire.NewToken{}, answer: wire.CreatedToken{}, handle: createToken,
		},
		{
			method: "GET", path: "/v1/tokens", id: "listTokens", operation: token.Grant,
			summary: "Lists tokens, without what is secret in them.", answer: wire.Tokens{}, handle: listTokens,
		},
		{
			method: "DELETE", path: "/v1/tokens/{id}", id: "revokeToken", operation: token.Grant,
			summary: "Revokes a token.", handle: revokeToken,
		},

		{
			method: "GET", path: "/v1/{kind}", id: "list", operation: token.Read, perKind: true,
			summary: "Lists resources, sorted by name.",
			query: []parameter{
				{"label", "Only those with the label key=value, or with the label key; several filters are all asked.", "string"},
				{"limit", "How many at most, 1 to 1000; 500 if absent.", "integer"},
				{"continue", "The field continue of the page before.", "string"},
			},
			answer: wire.List{}, handle: listResources,
		},
		{
			method: "POST", path: "/v1/{kind}", id: "create", perKind: true, writing: true, writes: true,
			summary: "Creates one resource.", body: wire.Resource{}, answer: wire.Resource{}, handle: postResource,
		},
		{
			method: "GET", path: "/v1/{kind}/{name}", id: "get", operation: token.Read, perKind: true,
			summary: "One resource with its status.", answer: wire.Resource{}, handle: getResource,
		},
		{
			method: "PUT", path: "/v1/{kind}/{name}", id: "put", perKind: true, writing: true, writes: true,
			summary: "Creates or replaces one resource.", body: wire.Resource{}, answer: wire.Resource{}, handle: putResource,
		},
		{
			method: "DELETE", path: "/v1/{kind}/{name}", id: "remove", perKind: true, writing: true, writes: true,
			summary: "Deletes one resource.",
			query:   []parameter{{"cascade", "Delete the rules that a SecurityGroupAuthorization granted with it.", "boolean"}},
			handle:  deleteResource,
		},
	}
}
