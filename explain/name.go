// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strings"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// resolve asks for the name in the caller's view and returns where it may be
// connected.
func (t *trail) resolve() []netip.Addr {
	if t.to.told.IsValid() {
		t.hop(answer.Hop{
			Layer: answer.LayerDNS, Component: t.view(), Outcome: answer.Skip, Code: name.Answered,
			Reason: "The caller connects to " + t.to.told.String() + ", whatever " + t.to.host + " resolves to.",
		})
		return []netip.Addr{t.to.told}
	}
	if t.to.name == "" {
		t.hop(answer.Hop{
			Layer: answer.LayerDNS, Component: t.view(), Outcome: answer.Skip, Code: name.Answered,
			Reason: t.to.addr.String() + " is an address; no name is asked for.",
		})
		if t.to.scheme == "dns" {
			t.Symptom = answer.Symptom{Kind: answer.Answered, Addresses: []string{t.to.addr.String()}}
		}
		return []netip.Addr{t.to.addr}
	}
	v, addrs := lookup(t.s, &t.from, t.to.name)
	t.name = v
	h := answer.Hop{
		Layer: answer.LayerDNS, Component: t.view(), Outcome: answer.Pass, Code: v.Code,
		In:     map[string]string{"name": t.to.name, "view": t.view()},
		Reason: nameReason(t.to.name, &v),
	}
	if v.Zone != nil && !v.Zone.Owner.IsZero() {
		h.Component = v.Zone.Owner.String()
	}
	if v.Zone != nil {
		h.In["zone"] = v.Zone.Domain
	}
	if len(addrs) == 0 {
		t.unresolved(h, &v)
		return nil
	}
	if t.to.scheme == "dns" {
		addrs = both(t.s, &t.from, t.to.name)
	}
	h.Out = map[string]string{"addresses": join(addrs)}
	if v.Name != t.to.name {
		h.Out["name"] = v.Name
	}
	t.hop(h)
	if v.Code == name.PrivateShadowsPublic {
		t.find(v.Code, h.Component, h.Reason)
	}
	if t.to.scheme == "dns" {
		t.Symptom = answer.Symptom{Kind: answer.Answered, Addresses: texts(addrs)}
	}
	return addrs
}

// unresolved ends a question whose name has no address.
func (t *trail) unresolved(h answer.Hop, v *name.Verdict) {
	if n := t.from.net; len(v.Forwarders(n)) > 0 {
		t.Verdict = answer.Unknown
		t.assume("what " + v.Name + " resolves to is asked of the forwarders of Network/" + n.Name + " and not known here")
		h.Code = name.Answered
		h.Reason = "Postern does not hold " + v.Name + "; the forwarders of Network/" + n.Name + " are asked."
		t.hop(h)
		return
	}
	if ref, ok := t.w.named(v.Name); ok {
		h.Component = ref.String()
		h.Reason = strings.TrimSuffix(h.Reason, ".") + ": " + t.w.unready(ref) + "."
	} else if a := t.privateAPI(v.Name); a != nil {
		h.Reason = strings.TrimSuffix(h.Reason, ".") + ": API/" + a.Name +
			" is private, and its name is answered only in Networks that have an Endpoint of that region with private DNS."
	}
	h.Outcome = answer.Stop
	t.stop(h, answer.Symptom{Kind: answer.NXDomain}, stop{web: -1})
}

// privateAPI finds the private API whose own host name this is.
func (t *trail) privateAPI(host string) *snapshot.API {
	for _, a := range t.s.APIs {
		if a.Type == model.Private && a.Host == host {
			return a
		}
	}
	return nil
}

// lookup resolves a name for a caller: first to addresses of the family that it
// has itself, and to the others only if there are none.
func lookup(s *snapshot.Snapshot, from *source, host string) (name.Verdict, []netip.Addr) {
	view := name.View(s, from.net)
	types := [...]snapshot.RecordType{snapshot.TypeA, snapshot.TypeAAAA}
	if from.flow.Addr.Is6() {
		types[0], types[1] = types[1], types[0]
	}
	v := name.Resolve(s, view, host, types[0])
	if len(v.Addrs) == 0 {
		if other := name.Resolve(s, view, host, types[1]); len(other.Addrs) > 0 {
			v = other
		}
	}
	return v, v.Addrs
}

// both is what a look-up shows: the addresses of both families.
func both(s *snapshot.Snapshot, from *source, host string) []netip.Addr {
	view := name.View(s, from.net)
	var out []netip.Addr
	for _, typ := range [...]snapshot.RecordType{snapshot.TypeA, snapshot.TypeAAAA} {
		v := name.Resolve(s, view, host, typ)
		out = append(out, v.Addrs...)
	}
	return out
}

// view names whose resolver is asked.
func (t *trail) view() string {
	if t.from.net != nil {
		return model.Ref{Kind: model.KindNetwork, Name: t.from.net.Name}.String()
	}
	return internet
}

// nameReason is one sentence about what a name resolved to.
func nameReason(asked string, v *name.Verdict) string {
	chain := asked
	if v.Name != asked {
		chain = asked + " is a CNAME of " + v.Name + ", which"
	}
	switch {
	case v.Status == name.Loop:
		return asked + " leads in a circle of CNAMEs."
	case v.Status == name.NoData:
		return chain + " exists but has no address."
	case v.Status == name.NotFound && v.Zone == nil:
		return chain + " is in no zone that this caller sees."
	case v.Status == name.NotFound && v.Zone.Private:
		return chain + " is not in the private zone " + v.Zone.Domain + " of " + v.Zone.Owner.String() + ", and a private zone never falls through to the public one."
	case v.Status == name.NotFound:
		return chain + " has no record in the public zone " + v.Zone.Domain + "."
	}
	text := chain + " is " + strings.Join(texts(v.Addrs), ", ")
	if !v.Owner.IsZero() {
		if len(v.Addrs) == 1 {
			text += ", the address of " + v.Owner.String()
		} else {
			text += ", the addresses of " + v.Owner.String()
		}
	}
	switch v.Code {
	case name.PrivateShadowsPublic:
		return text + ": the private zone " + v.ShadowedBy.Domain + " of " + v.ShadowedBy.Owner.String() + " answers, and hides the public answer."
	case name.ResolvesPublic:
		return text + ": a public address, although the Network has an Endpoint of that Gateway."
	}
	return text + "."
}
