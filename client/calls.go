// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// Get reads one resource.
func (c *Client) Get(ctx context.Context, r model.Ref) (out wire.Resource, err error) {
	_, err = c.do(ctx, request{method: http.MethodGet, path: []string{r.Kind.Plural(), r.Name}}, &out)
	return out, err
}

// List reads all resources of a kind, page by page. Each label is key=value, or
// key alone.
func (c *Client) List(ctx context.Context, k model.Kind, labels ...string) ([]wire.Resource, error) {
	var out []wire.Resource
	q := url.Values{"label": labels}
	for {
		var page wire.List
		if _, err := c.do(ctx, request{method: http.MethodGet, path: []string{k.Plural()}, query: q}, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		if page.Continue == "" {
			return out, nil
		}
		q.Set("continue", page.Continue)
	}
}

// Put creates or replaces one resource. With a revision other than 0 that must
// be the one found.
func (c *Client) Put(ctx context.Context, o model.Object, revision int64) (out wire.Resource, err error) {
	body, err := encode(o)
	if err != nil {
		return out, err
	}
	_, err = c.do(ctx, request{
		method: http.MethodPut, path: []string{o.Kind().Plural(), o.Base().Metadata.Name}, body: body, ifMatch: revision,
	}, &out)
	return out, err
}

// Delete deletes one resource. With a revision other than 0 that must be the
// one found.
func (c *Client) Delete(ctx context.Context, r model.Ref, revision int64) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{r.Kind.Plural(), r.Name}, ifMatch: revision}, nil)
	return err
}

// encode is how a resource travels to the server: secrets in clear, under TLS.
func encode(o model.Object) (json.RawMessage, error) { return model.EncodeStored(o) }

func manifests(os []model.Object) (wire.Manifests, error) {
	out := wire.Manifests{Resources: make([]json.RawMessage, len(os))}
	var err error
	for i, o := range os {
		if out.Resources[i], err = encode(o); err != nil {
			return out, err
		}
	}
	return out, nil
}

// Apply creates and changes resources together; dry only tells what it would
// do.
func (c *Client) Apply(ctx context.Context, os []model.Object, dry bool) (out wire.Applied, err error) {
	body, err := manifests(os)
	if err != nil {
		return out, err
	}
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"apply"}, query: dryRun(dry), body: body}, &out)
	return out, err
}

// DeleteAll deletes resources together.
func (c *Client) DeleteAll(ctx context.Context, d wire.Deletion, dry bool) (out wire.Applied, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"delete"}, query: dryRun(dry), body: d}, &out)
	return out, err
}

func dryRun(dry bool) url.Values {
	if !dry {
		return nil
	}
	return url.Values{"dryRun": {strconv.FormatBool(dry)}}
}

// Plan asks what an apply would change, and whose reachability.
func (c *Client) Plan(ctx context.Context, os []model.Object) (out wire.Plan, err error) {
	body, err := manifests(os)
	if err != nil {
		return out, err
	}
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"plan"}, body: body}, &out)
	return out, err
}

// Deploy makes a Deployment of an API and points a Stage at it.
func (c *Client) Deploy(ctx context.Context, api string, d wire.Deploy) (out wire.Deployed, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"apis", api, "deploy"}, body: d}, &out)
	return out, err
}

// ApproveEndpoint lets an Endpoint's traffic in.
func (c *Client) ApproveEndpoint(ctx context.Context, name string) (out wire.Resource, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"endpoints", name, "approve"}}, &out)
	return out, err
}

// RejectEndpoint shuts an Endpoint's traffic out.
func (c *Client) RejectEndpoint(ctx context.Context, name string) (out wire.Resource, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"endpoints", name, "reject"}}, &out)
	return out, err
}

// Revoke removes a rule that a SecurityGroupAuthorization granted.
func (c *Client) Revoke(ctx context.Context, group, rule string) (out wire.Resource, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{model.KindSecurityGroup.Plural(), group, "revoke"}, body: wire.Revocation{Rule: rule}}, &out)
	return out, err
}

// Join registers the WireGuard key of a Host or Link.
func (c *Client) Join(ctx context.Context, member model.Ref, j wire.Join) (out wire.Joined, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{member.Kind.Plural(), member.Name, "join"}, body: j}, &out)
	return out, err
}

// Explain asks what becomes of a request.
func (c *Client) Explain(ctx context.Context, q answer.Question) (out answer.Answer, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"explain"}, body: q}, &out)
	return out, err
}

// Matrix asks which components of a Gateway are reached from where: from every
// Host, if all is set.
func (c *Client) Matrix(ctx context.Context, gateway string, all bool) (out answer.Matrix, err error) {
	r := request{method: http.MethodGet, path: []string{"gateways", gateway, "matrix"}}
	if all {
		r.query = url.Values{"all": {"true"}}
	}
	_, err = c.do(ctx, r, &out)
	return out, err
}

// Verify runs every ReachabilityTest.
func (c *Client) Verify(ctx context.Context) (out wire.Verification, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"verify"}}, &out)
	return out, err
}

// Request asks why a request that has happened ended as it did.
func (c *Client) Request(ctx context.Context, id string) (out wire.Request, err error) {
	_, err = c.do(ctx, request{method: http.MethodGet, path: []string{"requests", id}}, &out)
	return out, err
}

// CreateToken makes a token; the answer alone shows it.
func (c *Client) CreateToken(ctx context.Context, t wire.NewToken) (out wire.CreatedToken, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"tokens"}, body: t}, &out)
	return out, err
}

// CreateKey issues an API key for a Subscription; the answer alone shows it.
func (c *Client) CreateKey(ctx context.Context, subscription string, k wire.NewKey) (out wire.CreatedKey, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{model.KindSubscription.Plural(), subscription, "keys"}, body: k}, &out)
	return out, err
}

// Keys lists API keys.
func (c *Client) Keys(ctx context.Context) ([]wire.Key, error) {
	var out wire.Keys
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"keys"}}, &out)
	return out.Items, err
}

// RevokeKey revokes an API key by its id.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"keys", id}}, nil)
	return err
}

// RotateKey makes one key of a SelfHostedGateway anew.
func (c *Client) RotateKey(ctx context.Context, name, key string) (out wire.Rotated, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{model.KindSelfHosted.Plural(), name, "rotate"}, body: wire.Rotation{Key: key}}, &out)
	return out, err
}

// RevokeAccess ends all that a SelfHostedGateway can authenticate with.
func (c *Client) RevokeAccess(ctx context.Context, name string) (out wire.RevokedAccess, err error) {
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{model.KindSelfHosted.Plural(), name, "revoke"}}, &out)
	return out, err
}

// Tokens lists tokens.
func (c *Client) Tokens(ctx context.Context) ([]wire.Token, error) {
	var out wire.Tokens
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"tokens"}}, &out)
	return out.Items, err
}

// RevokeToken revokes a token by its id.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"tokens", id}}, nil)
	return err
}

// Ready tells whether the server can make changes.
func (c *Client) Ready(ctx context.Context) (out wire.Health, err error) {
	_, err = c.do(ctx, request{method: http.MethodGet, path: []string{"readyz"}, accept: http.StatusServiceUnavailable}, &out)
	return out, err
}

// OpenAPI reads the description of the API.
func (c *Client) OpenAPI(ctx context.Context) (out json.RawMessage, err error) {
	_, err = c.do(ctx, request{method: http.MethodGet, path: []string{"openapi.json"}}, &out)
	return out, err
}
