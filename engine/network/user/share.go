// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"sync"

	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/model"
)

// The shares of the entries of a flow table: of one Host, of one Link, of one
// Gateway, which has as many ports, and of one Network on the internet segment. A
// flow has two entries.
const (
	hostShare    = 8
	linkShare    = 4
	gatewayShare = 2
	networkShare = 4
)

// shares are what the openers of flows may hold of the flow tables.
type shares struct {
	mu sync.Mutex
	m  map[model.Ref]*conntrack.Share
}

// of is the share of who opened a flow, of tables of that many entries.
func (s *shares) of(o *origin, entries int) *conntrack.Share {
	who, part := model.Ref{Kind: model.KindLink, Name: o.link}, linkShare
	switch {
	case o.host != "":
		who, part = model.Ref{Kind: model.KindHost, Name: o.host}, hostShare
	case o.gateway != "":
		who, part = model.Ref{Kind: model.KindGateway, Name: o.gateway}, gatewayShare
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.m[who]
	if one == nil {
		if s.m == nil {
			s.m = map[model.Ref]*conntrack.Share{}
		}
		one = conntrack.NewShare(max(entries/part, 2))
		s.m[who] = one
	}
	return one
}

// forget forgets the shares of who holds nothing.
func (s *shares) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for who, one := range s.m {
		if one.Held() == 0 {
			delete(s.m, who)
		}
	}
}
