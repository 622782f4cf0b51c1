// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/control/fleet"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

const (
	// certificateLifetime is how long a gateway's certificate is good; it renews
	// it when a third is left.
	certificateLifetime = 30 * 24 * time.Hour
	// renewable is for how long a certificate that has ended can still be
	// renewed, and with nothing else: what ends a gateway's access is that its
	// record is deleted, not that it was switched off for a month.
	renewable = 90 * 24 * time.Hour
	// overlap is for how long a certificate is good once it was renewed: for who
	// did not get the answer, could not keep it, or shares the folder.
	overlap = 72 * time.Hour
	// maxCertificates bounds the records of one gateway's certificates.
	maxCertificates = 4096
	// maxEarly bounds them for certificates that are renewed long before they end.
	maxEarly = 16
)

// whoScheme begins the URI in a gateway's certificate: postern:selfhosted/NAME.
const whoScheme = "postern"

// sumOf tells apart two SelfHostedGateways of one name.
func sumOf(g *model.SelfHostedGateway) [sha256.Size]byte {
	return sha256.Sum256([]byte("postern gateway id\n" + g.Status.ID))
}

// shownCertificate is the certificate that the caller has shown in the handshake
// and whose key it has. Nothing else of it is proven.
func shownCertificate(r *http.Request) *x509.Certificate {
	state := r.TLS
	if state == nil {
		if h, ok := r.Context().Value(connKey{}).(*handedConn); ok {
			if t, ok := h.Conn.(*tls.Conn); ok {
				s := t.ConnectionState()
				state = &s
			}
		}
	}
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

// authenticateCertificate finds out whose certificate was shown.
func (s *Server) authenticateCertificate(r *http.Request, leaf *x509.Certificate) (fleet.Credential, error) {
	c, err := s.certified(leaf, s.opts.Now())
	if err != nil {
		return fleet.Credential{}, err
	}
	c.Gateway, c.Endpoint = gatewayOf(r.Host, s.opts.Base), endpointOf(r.Host, s.opts.Base)
	if rf := s.judge(c); rf != nil {
		return fleet.Credential{}, &refusedError{*rf, model.Unauthenticated}
	}
	return c, nil
}

// certified judges a certificate as it was at a time.
func (s *Server) certified(leaf *x509.Certificate, at time.Time) (fleet.Credential, error) {
	unknown := refused(model.Unauthenticated, configuration.RefuseToken, "the certificate is not good: it was revoked, or is none that this management plane has issued; enrol again with postern token create --role selfhosted --for NAME --enrol")
	if s.opts.Authority == nil {
		return fleet.Credential{}, unknown
	}
	if at.After(leaf.NotAfter) {
		return fleet.Credential{}, refused(model.Unauthenticated, configuration.RefuseExpired, "the certificate has ended at %s; renew it at %s", leaf.NotAfter.UTC().Format(time.RFC3339), configuration.EnrolPath)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: s.opts.Authority.Pool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != whoScheme {
		return fleet.Credential{}, unknown
	}
	name, ok := strings.CutPrefix(leaf.URIs[0].Opaque, "selfhosted/")
	h := s.opts.Registry.Head()
	g, exists := model.Get[*model.SelfHostedGateway](h.Set, name)
	id := token.CertificateID(leaf.Raw)
	data, recorded := h.Document(registry.KindToken, id)
	if !ok || !exists || !recorded {
		return fleet.Credential{}, unknown
	}
	var t token.Token
	if err := json.Unmarshal(data, &t); err != nil {
		return fleet.Credential{}, fmt.Errorf("token %s: %w", id, err)
	}
	if !t.RecordsCertificate(leaf.Raw) || t.Subject != "selfhosted/"+name || t.Of != g.Status.ID {
		return fleet.Credential{}, unknown
	}
	if !t.Replaced.IsZero() && !s.opts.Now().Before(t.Replaced) {
		return fleet.Credential{}, refused(model.Unauthenticated, configuration.RefuseExpired, "the certificate was renewed, and has ended at %s; show the newer one, or enrol again with postern token create --role selfhosted --for %s --enrol", t.Replaced.UTC().Format(time.RFC3339), name)
	}
	return fleet.Credential{For: name, Token: id, Key: token.Certificate, Sum: sumOf(g), Created: t.Created, Expires: t.Expires}, nil
}

// serveEnrol issues a certificate to a gateway that is enrolled.
func (s *Server) serveEnrol(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: w, r: r, id: rand.Text()}
	out, err := s.enrol(c)
	if err != nil {
		s.refuseGateway(c, err)
		return
	}
	s.answer(c, http.StatusOK, out)
}

func (s *Server) enrol(c *call) (*configuration.Enrolled, error) {
	if s.opts.Authority == nil {
		return nil, unavailable("enrol self-hosted gateways")
	}
	var in configuration.Enrol
	if err := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, configuration.MaxReply)).Decode(&in); err != nil {
		return nil, &model.Error{Kind: model.Invalid, Msg: "want a JSON object with a certificate request of at most 16 KiB: " + err.Error()}
	}
	key, err := requestedKey(in.Request)
	if err != nil {
		return nil, &model.Error{Kind: model.Invalid, Field: "request", Msg: err.Error()}
	}
	var issued *x509.Certificate
	var name string
	_, err = s.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		edit := &registry.Edit{}
		if name, err = s.entitled(c.r, h, edit); err != nil {
			return nil, err
		}
		g, ok := model.Get[*model.SelfHostedGateway](h.Set, name)
		if !ok {
			return nil, unknownToken()
		}
		now := s.opts.Now()
		who := &url.URL{Scheme: whoScheme, Opaque: "selfhosted/" + name}
		if issued, err = s.opts.Authority.IssueClient(now, name, who, key, certificateLifetime); err != nil {
			return nil, err
		}
		t := token.NewCertificate("selfhosted/"+name, g.Status.ID, issued.Raw, now, issued.NotAfter)
		data, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		edit.Puts = append(edit.Puts, store.Put{Key: tokenKey(t.ID), IfRevision: store.Absent, Data: data})
		return edit, forgetEnded(h, edit, name, now)
	})
	if err != nil {
		return nil, err
	}
	s.opts.Log.Info("a self-hosted gateway has got a certificate", "gateway", name, "token", token.CertificateID(issued.Raw), "until", issued.NotAfter)
	return &configuration.Enrolled{
		Name:        name,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Raw})),
		Expires:     issued.NotAfter, Renew: issued.NotAfter.Add(-certificateLifetime / 3),
	}, nil
}

