// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h3"
	"postern.dev/postern/snapshot"
)

var (
	errNotVouched  = errors.New("gateway: a handshake on a connection without origin")
	errNotAdmitted = errors.New("gateway: the connection is not admitted to the Gateway that it named")
)

// nobody is the configuration of a handshake that is refused: without a
// certificate the alert is unrecognized_name. Nor is a session taken up again.
var nobody = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}

// greet decides over a handshake. It is asked in every one, also where a session
// is taken up again, so that nothing is served on the strength of an older
// handshake. A name that is not served gets the certificate for the execute-api
// names, and it is the caller's to be content with it; but where nothing but a
// name tells who is called and none serves it, the handshake is refused.
func (e *Engine) greet(h *tls.ClientHelloInfo) (*tls.Config, error) {
	c, ok := voucher(h)
	if !ok {
		return nil, errNotVouched
	}
	if !c.origin.QUIC && e.challenging(h) {
		return e.challenged(h, c)
	}
	s := e.snapshot.Load()
	g, endpoint, shared := gateway(s, c.origin, h.ServerName)
	if g == nil && c.origin.ServedBy != "" {
		// There is no configuration yet, and it is told so.
		c.component = snapshot.ComponentGateway
		var err error
		c.certificate, err = e.o.Certificate("")
		return nil, err
	}
	if g == nil {
		return nobody, nil
	}
	component, ok := request.Component(g, request.Listens(s, g, c.origin), h.ServerName)
	if !ok || !e.able(component) || c.origin.QUIC && component != snapshot.ComponentGateway {
		return nobody, nil
	}
	if shared {
		// A kernel has accepted already; the groups judge as soon as it is known
		// whose they are, and what they drop is reset.
		if v := request.Admitted(s, g, component, c.origin); !v.Allowed() {
			c.reset()
			return nil, fmt.Errorf("%w: %s", errNotAdmitted, v.Code)
		}
	}
	c.component, c.gateway = component, g.Name
	name, _ := request.Certificate(s, g, endpoint, h.ServerName)
	var err error
	if c.certificate, err = e.o.Certificate(name); err != nil {
		return nil, fmt.Errorf("gateway: the certificate for %s: %w", name, err)
	}
	offers := e.offers(component, endpoint)
	if d := request.Authority(g, endpoint, h.ServerName); d != nil && component == snapshot.ComponentGateway {
		c.domain, c.bundle = d.Name, d.ClientCA.Bundle
		return e.mutual(d, offers), nil
	}
	if e.serves(component) != nil {
		return e.asking, nil
	}
	if len(offers) == 1 {
		return e.plain, nil
	}
	return nil, nil // the engine's own
}

// ask is the configuration for the components that another serves, who judges a
// certificate that the caller shows. Here it need not be good.
func ask(own *tls.Config) *tls.Config {
	cfg := own.Clone()
	cfg.GetConfigForClient, cfg.SessionTicketsDisabled = nil, true
	cfg.ClientAuth = tls.RequestClientCert
	return cfg
}

// chosen is the certificate that greet chose.
func chosen(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c, ok := voucher(h); ok {
		return c.certificate, nil
	}
	return nil, errNotVouched
}

// voucher is what vouches for the connection of a handshake.
func voucher(h *tls.ClientHelloInfo) (*vouched, bool) {
	if c, ok := h.Conn.(*vouched); ok {
		return c, true
	}
	c, ok := h3.Accepted(h.Context()).(*vouched)
	return c, ok
}

// mutual is the configuration for a Domain that asks for client certificates.
// Sessions are not taken up again: a ticket would carry a certificate from one
// Domain to another, and past a change of its authorities.
func (e *Engine) mutual(d *snapshot.Domain, offers []string) *tls.Config {
	cfg := e.tls.Clone()
	cfg.GetConfigForClient, cfg.SessionTicketsDisabled, cfg.NextProtos = nil, true, offers
	if cfg.ClientCAs = d.ClientCA.Pool; cfg.ClientCAs == nil {
		cfg.ClientCAs = x509.NewCertPool() // nil would be the system's
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if d.ClientCA.Required {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg
}

// show notes the certificate that the caller has shown.
func (st *state) show(t *exchange.TLS, c *vouched) {
	st.chain, st.bundle = nil, ""
	if c.domain == "" || len(t.VerifiedChains) == 0 {
		return
	}
	st.chain, st.bundle = t.PeerCertificates, c.bundle
	st.cert = request.ClientCert{Domain: c.domain, Subject: t.PeerCertificates[0].Subject.String()}
}

// certificate is what the caller has shown, as long as the Domain's authorities
// still vouch for it.
func (st *state) certificate(g *snapshot.Gateway) *request.ClientCert {
	if len(st.chain) == 0 {
		return nil
	}
	h := g.Hosts[st.cert.Domain]
	if h == nil || h.Domain == nil || h.Domain.ClientCA == nil {
		return nil
	}
	if ca := h.Domain.ClientCA; ca.Bundle != st.bundle {
		if request.Vouch(ca.Pool, st.chain, time.Time{}) != nil {
			return nil
		}
		st.bundle = ca.Bundle
	}
	return &st.cert
}

// serving finds the Gateway, other than by its address, whose certificate is
// good for name: the one whose name it is before the one with a wildcard over
// it, and of several for the execute-api names the first by name, so that all
// connections find the same one.
func serving(s *snapshot.Snapshot, name string) *snapshot.Gateway {
	if name == "" {
		return nil
	}
	var wild, region *snapshot.Gateway
	for _, g := range s.Gateways {
		switch h := request.Find(g, name); {
		case h == nil:
		case h.Name[0] != '*':
			return g
		default:
			wild = g
		}
	}
	if wild != nil {
		return wild
	}
	for _, g := range s.Gateways {
		if _, ok := request.Certificate(s, g, nil, name); ok && (region == nil || g.Name < region.Name) {
			region = g
		}
	}
	return region
}
