// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/test/bench/peers/gateway"
)

// prove sees that a gateway does what it is measured doing: that it answers at
// the first and the last API, and where keys are asked for, that it refuses who
// has none, limits each, and logs.
func prove(ctx context.Context, s *scenario, r *gateway.Running) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", r.Addr)
		},
		MaxIdleConnsPerHost: 8, DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	scheme := "http"
	if s.tls {
		scheme = "https"
		transport.TLSClientConfig = clientTLS(s.http2)
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(!s.http2)
		transport.Protocols.SetHTTP2(s.http2)
	}
	c := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	ask := func(path, key string) (int, int, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+gateway.Host+path, nil)
		if s.body > 0 {
			q, err = http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+gateway.Host+path, strings.NewReader(strings.Repeat("x", s.body)))
		}
		if err != nil {
			return 0, 0, err
		}
		if key != "" {
			q.Header.Set("X-API-Key", key)
		}
		a, err := c.Do(q)
		if err != nil {
			return 0, 0, err
		}
		n, err := io.Copy(io.Discard, a.Body)
		return a.StatusCode, int(n), errors.Join(err, a.Body.Close())
	}
	spare := ""
	if s.keys > 0 && len(r.Keys) > 0 {
		spare = r.Keys[s.keys]
	}
	good := func(api int) error {
		status, n, err := ask(gateway.Prefix(api)+"/items", spare)
		if err == nil && (status != http.StatusOK || n != s.answer) {
			err = fmt.Errorf("%s answers %d with %d bytes", gateway.Prefix(api), status, n)
		}
		return err
	}
	last := func() error { return good(s.apis - 1) }
	if err := r.Await(ctx, last); err != nil {
		return err
	}
	if err := good(0); err != nil {
		return err
	}
	if status, _, err := ask("/unknown/items", spare); err != nil || status < 400 || status > 499 {
		return errors.Join(fmt.Errorf("a path of no API is answered %d", status), err)
	}
	if s.keys == 0 {
		return nil
	}
	return proveKeys(ctx, r, ask, spare)
}

// proveKeys sees that keys, limits and the access log do something.
func proveKeys(ctx context.Context, r *gateway.Running, ask func(path, key string) (int, int, error), spare string) error {
	path := gateway.Prefix(0) + "/items"
	for what, key := range map[string]string{"without a key": "", "with a wrong key": spare + "x"} {
		if status, _, err := ask(path, key); err != nil || (status != 401 && status != 403) {
			return errors.Join(fmt.Errorf("a call %s is answered %d", what, status), err)
		}
	}
	limited, err := exceed(func() (int, int, error) { return ask(path, spare) })
	if err != nil {
		return err
	}
	if !limited {
		return errors.New("calls with one key are never answered 429, as fast as they can be made")
	}
	return r.Await(ctx, func() error {
		text, err := os.ReadFile(r.AccessLog)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			var entry map[string]any
			if json.Unmarshal(line, &entry) == nil && mentions(entry, path) {
				return nil
			}
		}
		return errors.New("the access log has no line about a call")
	})
}

// exceed calls as fast as some callers can, until one is told that it is too
// much.
func exceed(call func() (int, int, error)) (limited bool, err error) {
	const callers = 4
	var told atomic.Bool
	errs := make([]error, callers)
	var all sync.WaitGroup
	until := time.Now().Add(30 * time.Second)
	for i := range callers {
		all.Go(func() {
			for !told.Load() && errs[i] == nil && time.Now().Before(until) {
				var status int
				if status, _, errs[i] = call(); status == http.StatusTooManyRequests {
					told.Store(true)
				}
			}
		})
	}
	all.Wait()
	return told.Load(), errors.Join(errs...)
}

// mentions says whether a value of an entry of a log, however deep, ends in text.
func mentions(entry any, text string) bool {
	switch v := entry.(type) {
	case string:
		return strings.HasSuffix(v, text)
	case map[string]any:
		for _, w := range v {
			if mentions(w, text) {
				return true
			}
		}
	}
	return false
}
