// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/control/fleet"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
)

// recheckEvery is how often credentials are judged although nothing was stored:
// time alone ends the certificates that were renewed.
const recheckEvery = time.Minute

// tickEvery is how often the fleet does what time asks for.
const tickEvery = time.Second

// follow keeps self-hosted gateways up to date until ctx ends, then tells them
// so.
func (s *Server) follow(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	defer s.fleet.Close()
	revision, checked := int64(-1), s.opts.Now()
	for {
		changed := s.opts.Registry.Changed()
		// First those go who are to get nothing more.
		if h, now := s.opts.Registry.Head(), s.opts.Now(); h.Revision != revision || now.Sub(checked) >= recheckEvery {
			revision, checked = h.Revision, now
			s.fleet.Recheck()
		}
		s.publish()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-t.C:
			s.fleet.Tick()
		}
	}
}

func (s *Server) publish() {
	p := s.opts.Registry.Published()
	s.fleet.Publish(p.Set(), configuration.Facts{Revision: p.Snapshot.Revision, Base: s.opts.Base})
}

// gatewayKeys is how the keys of a SelfHostedGateway are stored. They are those
// of the one with this id: another that gets its name later has others.
type gatewayKeys struct {
	ID   string     `json:"id"`
	Keys token.Keys `json:"keys"`
}

// keysOf reads the keys of a SelfHostedGateway that exists; ok is false if none
// were made.
func keysOf(h *registry.Head, name string) (k token.Keys, ok bool, err error) {
	g, ok := model.Get[*model.SelfHostedGateway](h.Set, name)
	if !ok {
		return k, false, nil
	}
	data, ok := h.Document(registry.KindGatewayKey, name)
	if !ok {
		return k, false, nil
	}
	var d gatewayKeys
	if err := json.Unmarshal(data, &d); err != nil || d.ID == g.Status.ID && !d.Keys.Whole() {
		// What is wrong with them is not told: it might be part of them.
		return k, false, &model.Error{
			Kind: model.Conflict, Ref: model.RefOf(g),
			Msg: "its stored keys cannot be read, so that no token which they signed is good; postern token rotate " + name + " --key primary makes both anew, postern token create a token then",
		}
	}
	return d.Keys, d.ID == g.Status.ID, nil
}

// refusedError is why a gateway is refused, with the code that it is told.
type refusedError struct {
	refuse configuration.Refuse
	kind   model.ErrorKind
}

// Error is the message.
func (e *refusedError) Error() string { return e.refuse.Message }

// As makes it one of the API's own errors.
func (e *refusedError) As(target any) bool {
	if t, ok := target.(**model.Error); ok {
		*t = &model.Error{Kind: e.kind, Msg: e.refuse.Message}
		return true
	}
	return false
}

func refused(kind model.ErrorKind, code, format string, args ...any) *refusedError {
	return &refusedError{configuration.Refuse{Code: code, Message: fmt.Sprintf(format, args...)}, kind}
}

func unknownToken() *refusedError {
	return refused(model.Unauthenticated, configuration.RefuseToken, "the token is not good: it was mistyped or revoked, or its key was changed; make one with postern token create --role selfhosted --for NAME")
}

func expiredToken(at time.Time) *refusedError {
	return refused(model.Unauthenticated, configuration.RefuseExpired, "the token has expired at %s; make one with postern token create --role selfhosted --for NAME", at.UTC().Format(time.RFC3339))
}

