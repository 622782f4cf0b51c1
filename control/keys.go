// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

// createGatewayToken makes a token for a self-hosted gateway, and its keys if it
// has none. The gateway has to exist.
func (c *call) createGatewayToken(r token.Request, key string, enrol bool) (any, error) {
	name, ok := strings.CutPrefix(r.Subject, "selfhosted/")
	if !ok {
		_, _, err := token.NewGateway(r, token.Keys{}, token.Primary, c.opts.Now()) // tells what is wrong
		return nil, err
	}
	var t token.Token
	var value model.Secret
	var g *model.SelfHostedGateway
	if enrol && c.opts.Authority == nil {
		return nil, unavailable("enrol self-hosted gateways")
	}
	if enrol && key != "" {
		return nil, &model.Error{Kind: model.Invalid, Field: "enrol", Msg: "an enrolment is signed with no key; leave one of the two out"}
	}
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		ref := model.Ref{Kind: model.KindSelfHosted, Name: name}
		if g, ok = model.Get[*model.SelfHostedGateway](h.Set, name); !ok {
			return nil, absent(ref)
		}
		edit := &registry.Edit{}
		keys, ok, err := keysOf(h, name)
		if err != nil && !enrol { // which needs none
			return nil, err
		}
		if !ok && !enrol {
			if keys, err = token.NewKeys(); err != nil {
				return nil, err
			}
			if err := keepKeys(edit, h, g, keys); err != nil {
				return nil, err
			}
		}
		if enrol {
			t, value, err = token.NewEnrolment(r, g.Status.ID, c.opts.Now())
		} else {
			t, value, err = token.NewGateway(r, keys, cmp.Or(key, token.Primary), c.opts.Now())
		}
		if err != nil {
			return nil, err
		}
		t.Of = g.Status.ID
		data, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		edit.Puts = append(edit.Puts, store.Put{Key: tokenKey(t.ID), IfRevision: store.Any, Data: data})
		return edit, nil
	})
	if err != nil {
		return nil, err
	}
	settings, err := c.gatewaySettings(g)
	if err != nil {
		return nil, err
	}
	settings.Enrol = enrol
	c.status = http.StatusCreated
	return wire.CreatedToken{Token: shown(t), Value: value.Reveal(), Settings: settings}, nil
}

// keepKeys stores the keys of a SelfHostedGateway. The tokens that no key signs
// any more go.
func keepKeys(e *registry.Edit, h *registry.Head, g *model.SelfHostedGateway, keys token.Keys) error {
	name := g.Metadata.Name
	if err := putKeys(e, g, keys); err != nil {
		return err
	}
	was, had, err := keysOf(h, name)
	if err != nil {
		had = false // they are replaced
	}
	subject := []byte(`"selfhosted/` + name + `"`)
	for id, data := range h.Documents(registry.KindToken) {
		if !bytes.Contains(data, subject) {
			continue // most are of others, and there may be thousands
		}
		var t token.Token
		if err := json.Unmarshal(data, &t); err != nil {
			// Nobody can show it; it would be in the way for ever.
			e.Deletes = append(e.Deletes, store.Delete{Key: tokenKey(id), IfRevision: store.Any})
			continue
		}
		if t.Role == token.SelfHosted && t.Subject == "selfhosted/"+name && (t.Of != g.Status.ID || t.Key != token.Certificate && !t.Once && (!had || was.Sum(t.Key) != keys.Sum(t.Key))) {
			e.Deletes = append(e.Deletes, store.Delete{Key: tokenKey(t.ID), IfRevision: store.Any})
		}
	}
	return nil
}

// revokeAccess ends all that a SelfHostedGateway can authenticate with: what is
// recorded of it, and both keys. One that does not exist any more has nothing
// left to show, and may have records.
func revokeAccess(c *call) (any, error) {
	name := c.name()
	var out wire.RevokedAccess
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		out = wire.RevokedAccess{Name: name}
		edit := &registry.Edit{}
		subject := []byte(`"selfhosted/` + name + `"`)
		for id, data := range h.Documents(registry.KindToken) {
			if !bytes.Contains(data, subject) {
				continue
			}
			var t token.Token
			switch err := json.Unmarshal(data, &t); {
			case err != nil:
				out.Tokens++ // what cannot be read is good for nothing else
			case t.Role != token.SelfHosted || t.Subject != "selfhosted/"+name:
				continue
			case t.Once:
				out.Enrolments++
			case t.Key == token.Certificate:
				out.Certificates++
			default:
				out.Tokens++
			}
			edit.Deletes = append(edit.Deletes, store.Delete{Key: tokenKey(id), IfRevision: store.Any})
		}
		g, ok := model.Get[*model.SelfHostedGateway](h.Set, name)
		if !ok && len(edit.Deletes) == 0 {
			return nil, absent(model.Ref{Kind: model.KindSelfHosted, Name: name})
		}
		if _, had := h.Document(registry.KindGatewayKey, name); !ok || !had {
			return edit, nil
		}
		keys, err := token.NewKeys()
		if err != nil {
			return nil, err
		}
		return edit, putKeys(edit, g, keys)
	})
	return out, err
}

