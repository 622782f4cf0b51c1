// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire holds what the management API and its clients say to each
// other, as JSON. It decides nothing, so that both sides share it.
package wire

import (
	"encoding/json"
	"time"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// Resource is a resource as the API shows it: what is declared, and the
// server's status with the conditions of the snapshot being served.
type Resource struct {
	APIVersion string          `json:"apiVersion"`
	Kind       model.Kind      `json:"kind"`
	Metadata   model.Metadata  `json:"metadata"`
	Spec       json.RawMessage `json:"spec"`
	Status     model.Status    `json:"status,omitzero"`
	// Revision is the store revision of the last change, the ETag of a single
	// resource.
	Revision int64 `json:"revision,omitempty"`
}

// Ref names the resource.
func (r Resource) Ref() model.Ref { return model.Ref{Kind: r.Kind, Name: r.Metadata.Name} }

// List is one page of resources of a kind.
type List struct {
	Revision int64      `json:"revision"`
	Items    []Resource `json:"items"`
	// Continue is the value of the query parameter continue that gets the next
	// page; empty on the last.
	Continue string `json:"continue,omitempty"`
}

// Manifests are resources as written, each an object with apiVersion, kind,
// metadata and spec.
type Manifests struct {
	Resources []json.RawMessage `json:"resources"`
}

// Deletion names resources to delete together.
type Deletion struct {
	Resources []model.Ref `json:"resources"`
	// Absent, when set, takes a resource that does not exist as deleted.
	Absent bool `json:"absent,omitempty"`
	// Cascade deletes, with SecurityGroupAuthorizations, the rules that they
	// granted.
	Cascade bool `json:"cascade,omitempty"`
}

// Revocation names a granted rule of a SecurityGroup that is to go.
type Revocation struct {
	Rule string `json:"rule"`
}

// Action is what a change did, or would do, to a resource.
type Action string

// The actions.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
)

// Outcome is what became of one resource.
type Outcome struct {
	Ref    model.Ref `json:"ref"`
	Action Action    `json:"action"`
	ID     string    `json:"id,omitempty"`
	// NotReady is the condition that keeps the resource from being served.
	NotReady *model.Condition `json:"notReady,omitempty"`
}

// Applied answers a change. Unless DryRun is set it is stored, and the snapshot
// that holds it is being served.
type Applied struct {
	Revision int64     `json:"revision"`
	DryRun   bool      `json:"dryRun,omitempty"`
	Results  []Outcome `json:"results"`
	// Revoked are the granted rules that a cascading deletion takes along.
	Revoked  []RevokedRule `json:"revoked,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// RevokedRule is a granted rule that a SecurityGroup has no longer.
type RevokedRule struct {
	Group model.Ref `json:"group"`
	Rule  string    `json:"rule"`
}

// Plan answers what a change would do.
type Plan struct {
	Revision int64    `json:"revision"`
	Changes  []Change `json:"changes"`
	// Gains and Losses are the callers that the change would newly let in, and
	// those it would shut out.
	Gains    []answer.Opening `json:"gains"`
	Losses   []answer.Opening `json:"losses"`
	Warnings []string         `json:"warnings,omitempty"`
}

// Change is what a plan would do to one resource.
type Change struct {
	Ref    model.Ref `json:"ref"`
	Action Action    `json:"action"`
	Fields []Field   `json:"fields,omitempty"`
}

// Field is one difference. Before is absent for what is added, After for what
// is removed.
type Field struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Deploy asks for a new Deployment. Without Stage it is the API's own, or its
// only one.
type Deploy struct {
	Stage string `json:"stage,omitempty"`
}

// Deployed answers it.
type Deployed struct {
	Revision   int64  `json:"revision"`
	API        string `json:"api"`
	Deployment int    `json:"deployment"`
	// Stage is empty if the API has no Stage and none was named.
	Stage string `json:"stage,omitempty"`
	// StageCreated tells that the Stage did not exist before.
	StageCreated bool `json:"stageCreated,omitempty"`
}

// Join registers a Host's or Link's WireGuard key. Without one the server makes
// a pair.
type Join struct {
	PublicKey string `json:"publicKey,omitempty"`
}

// Joined is what a member of a Network needs to reach its hub.
type Joined struct {
	Name    string `json:"name"`
	Network string `json:"network"`
	// Addresses are the member's own, with their prefix lengths; a Link has
	// none of its own.
	Addresses []string `json:"addresses"`
	PublicKey string   `json:"publicKey"`
	// PrivateKey is set only if the server made the pair. It is shown this once
	// and kept nowhere.
	PrivateKey string `json:"privateKey,omitempty"`
	// Replaced tells that another key was registered before; it works no more.
	Replaced bool `json:"replaced,omitempty"`
	// Hub is the peer.
	Hub        Hub      `json:"hub"`
	DNS        []string `json:"dns"`
	AllowedIPs []string `json:"allowedIPs"`
	MTU        int      `json:"mtu"`
}

// Hub is the WireGuard side of a Network.
type Hub struct {
	PublicKey string `json:"publicKey"`
	Endpoint  string `json:"endpoint"` // host:port, UDP
}

// NewToken asks for a token.
type NewToken struct {
	Role string `json:"role"`
	// Subject binds a host token to host/NAME or link/NAME and a selfhosted
	// token to selfhosted/NAME.
	Subject string `json:"subject,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Lifetime is a duration such as 720h; empty for a token that stays valid, or
	// of a self-hosted gateway for the longest there is.
	Lifetime string `json:"lifetime,omitempty"`
	// Key is what a selfhosted token is signed with: primary, which it is if
	// empty, or secondary.
	Key string `json:"key,omitempty"`
	// Enrol asks, in place of a selfhosted token, for one that gets the gateway
	// its first client certificate, once.
	Enrol bool `json:"enrol,omitempty"`
}

