// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package answer holds the question that explain is asked and the answer that
// it gives, as they stand on the wire. It decides nothing, so that clients can
// import it alone.
package answer

// Question asks what becomes of one request.
type Question struct {
	// From is host/NAME, link/NAME[/IP], gateway/NAME, selfhosted/NAME[/IP] or
	// internet[/IP].
	From   string `json:"from"`
	Method string `json:"method,omitempty"` // GET if empty
	// URL has the scheme http, https, tcp, udp or dns.
	URL     string   `json:"url"`
	Headers []Header `json:"headers,omitempty"`
	// Insecure says that the caller does not verify certificates.
	Insecure bool `json:"insecure,omitempty"`
	// ClientCertSubject is the distinguished name (RFC 2253) of a certificate
	// that the caller shows and that the Domain's authorities vouch for.
	ClientCertSubject string `json:"clientCertSubject,omitempty"`
	// ClientCert is the certificate that the caller shows, in PEM, and behind it
	// those that lead to an authority. It is verified, and counts before
	// ClientCertSubject.
	ClientCert string `json:"clientCert,omitempty"`
	// ConnectTo is an address that the caller connects to whatever the URL's
	// name resolves to, as one does that is told it.
	ConnectTo string `json:"connectTo,omitempty"`
	// KeyOf is the Subscription whose API key the caller has, so that the key
	// itself need not be told. It counts before the header x-api-key.
	KeyOf string `json:"keyOf,omitempty"`
}

// Header is one header field of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Verdict says whether the request gets through.
type Verdict string

// The verdicts.
const (
	Allow   Verdict = "allow"
	Deny    Verdict = "deny"
	Unknown Verdict = "unknown"
)

// Answer is what explain found.
type Answer struct {
	Verdict  Verdict `json:"verdict"`
	Revision int64   `json:"revision"`
	// DecidedBy indexes Hops, from 0: the hop that stops the request or, when
	// it is allowed, the last hop.
	DecidedBy   int       `json:"decidedBy"`
	Code        string    `json:"code"`
	Symptom     Symptom   `json:"symptom"`
	Hops        []Hop     `json:"hops"`
	Blockers    []Blocker `json:"blockers"`
	Findings    []Finding `json:"findings,omitempty"`
	Fixes       []Fix     `json:"fixes"`
	Assumptions []string  `json:"assumptions"`
}

// SymptomKind is what the caller sees, as a word.
type SymptomKind string

// The symptoms.
const (
	Response  SymptomKind = "response"
	Connected SymptomKind = "connected"
	Answered  SymptomKind = "answer"
	NXDomain  SymptomKind = "nxdomain"
	Timeout   SymptomKind = "timeout"
	Refused   SymptomKind = "refused"
	Reset     SymptomKind = "reset"
	TLS       SymptomKind = "tls"
)

// Symptom is what the caller sees. Status and Body belong to Response; Body is
// given for answers that the gateway makes itself. Addresses belong to
// Answered. Kind is empty where the verdict is Unknown and nothing can be said.
type Symptom struct {
	Kind      SymptomKind `json:"kind"`
	Status    int         `json:"status,omitempty"`
	Body      string      `json:"body,omitempty"`
	Addresses []string    `json:"addresses,omitempty"`
}

// Layer is one kind of gate a request passes.
type Layer string

// The layers, in the order in which a request meets them.
const (
	LayerDNS          Layer = "dns"
	LayerRoute        Layer = "route"
	LayerSGOut        Layer = "sg-out"
	LayerSGIn         Layer = "sg-in"
	LayerListen       Layer = "listen"
	LayerEndpoint     Layer = "endpoint"
	LayerTLS          Layer = "tls"
	LayerHost         Layer = "host"
	LayerAPI          Layer = "api"
	LayerStage        Layer = "stage"
	LayerMethod       Layer = "method"
	LayerPolicy       Layer = "policy"
	LayerAuth         Layer = "auth"
	LayerLimit        Layer = "limit"
	LayerWAF          Layer = "waf"
	LayerBackendDNS   Layer = "backend-dns"
	LayerBackendRoute Layer = "backend-route"
	LayerBackendSGOut Layer = "backend-sg-out"
	LayerBackendSGIn  Layer = "backend-sg-in"
	LayerBackend      Layer = "backend"
	LayerReturn       Layer = "return"
)

// Outcome is what a hop did with the request.
type Outcome string

// The outcomes. Skip marks a hop that had nothing to decide.
const (
	Pass Outcome = "pass"
	Stop Outcome = "stop"
	Skip Outcome = "skip"
)

// Hop is one gate and what it decided.
type Hop struct {
	Layer     Layer             `json:"layer"`
	Component string            `json:"component"`
	Outcome   Outcome           `json:"outcome"`
	Code      string            `json:"code"`
	Rule      *Rule             `json:"rule,omitempty"`
	In        map[string]string `json:"in,omitempty"`
	Out       map[string]string `json:"out,omitempty"`
	Reason    string            `json:"reason"`
	Evidence  string            `json:"evidence"` // model, enforced, probe, log
}

// Rule points at the place in a manifest that decided.
type Rule struct {
	Resource string `json:"resource"`
	Path     string `json:"path,omitempty"`
	Name     string `json:"name,omitempty"`
}

// Blocker is a hop that would stop the request. The answer lists every one,
// also those behind the first.
type Blocker struct {
	Code      string `json:"code"`
	Component string `json:"component"`
	Rule      *Rule  `json:"rule,omitempty"`
}

// Finding is worth knowing although it stops nothing by itself.
type Finding struct {
	Code      string `json:"code"`
	Component string `json:"component"`
	Message   string `json:"message"`
}

// Fix is a change that was tried: with it, and with the fixes of the other
// blockers, the request is allowed.
type Fix struct {
	Summary string `json:"summary"`
	// For is the code of the blocker that it removes.
	For string `json:"for"`
	// Patch is a change of resources: each a manifest fragment.
	Patch []Patch `json:"patch,omitempty"`
	// Request is a change of the request instead.
	Request  *RequestChange `json:"request,omitempty"`
	Commands []string       `json:"commands,omitempty"`
	// Then lists, in words, what else it was tried with: changes for what only
	// shows once this one is made.
	Then     []string `json:"then,omitempty"`
	Verified bool     `json:"verified"`
	// AlsoOpens lists what else the change, with the fixes it was tried with,
	// would let in; Breaks what it would keep out that gets through now.
	AlsoOpens []Opening `json:"alsoOpens,omitempty"`
	Breaks    []Opening `json:"breaks,omitempty"`
	// Omitted counts what there is of both beyond what is listed.
	Omitted int `json:"omitted,omitempty"`
}

// Patch is a change of one resource as JSON Patch operations (RFC 6902) on its
// manifest.
type Patch struct {
	Resource string `json:"resource"`
	// At is where the resource stands, as FILE:LINE:COLUMN, where manifests were
	// asked and not a server.
	At  string           `json:"at,omitempty"`
	Ops []PatchOperation `json:"ops"`
}

// PatchOperation is one operation of RFC 6902: add, replace or remove.
type PatchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// RequestChange is another way to ask.
type RequestChange struct {
	Method  string            `json:"method,omitempty"`
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	// KeyOf is the Subscription whose key stands for x-api-key in Headers.
	KeyOf string `json:"keyOf,omitempty"`
	// Without names headers to leave out.
	Without []string `json:"without,omitempty"`
}

// Opening is one caller and target that a change would newly let through.
type Opening struct {
	From string `json:"from"`
	To   string `json:"to"`
}
