// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot"
)

// Challenge answers the challenges of ACME (RFC 8555), by which an authority
// finds out whether a name is served here.
type Challenge interface {
	// TLSALPN returns the certificate for a handshake that offers acme-tls/1
	// alone (RFC 8737).
	TLSALPN(name string) (*tls.Certificate, bool)
	// HTTP01 returns what stands at a token's path under a host.
	HTTP01(host, token string) (keyAuth string, ok bool)
}

const (
	protocolACME = "acme-tls/1"
	pathACME     = "/.well-known/acme-challenge/"
)

// challenging reports whether a handshake is a challenge.
func (e *Engine) challenging(h *tls.ClientHelloInfo) bool {
	return e.o.Challenge != nil && len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == protocolACME
}

// challenged answers a handshake that is a challenge. Nothing is served on the
// connection. At a real socket the groups of the Gateway that the name tells are
// asked first, as for everybody else.
func (e *Engine) challenged(h *tls.ClientHelloInfo, c *vouched) (*tls.Config, error) {
	s := e.snapshot.Load()
	g, _, shared := gateway(s, c.origin, h.ServerName)
	if shared {
		if g == nil {
			return nobody, nil
		}
		if v := request.Admitted(s, g, snapshot.ComponentGateway, c.origin); !v.Allowed() {
			c.reset()
			return nil, fmt.Errorf("%w: %s", errNotAdmitted, v.Code)
		}
	}
	cert, ok := e.o.Challenge.TLSALPN(strings.ToLower(h.ServerName))
	if !ok {
		return nobody, nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protocolACME},
		Certificates: []tls.Certificate{*cert}, SessionTicketsDisabled: true,
	}, nil
}

// challenge answers a request in clear that is a challenge, before anything but
// the groups is asked: the authority follows no redirect that would need the
// certificate. Whoever the groups of the Gateway that the Host tells do not admit
// to a real socket gets no answer here, nor one further on.
func (e *Engine) challenge(x *exchange.Exchange) bool {
	r := &x.Request
	if e.o.Challenge == nil || x.TLS != nil || r.Method != "GET" && r.Method != "HEAD" {
		return false
	}
	token, ok := strings.CutPrefix(r.Path, pathACME)
	if !ok || token == "" {
		return false
	}
	s := e.snapshot.Load()
	if g, _, shared := gateway(s, x.Origin, r.Host); shared && (g == nil || !e.state(x).admit(s, g, x.Origin)) {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	auth, ok := e.o.Challenge.HTTP01(strings.ToLower(strings.TrimSuffix(host, ".")), token)
	if !ok {
		return false
	}
	x.Reply(200, challengeFields, []byte(auth))
	return true
}

var challengeFields = []exchange.Field{{Name: "Content-Type", Value: "application/octet-stream"}}
