// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// The codes of the backend's hop beside request.CodeBackendNone.
const (
	codeBackendOK      = "backend/ok"
	codeBackendRefused = "backend/refused"
)

// backend tells what answers the operation.
func (t *trail) backend() {
	v := &t.web.verdict
	in := &v.Operation().Integration
	h := answer.Hop{
		Layer: answer.LayerBackend, Component: model.Ref{Kind: model.KindAPI, Name: v.API.Name}.String(),
		Outcome: answer.Pass, Code: codeBackendOK,
	}
	to, err := v.Destinations(t.s)
	switch {
	case in.Kind == operation.None:
		h.Reason = "The operation has no integration, API/" + v.API.Name + " no backend, and its document no server."
	case err != nil:
		h.Reason = capital(strings.TrimPrefix(err.Error(), request.ErrNoBackend.Error()+": ")) + "."
	case in.Kind == operation.Petstore:
		h.Reason = "The built-in petstore answers."
	case in.Kind == operation.Mock:
		h.Reason = "The operation's MOCK integration answers."
	}
	if err != nil {
		r := request.ConfigurationError
		h.Outcome, h.Code = answer.Stop, request.CodeBackendNone
		h.Rule = &answer.Rule{Resource: h.Component, Path: "spec.openapi"}
		t.stop(h, answer.Symptom{Kind: answer.Response, Status: r.Status, Body: r.Body}, stop{web: -1})
		return
	}
	if len(to) > 0 && !t.send(&h, to) {
		return
	}
	t.hop(h)
}

// send tells where a request is sent on to. It reports whether anything may be
// dialled for it.
func (t *trail) send(h *answer.Hop, to []request.Destination) bool {
	var open, closed []string
	for i := range to {
		d := &to[i]
		at := net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port)))
		if !dialled(t.s, to[i:i+1]) {
			closed = append(closed, at)
			continue
		}
		open = append(open, d.Scheme+"://"+at)
		if d.Backend != nil {
			h.Component = model.Ref{Kind: model.KindBackend, Name: d.Backend.Name}.String()
		}
	}
	if len(open) == 0 {
		r := request.NetworkError
		h.Outcome, h.Code = answer.Stop, codeBackendRefused
		h.Reason = strings.Join(closed, ", ") + " is not public and may not be dialled from the server; allow it with --allow-egress."
		if d := &to[0]; d.Network != nil {
			h.Reason = "Backend/" + d.Backend.Name + " is in Network/" + d.Network.Name + ", and a Gateway does not dial into Networks in this version; leave spec.network out."
			h.Component = model.Ref{Kind: model.KindBackend, Name: d.Backend.Name}.String()
			h.Rule = &answer.Rule{Resource: h.Component, Path: "spec.network"}
		}
		t.stop(*h, answer.Symptom{Kind: answer.Response, Status: r.Status, Body: r.Body}, stop{web: -1, to: to})
		return false
	}
	h.Reason = "The request is sent on to " + strings.Join(open, ", ") + "."
	h.Out = map[string]string{"to": strings.Join(open, ", ")}
	t.assume("the backend at " + strings.Join(open, ", ") + " answers")
	return true
}

// proposeEgress proposes to let the server dial where the backend is, or to
// take the Backend out of its Network.
func proposeEgress(t *trail, s stop) []change {
	var out []change
	for i := range s.to {
		d := &s.to[i]
		a, err := netip.ParseAddr(d.Host)
		if d.Network != nil {
			if b, ok := object[*model.Backend](t, d.Backend.Name); ok {
				b.Spec.Network = ""
				out = append(out, put("let the server itself call Backend/"+d.Backend.Name+": leave its spec.network out", b,
					answer.PatchOperation{Op: "remove", Path: "/spec/network"}))
			}
			continue
		}
		if err != nil {
			continue
		}
		a = a.Unmap().WithZone("")
		p := netip.PrefixFrom(a, a.BitLen())
		out = append(out, change{
			summary: "start the server so that it may dial " + a.String(), egress: []netip.Prefix{p},
			commands: []string{"postern server --allow-egress " + p.String() + "   # with the flags that it has now"},
		})
	}
	return out
}

// dialled tells whether any of the places may be dialled. What a name resolves
// to is judged when it is dialled. Into Networks no Gateway dials yet.
func dialled(s *snapshot.Snapshot, to []request.Destination) bool {
	for i := range to {
		a, err := netip.ParseAddr(to[i].Host)
		if to[i].Network == nil && (err != nil || flow.Egress(&s.Internet, a)) {
			return true
		}
	}
	return len(to) == 0
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
