// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/snapshot"
)

// socketSet is what listens on one address of a stack.
type socketSet struct {
	resolver bool                 // of a Network, on ports of its own
	ports    map[uint16]io.Closer // what an Endpoint or a Gateway publishes, by port
	closers  []io.Closer
	release  func()
}

func (s *socketSet) close() {
	for _, c := range s.closers {
		_ = c.Close() // a listener that is closed twice is closed
	}
	for _, c := range s.ports {
		_ = c.Close()
	}
	s.release()
}

// open makes st own a.
func open(st *stack.Stack, a netip.Addr) (*socketSet, error) {
	if err := st.AddAddress(a); err != nil {
		return nil, err
	}
	return &socketSet{ports: map[uint16]io.Closer{}, release: func() { _ = st.RemoveAddress(a) }}, nil
}

// publish listens on ports of a, as run serves them, and on no others. Ports that
// stay published are not touched.
func (s *socketSet) publish(st *stack.Stack, a netip.Addr, ports map[uint16]snapshot.Components, run func(net.Listener)) error {
	for port, l := range s.ports {
		if _, ok := ports[port]; !ok {
			_ = l.Close() // nothing more comes of it
			delete(s.ports, port)
		}
	}
	var errs []error
	for port := range ports {
		if s.ports[port] != nil {
			continue
		}
		l, err := st.ListenTCP(netip.AddrPortFrom(a, port))
		if err != nil {
			errs = append(errs, err) // to be tried again with the next change
			continue
		}
		s.ports[port] = l
		run(l)
	}
	return errors.Join(errs...)
}

// endpointPorts is what an Endpoint listens on.
var endpointPorts = map[uint16]snapshot.Components{flow.EndpointPort: {snapshot.ComponentGateway}}

// published is what the hub has at an address of its own: an Endpoint, a node
// of a Gateway, or the interface of its outbound integration, where nothing
// listens.
func published(i *snapshot.Interface) (ports map[uint16]snapshot.Components, own bool) {
	switch {
	case i.Endpoint != nil:
		return endpointPorts, true
	case i.Gateway == nil:
		return nil, false
	case isNode(i):
		return i.Gateway.PrivatePorts, true
	}
	return nil, true
}

// isNode tells a node of a Gateway from its interface for outbound integration.
func isNode(i *snapshot.Interface) bool {
	return i.Gateway != nil && slices.Contains(i.Gateway.Nodes, i)
}

// applySockets listens on the addresses of Endpoints and Gateways and on the
// resolver's, and stops where they are gone.
func (h *hub) applySockets(n *snapshot.Network) error {
	want := map[netip.Addr]map[uint16]snapshot.Components{}
	resolver := map[netip.Addr]bool{}
	for a, i := range n.Interfaces {
		if ports, own := published(i); own {
			want[a] = ports
		}
	}
	for _, a := range n.Resolver {
		want[a], resolver[a] = nil, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for a, s := range h.sockets {
		if _, ok := want[a]; !ok || s.resolver != resolver[a] {
			s.close()
			delete(h.sockets, a)
		}
	}
	var errs []error
	for a, ports := range want {
		if err := h.listen(a, ports, resolver[a]); err != nil {
			errs = append(errs, fmt.Errorf("listen on %s in Network/%s: %w", a, h.name, err))
		}
	}
	return errors.Join(errs...)
}

// listen brings the sockets of one address to what is wanted there.
func (h *hub) listen(a netip.Addr, ports map[uint16]snapshot.Components, resolver bool) error {
	s := h.sockets[a]
	if s == nil {
		var err error
		if s, err = open(h.stack, a); err != nil {
			return err
		}
		if s.resolver = resolver; resolver {
			if err := h.listenResolver(s, a); err != nil {
				s.close() // to be tried again with the next change
				return err
			}
		}
		h.sockets[a] = s
	}
	return s.publish(h.stack, a, ports, func(l net.Listener) {
		h.wait.Go(func() { serve(h.f, l, h.flows) })
	})
}

// applySockets listens on the published ports of the Gateways' public
// addresses.
func (g *segment) applySockets(s *snapshot.Snapshot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a, set := range g.sockets {
		if s.Internet.Gateways[a] == nil {
			set.close()
			delete(g.sockets, a)
		}
	}
	var errs []error
	for a, gw := range s.Internet.Gateways {
		set := g.sockets[a]
		if set == nil {
			var err error
			if set, err = open(g.stack, a); err != nil {
				errs = append(errs, fmt.Errorf("public address %s of Gateway/%s: %w", a, gw.Name, err))
				continue
			}
			g.sockets[a] = set
		}
		err := set.publish(g.stack, a, gw.Ports(a), func(l net.Listener) {
			g.wait.Go(func() { serve(g.f, l, g.flows) })
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("public address %s of Gateway/%s: %w", a, gw.Name, err))
		}
	}
	return errors.Join(errs...)
}
