// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/limit"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
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
	// AsWritten says that there is no server to deploy anything, so that Stages
	// which follow an API serve it as it is written.
	AsWritten bool
	// LinkUp tells whether a Link carries packets; nil where that is unknown.
	LinkUp func(*snapshot.Link) bool
	// Probe tries whether a connection to a target of a backend comes about as g
	// would open it, at one of the addresses of a destination. The code is one of the
	// family backend, the reason one sentence, and seen what the caller is answered
	// where that is not the code's usual answer. It is asked for a question itself
	// and for nothing that is tried; nil where no server runs.
	Probe func(ctx context.Context, g *snapshot.Gateway, d *request.Destination, to netip.AddrPort) (code, reason string, seen *request.Response)
	// Lookup asks whoever the server asks for the name of a destination that Postern
	// does not hold, as g would before it dials. Without addresses the code is
	// dns/nxdomain, or empty where no answer came: then nothing is known. The reason
	// is one sentence. It is asked as Probe is, and also behind what stops a question.
	Lookup func(ctx context.Context, g *snapshot.Gateway, d *request.Destination) (addrs []netip.Addr, code, reason string)
	// Health tells what a Gateway's health probes found of a target, host:port,
	// of a Backend. It is asked as Probe is.
	Health func(gateway, backend, target string) (healthy, known bool, reason string)
	// Access tells what a self-hosted gateway can authenticate with; nil where no
	// server knows.
	Access func(selfHosted string) answer.Access
	// Meters tells what the requests of keys and Stages have used up, as the
	// snapshot counts them; nil where no server runs. To take from them uses
	// nothing up.
	Meters func(*snapshot.Snapshot) []*limit.Meter
	// Limited is what a request that has happened was refused by; zero if by no
	// limit. It is nil for questions about what would happen.
	Limited *Limited
	// Sockets says that the published ports of all Gateways are offered on real
	// sockets, at one address: who comes from the internet comes there.
	Sockets bool
	// Assumed lists what is taken for granted about tunnels and backends.
	Assumed []string
	// Now is the time of the request.
	Now time.Time
}

// Snapshot is the compiled form of the World.
func (w *World) Snapshot() *snapshot.Snapshot { return w.Result.Snapshot }

// dialling is the World whose server may dial more.
func (w *World) dialling(more []netip.Prefix) *World {
	next, result, s := *w, *w.Result, *w.Result.Snapshot
	s.Internet.Egress = append(slices.Clone(s.Internet.Egress), more...)
	result.Snapshot, next.Result = &s, &result
	next.Try = func(c model.Change) (*World, error) {
		tried, err := w.Try(c)
		if err != nil {
			return nil, err
		}
		return tried.dialling(more), nil
	}
	return &next
}

// linkDown tells whether a Link is known to carry nothing.
func (w *World) linkDown(l *snapshot.Link) bool { return w.LinkUp != nil && !w.LinkUp(l) }
