// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// source is who asks, as the decide functions know them.
type source struct {
	flow   flow.Source
	origin snapshot.Origin
	// name is the canonical spelling of the source.
	name string
	// net is whose resolver is asked; nil for the public view.
	net *snapshot.Network
	// broken is the resource that was meant but did not compile.
	broken model.Ref
	// selfHosted is the self-hosted gateway that calls, if it is one, and
	// standsFor says that its address on the internet is not known.
	selfHosted *model.SelfHostedGateway
	standsFor  bool
	// linkOnly says that it is asked about for its control link alone.
	linkOnly bool
}

// defaultInternet is the caller on the internet when none is named.
var defaultInternet = netip.MustParseAddr("203.0.113.10")

// parseSource finds who is meant by text.
func parseSource(w *World, text string) (source, error) {
	s := w.Snapshot()
	kind, rest, _ := strings.Cut(text, "/")
	switch kind {
	case "host":
		i := s.Hosts[rest]
		if i == nil {
			return w.absent(text, model.KindHost, rest, keys(s.Hosts))
		}
		return source{
			flow: flow.FromInterface(i), name: text, net: i.Network,
			origin: snapshot.Origin{Network: i.Network.Name, Host: rest},
		}, nil
	case "link":
		name, addr, given := strings.Cut(rest, "/")
		l := s.Links[name]
		if l == nil {
			return w.absent(text, model.KindLink, name, keys(s.Links))
		}
		a := firstUsable(l.Prefixes[0])
		if given {
			var err error
			if a, err = parseAddr(addr); err != nil {
				return source{}, invalid("from", "%q: the part after the Link's name is not an IP address", text)
			}
		}
		return source{
			flow: flow.FromLink(l, a), name: "link/" + name + "/" + a.String(),
			origin: snapshot.Origin{Link: name},
		}, nil
	case "internet":
		a := defaultInternet
		if rest != "" {
			var err error
			if a, err = parseAddr(rest); err != nil {
				return source{}, invalid("from", "%q: the part after internet/ is not an IP address", text)
			}
		}
		return source{flow: flow.FromInternet(a), name: "internet/" + a.String()}, nil
	case "gateway":
		g := s.Gateways[rest]
		if g == nil {
			return w.absent(text, model.KindGateway, rest, keys(s.Gateways))
		}
		return fromGateway(g), nil
	case "selfhosted":
		return fromSelfHosted(w, text, rest)
	}
	return source{}, invalid("from", "%q is no source; use host/NAME, link/NAME[/IP], gateway/NAME, selfhosted/NAME[/IP] or internet[/IP]", text)
}

// fromGateway is a Gateway that calls: from its node, or its interface for
// outbound integration, or else its public address.
func fromGateway(g *snapshot.Gateway) source {
	src := source{name: "gateway/" + g.Name, origin: snapshot.Origin{Gateway: g.Name}}
	if is := g.Interfaces(); len(is) > 0 {
		src.flow, src.net = flow.FromInterface(is[0]), is[0].Network
		src.origin.Network = src.net.Name
		return src
	}
	src.flow, _ = flow.Dials(g, nil)
	return src
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err
}

// firstUsable is the first address of a prefix that a machine may have.
func firstUsable(p netip.Prefix) netip.Addr {
	if p.Bits() >= p.Addr().BitLen()-1 {
		return p.Addr()
	}
	return p.Addr().Next()
}

// absent tells a source that is there but did not compile from one that is not
// there.
func (w *World) absent(text string, kind model.Kind, name string, have []string) (source, error) {
	if r := (model.Ref{Kind: kind, Name: name}); w.Set.Has(r) {
		return source{name: text, broken: r}, nil
	}
	msg := fmt.Sprintf("there is no %s %q", kind, name)
	best, least := "", maxTypos+1
	for _, h := range have {
		if d := distance(strings.ToLower(name), h, least); d < least {
			best, least = h, d
		}
	}
	if best != "" && least < len(best) {
		word, _, _ := strings.Cut(text, "/")
		msg += fmt.Sprintf("; did you mean %s/%s?", word, best)
	} else if len(have) > 0 && len(have) <= 20 {
		msg += "; there are " + strings.Join(have, ", ")
	}
	return source{}, &model.Error{Kind: model.NotFound, Op: "explain", Field: "from", Msg: msg}
}

func invalid(field, format string, args ...any) error {
	return &model.Error{Kind: model.Invalid, Op: "explain", Field: field, Msg: fmt.Sprintf(format, args...)}
}