// entitled finds out who asks for a certificate: by an enrolment, which ends
// with that, or by the certificate before.
func (s *Server) entitled(r *http.Request, h *registry.Head, edit *registry.Edit) (name string, err error) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "" {
		leaf := shownCertificate(r)
		if leaf == nil {
			return "", refused(model.Unauthenticated, configuration.RefuseToken, "show an enrolment, %s VALUE, or the certificate that is to be renewed", configuration.EnrolScheme)
		}
		now := s.opts.Now()
		if now.After(leaf.NotAfter) && now.Before(leaf.NotAfter.Add(renewable)) {
			now = leaf.NotAfter
		}
		c, err := s.certified(leaf, now)
		// Who renews far too early has a clock that is wrong, and would not stop.
		if half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2); err == nil && now.Before(half) {
			if live, _, err := certificatesOf(h, c.For, now); err != nil || live >= maxEarly {
				return "", cmp.Or[error](err, refused(model.Limited, configuration.RefuseBusy, "the certificate is good until %s, and is not renewed before %s; look at the clock of the gateway", leaf.NotAfter.UTC().Format(time.RFC3339), half.UTC().Format(time.RFC3339)))
			}
		}
		if err != nil {
			return "", err
		}
		return c.For, replace(h, edit, c.Token, s.opts.Now())
	}
	refuse := refused(model.Unauthenticated, configuration.RefuseToken, "the enrolment is not good: it was used, has expired or was mistyped; make one with postern token create --role selfhosted --for NAME --enrol")
	id, ok := token.IDOf(value)
	d, found := h.Find(registry.KindToken, id)
	var t token.Token
	if found {
		if err := json.Unmarshal(d.Data, &t); err != nil {
			return "", fmt.Errorf("token %s: %w", id, err)
		}
	}
	if !t.Matches(value, s.opts.Now()) || !ok || !strings.EqualFold(scheme, configuration.EnrolScheme) || !t.Once {
		return "", refuse
	}
	name = strings.TrimPrefix(t.Subject, "selfhosted/")
	if g, ok := model.Get[*model.SelfHostedGateway](h.Set, name); !ok || g.Status.ID != t.Of {
		return "", refuse
	}
	// Whoever comes at the same time finds it gone.
	edit.Deletes = append(edit.Deletes, store.Delete{Key: tokenKey(id), IfRevision: d.Revision})
	return name, nil
}

