// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package gateway

import (
	"context"
	"encoding/json"
)

func startCaddy(ctx context.Context, t *Task) (*Running, error) {
	program, err := t.peer(ctx, "caddy")
	if err != nil {
		return nil, err
	}
	v, err := t.fill()
	if err != nil {
		return nil, err
	}
	conf, err := t.configure("Caddyfile", v)
	if err != nil {
		return nil, err
	}
	p, err := start(t.Dir, "caddy", program, "run", "--config", conf, "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}
	return v.running(p), nil
}

// startGo starts a program of ours around a library. It reads what it has to do
// as JSON: those libraries have no file of configuration that says it all.
func startGo(ctx context.Context, t *Task, name string) (*Running, error) {
	program, err := t.peer(ctx, name)
	if err != nil {
		return nil, err
	}
	v, err := t.fill()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(map[string]any{
		"listen": v.Addr, "backend": v.Backend, "prefixes": v.APIs, "keys": v.Keys, "rate": v.Rate,
		"certificate": v.Certificate, "key": v.Key, "http2": v.HTTP2, "accessLog": v.AccessLog, "metrics": v.Metrics,
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	conf, err := t.write(name+".json", string(text))
	if err != nil {
		return nil, err
	}
	p, err := start(t.Dir, name, program, conf)
	if err != nil {
		return nil, err
	}
	return v.running(p), nil
}

func startLura(ctx context.Context, t *Task) (*Running, error) { return startGo(ctx, t, "lura") }
func startFasthttp(ctx context.Context, t *Task) (*Running, error) {
	return startGo(ctx, t, "fasthttp")
}

func startNetHTTP(ctx context.Context, t *Task) (*Running, error) { return startGo(ctx, t, "nethttp") }

// plainOnly is of programs that only carry requests.
func plainOnly(t *Task) string {
	if t.Keys > 0 {
		return "it has no keys, limits or access log"
	}
	return ""
}

func noFasthttp(t *Task) string {
	if t.HTTP2 {
		return "it has no HTTP/2"
	}
	return plainOnly(t)
}
