// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"net"
	"strings"

	"postern.dev/postern/engine/gateway/exchange"
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

// challenged answers a handshake that is a challenge. Nothing is served on the
// connection.
func (e *Engine) challenged(h *tls.ClientHelloInfo) (*tls.Config, bool) {
	if e.o.Challenge == nil || len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != protocolACME {
		return nil, false
	}
	c, ok := e.o.Challenge.TLSALPN(strings.ToLower(h.ServerName))
	if !ok {
		return nobody, true
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protocolACME},
		Certificates: []tls.Certificate{*c}, SessionTicketsDisabled: true,
	}, true
}

// challenge answers a request in clear that is a challenge, before anything else:
// the authority follows no redirect that would need the certificate.
func (e *Engine) challenge(x *exchange.Exchange) bool {
	r := &x.Request
	if e.o.Challenge == nil || x.TLS != nil || r.Method != "GET" && r.Method != "HEAD" {
		return false
	}
	token, ok := strings.CutPrefix(r.Path, pathACME)
	if !ok || token == "" {
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