// replace has a certificate end that is renewed, after the overlap at the latest.
func replace(h *registry.Head, edit *registry.Edit, id string, now time.Time) error {
	d, ok := h.Find(registry.KindToken, id)
	if !ok {
		return unknownToken()
	}
	var t token.Token
	if err := json.Unmarshal(d.Data, &t); err != nil {
		return fmt.Errorf("token %s: %w", id, err)
	}
	if !t.Replaced.IsZero() {
		return nil // its end stays
	}
	t.Replaced = now.UTC().Truncate(time.Second).Add(overlap)
	if t.Replaced.Before(t.Expires) {
		t.Expires = t.Replaced
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	edit.Puts = append(edit.Puts, store.Put{Key: tokenKey(id), IfRevision: d.Revision, Data: data})
	return nil
}

// renewableUntil is until when a certificate can be renewed.
func renewableUntil(t token.Token) time.Time {
	if !t.Replaced.IsZero() {
		return t.Replaced
	}
	return t.Expires.Add(renewable)
}

// forgetEnded deletes the records of a gateway's certificates that can no longer
// be renewed, and fails where one more would be too many.
func forgetEnded(h *registry.Head, edit *registry.Edit, name string, now time.Time) error {
	live, ended, err := certificatesOf(h, name, now)
	if err != nil {
		return err
	}
	if live >= maxCertificates {
		return refused(model.Limited, configuration.RefuseBusy, "SelfHostedGateway/%s has %d certificates, which is as many as there may be; see postern token list, and end those that nobody uses with postern token revoke", name, live)
	}
	for _, id := range ended {
		edit.Deletes = append(edit.Deletes, store.Delete{Key: tokenKey(id), IfRevision: store.Any})
	}
	return nil
}

// certificatesOf counts the records of a gateway's certificates that are good or
// can be renewed, and lists the others.
func certificatesOf(h *registry.Head, name string, now time.Time) (live int, ended []string, err error) {
	subject := []byte(`"selfhosted/` + name + `"`)
	for id, data := range h.Documents(registry.KindToken) {
		var t token.Token
		if !bytes.Contains(data, subject) {
			continue
		}
		if err := json.Unmarshal(data, &t); err != nil {
			ended = append(ended, id) // nobody can show it
			continue
		}
		switch {
		case t.Key != token.Certificate:
		case now.After(renewableUntil(t)):
			ended = append(ended, id)
		default:
			live++
		}
	}
	return live, ended, nil
}

// requestedKey returns the key of a certificate request whose sender has it.
func requestedKey(text string) (any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("is no certificate request in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate request is not good: %w", err)
	}
	switch k := r.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return k, nil
		}
	}
	return nil, errors.New("the key is too weak or of an unknown sort; make one of ECDSA P-256")
}