// Token is what is kept of a token.
type Token struct {
	ID      string `json:"id"`
	Role    string `json:"role"`
	Subject string `json:"subject,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Key is what a selfhosted token is signed with, or certificate.
	Key string `json:"key,omitempty"`
	// Once tells that the token enrols a gateway and ends with that.
	Once    bool      `json:"once,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// CreatedToken is the only answer that shows a token.
type CreatedToken struct {
	Token
	Value string `json:"value"`
	// Settings are those of the self-hosted gateway that the token is for.
	Settings *GatewaySettings `json:"settings,omitempty"`
}

// GatewaySettings tell a self-hosted gateway where its configuration is.
type GatewaySettings struct {
	// Name is that of the SelfHostedGateway, From where it stands, in the form
	// of a Question.
	Name string `json:"name"`
	From string `json:"from"`
	// StandsFor tells that the address that was asked from stands for the
	// gateway's own, which the management plane does not know.
	StandsFor bool `json:"standsFor,omitempty"`
	// Enrol tells that the token enrols the gateway and is no setting by itself.
	Enrol bool `json:"enrol,omitempty"`
	// V1 and V2 are config.service.endpoint for the two protocols.
	V1 string `json:"v1"`
	V2 string `json:"v2"`
	// Links are the ways there, in the order in which they are tried.
	Links []ControlLink `json:"links"`
}

// ControlLink is one way of a self-hosted gateway to its control plane.
type ControlLink struct {
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	// Works is what explain answers; Code and Reason are those of the hop that
	// decides.
	Works  bool   `json:"works"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Rotation names the key of a SelfHostedGateway that is to be made anew:
// primary or secondary.
type Rotation struct {
	Key string `json:"key"`
}

// Rotated answers it.
type Rotated struct {
	Name string `json:"name"`
	Key  string `json:"key"`
	// Revoked is how many tokens are no longer good.
	Revoked int `json:"revoked"`
	// Both tells that the other key is new too: what was stored could not be read.
	Both bool `json:"both,omitempty"`
}

// RevokedAccess tells what a SelfHostedGateway can no longer authenticate with.
type RevokedAccess struct {
	Name         string `json:"name"`
	Tokens       int    `json:"tokens"`
	Certificates int    `json:"certificates"`
	Enrolments   int    `json:"enrolments"`
}

// Tokens lists tokens.
type Tokens struct {
	Items []Token `json:"items"`
}

// NewKey asks for an API key.
type NewKey struct {
	Comment string `json:"comment,omitempty"`
	// Value is a key that was made elsewhere, 20 to 128 letters and digits; one
	// is made if it is empty.
	Value string `json:"value,omitempty"`
}

// Key is what is shown of an API key.
type Key struct {
	ID           string    `json:"id"`
	Subscription string    `json:"subscription"`
	Product      string    `json:"product"`
	Consumer     string    `json:"consumer"`
	Comment      string    `json:"comment,omitempty"`
	Created      time.Time `json:"created"`
	// Throttle and Quota are what its Product allows; nil for no limit.
	Throttle *KeyThrottle `json:"throttle,omitempty"`
	Quota    *KeyQuota    `json:"quota,omitempty"`
}

// KeyThrottle is the token bucket of a key. Left is how many tokens there are, at
// the server's own gateway; nil if it is not known.
type KeyThrottle struct {
	Rate  float64 `json:"rate"`
	Burst int     `json:"burst"`
	Left  *int    `json:"left,omitempty"`
}

// KeyQuota is the quota of a key. Used is how many requests of the period the
// server's own gateway has counted; nil if it is not known.
type KeyQuota struct {
	Limit  int64  `json:"limit"`
	Period string `json:"period"`
	Used   *int64 `json:"used,omitempty"`
	// Renews is when the next period begins.
	Renews time.Time `json:"renews"`
}

// CreatedKey is the only answer that shows an API key.
type CreatedKey struct {
	Key
	Value string `json:"value"`
}

// Keys lists API keys.
type Keys struct {
	Items []Key `json:"items"`
}

// Verification answers verify.
type Verification struct {
	Revision int64        `json:"revision"`
	Holds    bool         `json:"holds"`
	Results  []TestResult `json:"results"`
}

// TestResult is one ReachabilityTest's outcome.
type TestResult struct {
	Ref      model.Ref `json:"ref"`
	Holds    bool      `json:"holds"`
	Expected string    `json:"expected"`
	Found    string    `json:"found"`
	Reason   string    `json:"reason,omitempty"`
}

// Request is a request that has happened, with its explanation.
type Request struct {
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	Recorded Recorded        `json:"recorded"`
	Question answer.Question `json:"question"`
	// Answer explains the question as things are now.
	Answer answer.Answer `json:"answer"`
	// Difference says in words how the explanation differs from what was
	// recorded; empty if it does not.
	Difference string `json:"difference,omitempty"`
}

// Recorded is what became of a request: the version of HTTP that it came by,
// the code of what decided, the status
// that was answered, and the revision that it met.
type Recorded struct {
	Code     string `json:"code"`
	Status   int    `json:"status"`
	Revision int64  `json:"revision"`
	Protocol string `json:"protocol,omitempty"`
}

// Health answers the health checks.
type Health struct {
	Status   string `json:"status"`
	Revision int64  `json:"revision,omitempty"`
	Reason   string `json:"reason,omitempty"`
}
