// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// World is what questions are asked about: a set of resources and what it
// compiles to.
type World struct {
	// Set is the admitted resources: with ids and addresses.
	Set    *model.Set
	Result *compile.Result
	// Try admits and compiles a changed set. It must not touch the running
	// configuration.
	Try func(model.Change) (*World, error)
	// Evidence is where verdicts come from: "model" for manifests alone,
	// "enforced" when the engines run on this very snapshot.
	Evidence string
	// LinkUp tells whether a Link carries packets; nil where that is unknown.
	LinkUp func(*snapshot.Link) bool
	// Assumed lists what is taken for granted about tunnels and backends.
	Assumed []string
	// Now is the time of the request.
	Now time.Time
}

// Snapshot is the compiled form of the World.
func (w *World) Snapshot() *snapshot.Snapshot { return w.Result.Snapshot }

// linkDown tells whether a Link is known to carry nothing.
func (w *World) linkDown(l *snapshot.Link) bool { return w.LinkUp != nil && !w.LinkUp(l) }

// source is who asks, as the decide functions know them.
type source struct {
	flow   flow.Source
	origin snapshot.Origin
	// name is the canonical spelling of the source.
	name string
	// net is whose resolver is asked; nil for the public view.
	net *snapshot.Network
}

// defaultInternet is the caller on the internet when none is named.
var defaultInternet = netip.MustParseAddr("203.0.113.10")

// parseSource finds who is meant by text.
func parseSource(s *snapshot.Snapshot, text string) (source, error) {
	kind, rest, _ := strings.Cut(text, "/")
	switch kind {
	case "host":
		i := s.Hosts[rest]
		if i == nil {
			return source{}, notFound("from", "host", rest, keys(s.Hosts))
		}
		return source{
			flow: flow.FromInterface(i), name: text, net: i.Network,
			origin: snapshot.Origin{Network: i.Network.Name, Host: rest},
		}, nil
	case "link":
		name, addr, given := strings.Cut(rest, "/")
		l := s.Links[name]
		if l == nil {
			return source{}, notFound("from", "link", name, keys(s.Links))
		}
		a := l.Prefixes[0].Addr().Next()
		if given {
			var err error
			if a, err = netip.ParseAddr(addr); err != nil {
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
			if a, err = netip.ParseAddr(rest); err != nil {
				return source{}, invalid("from", "%q: the part after internet/ is not an IP address", text)
			}
		}
		return source{flow: flow.FromInternet(a), name: "internet/" + a.String()}, nil
	case "gateway", "selfhosted":
		return source{}, invalid("from", "%q: questions from a %s are not answered by this version; use host/NAME, link/NAME[/IP] or internet[/IP]", text, kind)
	}
	return source{}, invalid("from", "%q is no source; use host/NAME, link/NAME[/IP] or internet[/IP]", text)
}

func invalid(field, format string, args ...any) error {
	return &model.Error{Kind: model.Invalid, Op: "explain", Field: field, Msg: fmt.Sprintf(format, args...)}
}

func notFound(field, what, name string, have []string) error {
	msg := fmt.Sprintf("there is no %s %q that is ready", what, name)
	if len(have) > 0 && len(have) <= 20 {
		msg += "; there are " + strings.Join(have, ", ")
	}
	return &model.Error{Kind: model.NotFound, Op: "explain", Field: field, Msg: msg}
}
