// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package control is the management plane: the API through which resources
// are read and changed, questions are asked and tokens are made.
package control

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/fleet"
	"postern.dev/postern/control/pki"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/decide/limit"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// World is what is being served, as one consistent whole.
type World struct {
	Set        *model.Set
	Snapshot   *snapshot.Snapshot
	Conditions map[model.Ref][]model.Condition
}

// Options are what a Server works with. A function that is nil stands for
// something that this server does not do; calls that need it are refused as
// unavailable.
type Options struct {
	Registry *registry.Registry
	// Base is the base domain, such as postern.internal.
	Base string
	// HubHost is the host name or address at which the Networks' hubs are
	// reached over UDP; empty if they are not offered.
	HubHost string
	// PublicPorts are where ports that Gateways publish are reached from the
	// internet, of those that are moved.
	PublicPorts map[uint16]uint16
	// Certificate returns the certificate for a name that is served.
	Certificate func(name string) (*tls.Certificate, error)
	// Loopback returns the certificate for callers that name no host.
	Loopback func() (*tls.Certificate, error)
	// Explain answers a question about what is served.
	Explain func(context.Context, World, answer.Question) (answer.Answer, error)
	// Matrix tells which components of a Gateway are reached from where: from
	// every Host, if all is set.
	Matrix func(ctx context.Context, w World, gateway string, all bool) (answer.Matrix, error)
	// Reach lists the callers that a change would newly let in, and those it
	// would shut out.
	Reach func(ctx context.Context, before, after *model.Set) (gains, losses []answer.Opening, err error)
	// Conditions are what there would be to say of resources if they were served.
	Conditions func(*model.Set) map[model.Ref][]model.Condition
	// Verify runs every ReachabilityTest.
	Verify func(context.Context, World) ([]wire.TestResult, error)
	// Request finds a request that has happened, with its explanation.
	Request func(ctx context.Context, id string) (wire.Request, error)
	// Metrics writes what the process tells Prometheus beside what is known of
	// self-hosted gateways.
	Metrics func(*exposition.Text)
	// Limits returns what counts the requests of keys, by the names that a snapshot
	// gives it. It may be nil.
	Limits func() map[string]*limit.Meter
	// Authority signs what self-hosted gateways are sent, and enrols them; neither
	// is done if it is nil.
	Authority *pki.Authority
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	Log *slog.Logger
}

// Server is the management API.
type Server struct {
	opts    Options
	routes  []route
	mux     *http.ServeMux
	slots   chan struct{} // one for each request in progress
	large   chan struct{} // one for each large body being worked on
	heavy   chan struct{} // one for each question being answered
	openapi []byte
	// management and configuration are what Gateways hand over.
	management, configuration *handed
	// fleet is the self-hosted gateways.
	fleet *fleet.Fleet
	index atomic.Pointer[tokenIndex]
}

const (
	// maxRequests bounds the requests in progress.
	maxRequests = 256
	// maxLarge bounds the large bodies in memory.
	maxLarge = 4
	// maxHeavy bounds the questions being answered.
	maxHeavy = 2
)

// New returns the management API on a registry.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: o, routes: routes(), mux: http.NewServeMux(),
		slots: make(chan struct{}, maxRequests), large: make(chan struct{}, maxLarge), heavy: make(chan struct{}, maxHeavy),
		management: newHanded(o.Log), configuration: newHanded(o.Log),
	}
	var sign func([]byte) ([]byte, error)
	if o.Authority != nil {
		sign = o.Authority.Sign
	}
	s.fleet = fleet.New(fleet.Options{Sign: sign, Judge: s.judge, Standing: s.standing, Now: o.Now, Log: o.Log})
	s.mux.HandleFunc("GET "+configuration.Path, s.serveStream)
	s.mux.HandleFunc("POST "+configuration.EnrolPath, s.serveEnrol)
	s.mux.HandleFunc("/subscriptions/", s.servePoll)
	for _, rt := range s.routes {
		s.mux.Handle(rt.method+" "+rt.path, s.serveRoute(rt))
	}
	var err error
	if s.openapi, err = document(s.routes); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) world() (World, *registry.Published) {
	p := s.opts.Registry.Published()
	return World{Set: p.Set(), Snapshot: p.Snapshot, Conditions: p.Conditions}, p
}