// putKeys stores the keys of a SelfHostedGateway.
func putKeys(e *registry.Edit, g *model.SelfHostedGateway, keys token.Keys) error {
	data, err := json.Marshal(gatewayKeys{ID: g.Status.ID, Keys: keys})
	if err != nil {
		return err
	}
	e.Puts = append(e.Puts, store.Put{Key: store.Key{Kind: registry.KindGatewayKey, Name: g.Metadata.Name}, IfRevision: store.Any, Data: data})
	return nil
}

// rotateKey makes one key of a SelfHostedGateway anew. Tokens that it signed are
// no longer good; those of the other stay.
func rotateKey(c *call) (any, error) {
	var in wire.Rotation
	if err := c.read(&in); err != nil {
		return nil, err
	}
	ref := model.Ref{Kind: model.KindSelfHosted, Name: c.name()}
	out := wire.Rotated{Name: ref.Name, Key: in.Key}
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		g, ok := model.Get[*model.SelfHostedGateway](h.Set, ref.Name)
		if !ok {
			return nil, absent(ref)
		}
		keys, ok, err := keysOf(h, ref.Name)
		if out.Both = err != nil; out.Both || !ok {
			keys, err = token.NewKeys()
		}
		if err != nil {
			return nil, err
		}
		if keys, err = keys.Rotate(in.Key); err != nil {
			return nil, err
		}
		edit := &registry.Edit{}
		err = keepKeys(edit, h, g, keys)
		out.Revoked = len(edit.Deletes)
		return edit, err
	})
	return out, err
}

// gatewaySettings are the settings with which a self-hosted gateway reaches its
// Gateway from where it stands.
func (c *call) gatewaySettings(g *model.SelfHostedGateway) (*wire.GatewaySettings, error) {
	out := &wire.GatewaySettings{Name: g.Metadata.Name, From: "selfhosted/" + g.Metadata.Name, StandsFor: g.Spec.Attach == ""}
	ways := configuration.Ways(g.Spec.Gateway, c.opts.Base)
	var links []wire.ControlLink
	for _, w := range ways {
		links = append(links, wire.ControlLink{Protocol: "v2", Host: w.Host, Port: int(w.Port)})
	}
	for _, w := range ways[1:] {
		links = append(links, wire.ControlLink{Protocol: "v1", Host: w.Host, Port: int(w.Port)})
	}
	type place struct {
		host string
		port int
	}
	asked := map[place]answer.Answer{}
	for _, l := range links {
		at := place{l.Host, l.Port}
		a, ok := asked[at]
		if !ok {
			var err error
			if a, err = c.explainLink(out.From, l); err != nil {
				return nil, err
			}
			asked[at] = a
		}
		l.Works, l.Code = a.Verdict == answer.Allow, a.Code
		if !l.Works && a.DecidedBy >= 0 && a.DecidedBy < len(a.Hops) {
			l.Reason = a.Hops[a.DecidedBy].Reason
		}
		out.Links = append(out.Links, l)
	}
	resource := configuration.ResourcePath("subscription", "group", g.Spec.Gateway) + "?api-version=" + configuration.APIVersion
	reached := out.Links
	if g.Spec.Attach == "" {
		reached = c.moved(reached)
	}
	out.V2 = endpoint(reached, "v2", "")
	out.V1 = endpoint(reached, "v1", resource)
	return out, nil
}

// moved are links as the internet has them: at the ports that published ones were
// moved to.
func (c *call) moved(links []wire.ControlLink) []wire.ControlLink {
	links = slices.Clone(links)
	for i, l := range links {
		if port, ok := c.opts.PublicPorts[uint16(l.Port)]; ok {
			links[i].Port = int(port)
		}
	}
	return links
}

// explainLink asks whether a gateway gets through to its control plane.
func (c *call) explainLink(from string, l wire.ControlLink) (answer.Answer, error) {
	if c.opts.Explain == nil {
		return answer.Answer{Verdict: answer.Unknown, DecidedBy: -1}, nil
	}
	w, _ := c.world()
	return c.opts.Explain(context.WithoutCancel(c.r.Context()), w, answer.Question{From: from, URL: "https://" + hostPort(l.Host, l.Port) + "/ServiceStatus"})
}

// hostPort is a host with its port, but for that of https.
func hostPort(host string, port int) string {
	if port == 443 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// endpoint is the setting config.service.endpoint for the first link of a
// protocol that works; if none does, for the first where something listens, which
// a rule can open.
func endpoint(links []wire.ControlLink, protocol, path string) string {
	worth := func(l *wire.ControlLink) int {
		switch {
		case l.Works:
			return 2
		case protocol == "v1" && l.Code != "" && l.Code != "listen/refused":
			return 1 // v2 goes from one to the next by itself
		}
		return 0
	}
	var first *wire.ControlLink
	for i := range links {
		l := &links[i]
		if l.Protocol == protocol && (first == nil || worth(l) > worth(first)) {
			first = l
		}
	}
	at := hostPort(first.Host, first.Port)
	if path == "" {
		return at
	}
	return "https://" + at + path
}