// authenticateGateway finds out which SelfHostedGateway calls.
func (s *Server) authenticateGateway(r *http.Request) (fleet.Credential, error) {
	if leaf := shownCertificate(r); leaf != nil && r.Header.Get("Authorization") == "" {
		return s.authenticateCertificate(r, leaf)
	}
	shown, err := token.ParseGateway(r.Header.Get("Authorization"))
	if err != nil {
		return fleet.Credential{}, refused(model.Unauthenticated, configuration.RefuseToken, "%s", err)
	}
	h := s.opts.Registry.Head()
	keys, _, err := keysOf(h, shown.Gateway)
	if err != nil {
		// Who has not proven anything is not told.
		s.opts.Log.Error("a self-hosted gateway is refused for its keys", "gateway", shown.Gateway, "error", err)
		return fleet.Credential{}, unknownToken()
	}
	// The time does not tell which gateways exist: empty keys are compared too,
	// and fit nothing.
	key := keys.SignedWith(shown)
	if key == "" {
		return fleet.Credential{}, unknownToken()
	}
	if !s.opts.Now().Before(shown.Expires) {
		return fleet.Credential{}, expiredToken(shown.Expires)
	}
	data, ok := h.Document(registry.KindToken, shown.ID)
	var t token.Token
	if ok {
		if err := json.Unmarshal(data, &t); err != nil {
			return fleet.Credential{}, fmt.Errorf("token %s: %w", shown.ID, err)
		}
	}
	if !ok || !t.Records(shown) {
		return fleet.Credential{}, unknownToken()
	}
	c := fleet.Credential{For: shown.Gateway, Token: t.ID, Key: key, Sum: keys.Sum(key), Created: t.Created, Expires: t.Expires}
	c.Endpoint = endpointOf(r.Host, s.opts.Base)
	if c.Gateway = gatewayOf(r.Host, s.opts.Base); c.Gateway != "" {
		if err := s.belongs(h, c); err != nil {
			return fleet.Credential{}, err
		}
	}
	if rf := s.judge(c); rf != nil {
		return fleet.Credential{}, &refusedError{*rf, model.Unauthenticated}
	}
	return c, nil
}

// belongs fails for a gateway that calls for another Gateway than its own.
func (s *Server) belongs(h *registry.Head, c fleet.Credential) error {
	g, ok := model.Get[*model.SelfHostedGateway](h.Set, c.For)
	if ok && g.Spec.Gateway != c.Gateway {
		return refused(model.NotFound, configuration.RefuseDeleted, "SelfHostedGateway/%s is not of Gateway/%s but of Gateway/%s; set config.service.endpoint to %s.configuration.%s", c.For, c.Gateway, g.Spec.Gateway, g.Spec.Gateway, s.opts.Base)
	}
	return nil
}

// gatewayOf returns the Gateway whose management or configuration host name
// this is; empty for an address.
func gatewayOf(host, base string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, c := range []string{".configuration.", ".management."} {
		if g, ok := strings.CutSuffix(host, c+base); ok {
			return g
		}
	}
	return ""
}

