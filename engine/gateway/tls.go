// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

var errNotVouched = errors.New("gateway: a handshake on a connection without origin")

// certificate chooses the certificate for a handshake. A name that is not
// served gets the one for the execute-api names, and it is the caller's to be
// content with it; but where several Gateways share an address and none serves
// the name, the handshake is refused.
func (e *Engine) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, ok := h.Conn.(*vouched)
	if !ok {
		return nil, errNotVouched
	}
	s := e.snapshot.Load()
	g, endpoint := gateway(s, c.origin, h.ServerName)
	if g == nil {
		return nil, nil // the alert is unrecognized_name
	}
	name, _ := request.Certificate(s, g, endpoint, h.ServerName)
	cert, err := e.o.Certificate(name)
	if err != nil {
		return nil, fmt.Errorf("gateway: the certificate for %s: %w", name, err)
	}
	return cert, nil
}

// serving finds the Gateway, other than by its address, whose certificate is
// good for name. Names are looked through in order, so that all connections
// find the same one.
func serving(s *snapshot.Snapshot, name string) *snapshot.Gateway {
	if name == "" {
		return nil
	}
	names := make([]string, 0, len(s.Gateways))
	var region *snapshot.Gateway
	for n, g := range s.Gateways {
		if request.Find(g, name) != nil {
			return g
		}
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if _, ok := request.Certificate(s, s.Gateways[n], nil, name); ok && region == nil {
			region = s.Gateways[n]
		}
	}
	return region
}
