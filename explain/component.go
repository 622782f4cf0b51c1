// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// serve goes on with the component of a Gateway that serves the connection.
func (t *trail) serve() {
	t.language()
	g := gatewayOf(&t.flow.Target)
	c, ok := serves(&t.flow.Target, &t.to)
	switch {
	case !ok && t.to.scheme == "https":
		t.nobodyServes(g)
	case c == snapshot.ComponentGateway && ok:
		t.request()
	case ok:
		t.other(g, c)
	}
}

// serves tells which component of a Gateway serves a connection, if one does:
// in clear that is the gateway itself or none.
func serves(at *flow.Target, to *target) (snapshot.Component, bool) {
	if to.scheme != "https" {
		return snapshot.ComponentGateway, at.Components.Has(snapshot.ComponentGateway)
	}
	g := gatewayOf(at)
	if g == nil {
		return "", false
	}
	return request.Component(g, at.Components, to.name)
}

// nobodyServes ends a handshake that names none of what shares the port.
func (t *trail) nobodyServes(g *snapshot.Gateway) {
	ref := model.Ref{Kind: model.KindGateway, Name: g.Name}.String()
	sni := t.to.name
	if sni == "" {
		sni = "a bare address"
	}
	names := ""
	for i, c := range t.flow.Target.Components {
		if i > 0 {
			names += ", "
		}
		if c == snapshot.ComponentGateway {
			names += g.Host
			continue
		}
		names += g.Name + "." + string(c) + "." + t.s.Base
	}
	t.stop(answer.Hop{
		Layer: answer.LayerTLS, Component: ref, Outcome: answer.Stop, Code: request.CodeUnknownName,
		Reason: "On port " + strconv.Itoa(int(t.to.port)) + " " + ref + " serves " + names + " alone, and refuses the handshake for " + sni + ".",
	}, answer.Symptom{Kind: answer.TLS}, stop{web: -1})
}

// parts are the components in words.
var parts = map[snapshot.Component]string{
	snapshot.ComponentManagement: "management plane", snapshot.ComponentConfiguration: "configuration endpoint",
	snapshot.ComponentPortal: "developer portal", snapshot.ComponentSCM: "Git repository",
}

// other ends with a component other than the gateway itself: it does not ask
// who calls but by token.
func (t *trail) other(g *snapshot.Gateway, c snapshot.Component) {
	ref := model.Ref{Kind: model.KindGateway, Name: g.Name}.String()
	t.hop(answer.Hop{
		Layer: answer.LayerTLS, Component: ref, Outcome: answer.Pass, Code: request.CodeTLS,
		Reason: ref + " presents a certificate for " + t.to.name + ".",
	})
	h := answer.Hop{
		Layer: answer.LayerListen, Component: ref, Outcome: answer.Pass, Code: flow.ListenAccepted,
		Out:    map[string]string{"component": string(c)},
		Reason: "The " + parts[c] + " of " + ref + " answers under " + t.to.name + ".",
	}
	sym := answer.Symptom{Kind: answer.Response}
	switch {
	case c == snapshot.ComponentPortal || c == snapshot.ComponentSCM:
		host := t.to.host
		if named, ok := header(&t.q, "host"); ok {
			host = named
		}
		sym.Status = request.Page(g, c, host, method(&t.q), t.to.path)
	case (c == snapshot.ComponentManagement || c == snapshot.ComponentConfiguration) && t.to.path == pathServiceStatus && method(&t.q) == "GET":
		sym.Status = 200
	case c == snapshot.ComponentManagement && t.tokenless():
		sym.Status = 401
		h.Reason = strings.TrimSuffix(h.Reason, ".") + "; it answers 401, for the request carries no token (Authorization)."
	case t.from.selfHosted != nil && t.from.selfHosted.Spec.Gateway == g.Name && t.asksConfiguration():
		// What it can show is judged below.
	case c == snapshot.ComponentManagement || c == snapshot.ComponentConfiguration:
		t.assume("the " + parts[c] + " of " + ref + " judges what it is asked by the caller's token, which is not asked about here")
	}
	if len(t.stops) == 0 {
		t.Symptom = sym
	}
	t.hop(h)
	if c == snapshot.ComponentManagement || c == snapshot.ComponentConfiguration {
		t.credential(g)
	}
}

// tokenless tells whether the management plane is asked for a resource by a
// request that says nothing of who asks.
func (t *trail) tokenless() bool {
	rest, ok := strings.CutPrefix(t.to.path, "/v1/")
	switch _, given := header(&t.q, "authorization"); {
	case given, !ok, method(&t.q) != "GET", rest == "healthz", rest == "readyz", rest == "openapi.json":
		return false
	}
	kind, name, named := strings.Cut(rest, "/")
	return kind != "" && !strings.Contains(name, "/") && (!named || name != "")
}

// pathServiceStatus is answered without a token.
const pathServiceStatus = "/ServiceStatus"
