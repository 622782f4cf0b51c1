// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// TLSConfig is what the management API is served with: a certificate for each
// Gateway's management name, and one for callers that name no host.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// Self-hosted gateways may show one; it is judged where it matters.
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == "" || h.ServerName == "localhost" || !s.ownHost(h.ServerName) {
				// A name that is not served gets this one too: the client sees
				// that it does not fit, and learns no name that would.
				return s.opts.Loopback()
			}
			return s.opts.Certificate(h.ServerName)
		},
	}
}

// maxConnections bounds the connections; further ones wait to be accepted.
const maxConnections = 512

// Serve serves the API on plain connections from l until ctx ends, then lets
// requests in progress finish for a short while. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := s.server(s.Handler())
	srv.TLSConfig = s.TLSConfig()
	return serve(ctx, srv, func() error { return srv.ServeTLS(limited.Listener(l, maxConnections), "", "") })
}

// serve runs a server until ctx ends.
func serve(ctx context.Context, srv *http.Server, run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		WriteTimeout:      120 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
}

// Serves reports whether a name, in lower case, is one that s serves: then the
// private CA issues for it.
func Serves(s *snapshot.Snapshot, name string) bool {
	for _, g := range s.Gateways {
		// One certificate is for all execute-api names of a region.
		if name == "*.execute-api."+g.Region+"."+s.Base || name == "*.execute-api."+g.Region+".vpce."+s.Base {
			return true
		}
	}
	_, ok := hostOf(s, name)
	return ok
}

// Given returns the certificate and key that a Domain was given for a name.
func Given(s *snapshot.Snapshot, name string) (certificate string, key model.Secret, ok bool) {
	h, ok := hostOf(s, name)
	if !ok || h.Domain == nil || h.Domain.Certificate == "" {
		return "", model.Secret{}, false
	}
	return h.Domain.Certificate, h.Domain.Key, true
}

// hostOf finds what a name means at any Gateway; a Domain may stand for any one
// label.
func hostOf(s *snapshot.Snapshot, name string) (*snapshot.Host, bool) {
	_, rest, _ := strings.Cut(name, ".")
	for _, g := range s.Gateways {
		if h, ok := g.Hosts[name]; ok {
			return h, true
		}
	}
	for _, g := range s.Gateways {
		if h, ok := g.Hosts["*."+rest]; ok && rest != "" {
			return h, true
		}
	}
	return nil, false
}
