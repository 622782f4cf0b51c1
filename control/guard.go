// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"postern.dev/postern/model"
)

// Handler serves the API. It refuses what a web page could have sent: a foreign
// Host (DNS rebinding) or Origin. There is no CORS.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		c := &call{Server: s, w: w, r: r, id: rand.Text()}
		if err := s.guard(r); err != nil {
			s.refuse(c, err)
			return
		}
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.refuse(c, errBusy)
			return
		}
		if err := s.find(c); err != nil {
			s.refuse(c, err)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

func (s *Server) guard(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !s.ownHost(host) {
		return &model.Error{Kind: model.Denied, Msg: "the management API has no host name " + quote(host) + "; call it at the address in client.yaml"}
	}
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" || u.Host != r.Host {
			return &model.Error{Kind: model.Denied, Msg: "the management API takes no requests from web pages of other origins"}
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return &model.Error{Kind: model.Denied, Msg: "the management API takes no requests from web pages of other sites"}
	}
	return nil
}

// ownHost reports whether the API answers under a host name. An address is no
// name that somebody else's DNS could point here.
func (s *Server) ownHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	gateway, ok := strings.CutSuffix(host, ".management."+s.opts.Base)
	if !ok {
		return false
	}
	_, ok = s.opts.Registry.Published().Snapshot.Gateways[gateway]
	return ok
}

// find reports why no route fits, as a problem rather than as the text that
// http.ServeMux answers.
func (s *Server) find(c *call) error {
	if p := c.r.URL.Path; p == "" || path.Clean(p) != p {
		return &model.Error{Kind: model.NotFound, Msg: "there is no " + quote(p) + "; write the path without empty or dot segments"}
	}
	h, pattern := s.mux.Handler(c.r)
	if pattern != "" {
		return nil
	}
	probe := &probe{header: http.Header{}}
	h.ServeHTTP(probe, c.r)
	if allow := probe.header.Get("Allow"); allow != "" {
		c.w.Header().Set("Allow", allow)
		return &model.Error{Kind: model.Invalid, Msg: c.r.Method + " is not for " + quote(c.r.URL.Path) + "; it takes " + allow, Err: errMethod}
	}
	return &model.Error{Kind: model.NotFound, Msg: "there is no " + quote(c.r.URL.Path) + "; /v1/openapi.json lists what there is"}
}

// probe takes an answer and keeps its header alone.
type probe struct{ header http.Header }

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(int)             {}
