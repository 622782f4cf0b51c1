// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/control/fleet"
	"postern.dev/postern/model"
)

// serveStream is protocol v2: it turns the connection into a stream of frames.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: w, r: r, id: rand.Text()}
	if err := s.stream(c); err != nil {
		s.refuseGateway(c, err)
	}
}

func (s *Server) stream(c *call) error {
	if r := c.r; r.ProtoMajor != 1 || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", configuration.Upgrade) {
		c.w.Header().Set("Upgrade", configuration.Upgrade)
		return &model.Error{
			Kind: model.Invalid, Err: &statusError{http.StatusUpgradeRequired},
			Msg: "self-hosted gateways ask for this by HTTP/1.1 with Connection: Upgrade and Upgrade: " + configuration.Upgrade,
		}
	}
	cred, err := s.authenticateGateway(c.r)
	if err != nil {
		return err
	}
	instance := fleet.Name(c.r.Header.Get(configuration.HeaderInstance), cred.For)
	hash := c.r.Header.Get(configuration.HeaderHash)
	if len(hash) > 64 {
		hash = "" // no hash of ours
	}
	s.publish() // who asks right after a change gets that
	if _, err := s.fleet.Current(cred.For); err != nil {
		return err
	}
	leave, ok := s.adopt(c.r, cred.For)
	if !ok {
		return s.full()
	}
	conn, rw, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		leave()
		return fmt.Errorf("take over the connection of a self-hosted gateway: %w", err)
	}
	sub := fleet.Subscription{Credential: cred, Instance: instance, Hash: hash, Leave: leave}
	if sub.Begun, err = begun(rw.Reader); err == nil {
		h := http.Header{}
		s.announce(h, cred)
		err = switchTo(conn, h)
	}
	if err == nil {
		err = s.fleet.Subscribe(conn, sub)
	}
	if err != nil {
		// It has been answered, or has gone: it comes again.
		s.opts.Log.Debug("a self-hosted gateway's stream did not begin", "gateway", cred.For, "instance", instance, "error", err)
		_ = conn.Close()
		leave()
	}
	return nil
}

// begun returns what the gateway sent ahead, and lets go of the buffer.
func begun(r *bufio.Reader) ([]byte, error) {
	b, err := r.Peek(r.Buffered())
	return bytes.Clone(b), err
}

// switchTimeout is how long the answer that begins a stream may take.
const switchTimeout = 10 * time.Second

func switchTo(w interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}, h http.Header,
) error {
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", configuration.Upgrade)
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := h.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	if err := w.SetWriteDeadline(time.Now().Add(switchTimeout)); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// hasToken reports whether a list in a header names a token.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h[textproto.CanonicalMIMEHeaderKey(name)] {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// servePoll is protocol v1: the configuration as a document, and heartbeats,
// below a resource path as Azure's.
func (s *Server) servePoll(w http.ResponseWriter, r *http.Request) {
	c := &call{Server: s, w: w, r: r, id: rand.Text()}
	if err := s.poll(c); err != nil {
		s.refuseGateway(c, err)
	}
}

func (s *Server) poll(c *call) error {
	at, ok := parseResource(c.r.URL.EscapedPath())
	if !ok {
		return &model.Error{Kind: model.NotFound, Msg: "there is no " + quote(c.r.URL.Path) + "; self-hosted gateways ask for " + configuration.ConfigurationPath(configuration.ResourcePath("SUBSCRIPTION", "GROUP", "GATEWAY"), "NAME")}
	}
	if at.method() != c.r.Method {
		c.w.Header().Set("Allow", at.method())
		return &model.Error{Kind: model.Invalid, Msg: c.r.Method + " is not for " + quote(c.r.URL.Path) + "; it takes " + at.method(), Err: errMethod}
	}
	cred, err := s.authenticateGateway(c.r)
	if err != nil {
		return err
	}
	if at.name != "" && at.name != cred.For {
		return refused(model.Denied, configuration.RefuseToken, "the token is for SelfHostedGateway/%s, not for %s", cred.For, quote(at.name))
	}
	named := cred
	named.Gateway = at.gateway
	if err := s.belongs(s.opts.Registry.Head(), named); err != nil {
		return err
	}
	leave, ok := s.adopt(c.r, cred.For)
	if !ok {
		return s.full()
	}
	defer leave()
	s.announce(c.w.Header(), cred)
	if at.action == "heartbeat" {
		return s.heartbeat(c, cred)
	}
	return s.document(c, cred)
}

// document answers with what the gateway is assigned, unless it has that.
func (s *Server) document(c *call, cred fleet.Credential) error {
	s.publish()
	cur, err := s.fleet.Current(cred.For)
	if err != nil {
		return err
	}
	tag := `"` + cur.Hash + `"`
	h := c.w.Header()
	h.Set("Etag", tag)
	has := c.r.Header.Get("If-None-Match")
	s.fleet.Polled(cred, c.r.Header.Get(configuration.HeaderInstance), strings.Trim(has, `"`))
	if has == tag {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body, err := cur.Encode()
	if err != nil {
		return err
	}
	s.answer(c, http.StatusOK, body)
	return nil
}

// heartbeat notes how an instance is.
func (s *Server) heartbeat(c *call, cred fleet.Credential) error {
	var hb configuration.Heartbeat
	if err := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, configuration.MaxReply)).Decode(&hb); err != nil {
		return &model.Error{Kind: model.Invalid, Msg: "the heartbeat is no JSON object of at most 16 KiB: " + err.Error()}
	}
	if hb.Instance == "" {
		hb.Instance = c.r.Header.Get(configuration.HeaderInstance)
	}
	s.fleet.Heard(cred, hb, "v1")
	s.answer(c, http.StatusOK, s.fleet.Standing(cred))
	return nil
}

// resource is a path of protocol v1.
type resource struct{ gateway, name, action string }

func (r resource) method() string {
	if r.action == "heartbeat" {
		return http.MethodPost
	}
	return http.MethodGet
}

// parseResource reads
// /subscriptions/S/resourceGroups/R/providers/Microsoft.ApiManagement/service/GATEWAY[/gateways/NAME]/ACTION,
// in any case, as Azure does.
func parseResource(path string) (r resource, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i := range parts {
		p, err := url.PathUnescape(parts[i])
		if err != nil || p == "" {
			return r, false
		}
		parts[i] = p
	}
	form := []string{"subscriptions", "", "resourcegroups", "", "providers", "microsoft.apimanagement", "service", ""}
	if len(parts) < len(form)+1 {
		return r, false
	}
	for i, f := range form {
		if f != "" && !strings.EqualFold(parts[i], f) {
			return r, false
		}
	}
	r.gateway = strings.ToLower(parts[len(form)-1])
	rest := parts[len(form):]
	if len(rest) == 3 && strings.EqualFold(rest[0], "gateways") {
		r.name, rest = rest[1], rest[2:]
	}
	if len(rest) != 1 {
		return r, false
	}
	r.action = strings.ToLower(rest[0])
	return r, r.action == "configuration" || r.action == "heartbeat"
}
