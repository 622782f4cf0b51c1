// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Beside starts a backend on this machine, where self-hosted gateways run too,
// and writes its port into a manifest where that says PORT.
func (s *Stage) Beside(name, manifest string) error {
	path := filepath.Join(s.folder, manifest)
	text, err := os.ReadFile(path) //nolint:gosec // a file of the walk-through
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	b := &served{ended: make(chan error, 1)}
	b.server.ReadHeaderTimeout = 10 * time.Second
	b.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s answers: %s %s\n", name, r.Method, r.URL.Path) //nolint:gosec // text
	})
	go func() { b.ended <- b.server.Serve(l) }()
	s.beside = append(s.beside, b)
	if !bytes.Contains(text, []byte("PORT")) {
		return errors.New(manifest + " has no PORT to fill in")
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte("PORT"), []byte(strconv.Itoa(port))), 0o600)
}