// endpointOf is the host name that was called with its port, address if that is
// none of a Gateway. Nothing else that a caller sends comes into it.
func endpointOf(host, base string) string {
	if gatewayOf(host, base) == "" {
		return "address"
	}
	port := "443"
	if h, p, err := net.SplitHostPort(host); err == nil {
		host = h
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			port = strconv.FormatUint(n, 10)
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")) + ":" + port
}

// judge says why a credential that was good is no longer. It reads what is in
// memory and is asked for every stream at every change.
func (s *Server) judge(c fleet.Credential) *configuration.Refuse {
	h := s.opts.Registry.Head()
	if !h.Set.Has(model.Ref{Kind: model.KindSelfHosted, Name: c.For}) {
		return &configuration.Refuse{Code: configuration.RefuseDeleted, Message: fmt.Sprintf("there is no SelfHostedGateway %q any more", c.For)}
	}
	if c.Gateway != "" {
		if err, ok := s.belongs(h, c).(*refusedError); ok {
			return &err.refuse
		}
	}
	data, recorded := h.Document(registry.KindToken, c.Token)
	if c.Key == token.Certificate {
		if g, ok := model.Get[*model.SelfHostedGateway](h.Set, c.For); !recorded || !ok || sumOf(g) != c.Sum {
			return &unknownToken().refuse
		}
		if s.replaced(data) {
			return &configuration.Refuse{Code: configuration.RefuseClosing, Message: "the certificate was renewed; come again with the newer one", RetryAfter: fleet.Spread(0)}
		}
	} else if keys, ok, err := keysOf(h, c.For); !recorded || !ok || err != nil || keys.Sum(c.Key) != c.Sum {
		return &unknownToken().refuse
	}
	if !c.Expires.IsZero() && !s.opts.Now().Before(c.Expires) {
		return &expiredToken(c.Expires).refuse
	}
	return nil
}

// replaced tells whether the record is of a certificate that was renewed, and
// whose overlap is over.
func (s *Server) replaced(data []byte) bool {
	if !bytes.Contains(data, []byte(`"replaced"`)) {
		return false // as most; this is asked often
	}
	var t token.Token
	return json.Unmarshal(data, &t) == nil && !t.Replaced.IsZero() && !s.opts.Now().Before(t.Replaced)
}

// maxAhead is how long before its end a token is warned of; one that is short
// is, in its last quarter.
const maxAhead = 7 * 24 * time.Hour

// standing tells how long a credential is good, and warns when that is not for
// long.
func (s *Server) standing(c fleet.Credential) (expires time.Time, warning string) {
	if left := c.Expires.Sub(s.opts.Now()); ending(c.Created, c.Expires, s.opts.Now()) {
		if c.Key == token.Certificate {
			return c.Expires, fmt.Sprintf("the certificate ends in %s, at %s, and no newer one was shown", left.Round(time.Minute), c.Expires.UTC().Format(time.RFC3339))
		}
		warning = fmt.Sprintf("the token expires in %s, at %s; make another with postern token create --role selfhosted --for %s, and replace config.service.auth", left.Round(time.Minute), c.Expires.UTC().Format(time.RFC3339), c.For)
	}
	return c.Expires, warning
}

func ending(created, expires, now time.Time) bool {
	return !expires.IsZero() && expires.Sub(now) <= min(maxAhead, expires.Sub(created)/4)
}

// tokenIndex is the tokens of self-hosted gateways in one Head, by gateway.
type tokenIndex struct {
	head *registry.Head
	by   map[string][]token.Token
	err  error
}

// gatewayTokens returns the tokens of self-hosted gateways, by gateway. What is
// found is kept until something is stored: a list asks for each gateway.
func (s *Server) gatewayTokens(h *registry.Head) (map[string][]token.Token, error) {
	if x := s.index.Load(); x != nil && x.head == h {
		return x.by, x.err
	}
	ts, err := tokens(h)
	x := &tokenIndex{head: h, by: map[string][]token.Token{}, err: err}
	for _, t := range ts {
		if name, ok := strings.CutPrefix(t.Subject, "selfhosted/"); ok && t.Role == token.SelfHosted {
			x.by[name] = append(x.by[name], t)
		}
	}
	s.index.Store(x)
	return x.by, x.err
}

// connKey is where the context of a request holds its connection.
type connKey struct{}

// adopt moves the connection of a gateway from the places of all callers to
// those of gateways. It reports false if there is none left.
func (s *Server) adopt(r *http.Request, name string) (leave func(), ok bool) {
	m := mover(r.Context().Value(connKey{}))
	if m == nil {
		return s.fleet.Enter(name)
	}
	leave, ok = s.fleet.Enter(name)
	if ok && !m.Move(leave) {
		leave() // it was moved at a request before
	}
	return func() {}, ok
}

// mover finds who holds the place of a connection.
func mover(c any) limited.Mover {
	for {
		switch x := c.(type) {
		case limited.Mover:
			return x
		case *tls.Conn:
			c = x.NetConn()
		default:
			return nil
		}
	}
}

// refuseGateway answers a gateway that cannot be served.
func (s *Server) refuseGateway(c *call, err error) {
	h := c.w.Header()
	if rf, ok := err.(*refusedError); ok {
		h.Set(configuration.HeaderRefuse, rf.refuse.Code)
		if rf.refuse.RetryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(rf.refuse.RetryAfter))
		}
		if rf.kind == model.Unauthenticated {
			h.Set("Www-Authenticate", configuration.Scheme+` realm="postern"`)
			s.opts.Log.Warn("a self-hosted gateway is refused", "code", rf.refuse.Code, "reason", rf.refuse.Message, "from", c.r.RemoteAddr, "instance", fleet.Name(c.r.Header.Get(configuration.HeaderInstance), ""))
		}
	}
	s.refuse(c, err)
}

// full refuses a gateway for which there is no place.
func (s *Server) full() error {
	e := refused(model.Unavailable, configuration.RefuseBusy, "too many self-hosted gateways are connected; try again later")
	e.refuse.RetryAfter = fleet.Spread(s.fleet.Connected())
	return e
}

// announce tells how long a credential is good.
func (s *Server) announce(h http.Header, c fleet.Credential) {
	expires, warning := s.standing(c)
	if !expires.IsZero() {
		h.Set(configuration.HeaderExpires, expires.UTC().Format(time.RFC3339))
	}
	if warning != "" {
		h.Set(configuration.HeaderWarning, warning)
	}
}
