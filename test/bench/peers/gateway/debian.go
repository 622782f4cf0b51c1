// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package gateway

import (
	"context"
	"fmt"
	"strings"
)

func startNginx(_ context.Context, t *Task) (*Running, error) {
	program, err := find("nginx", "nginx")
	if err != nil {
		return nil, err
	}
	v, err := t.fill()
	if err != nil {
		return nil, err
	}
	conf, err := t.configure("nginx.conf", v)
	if err != nil {
		return nil, err
	}
	// Where it would log before it has read its configuration.
	p, err := start(t.Dir, "nginx", program, "-p", t.Dir, "-e", "stderr", "-c", conf)
	if err != nil {
		return nil, err
	}
	return v.running(p), nil
}

func startHAProxy(_ context.Context, t *Task) (*Running, error) {
	program, err := find("haproxy", "haproxy")
	if err != nil {
		return nil, err
	}
	v, err := t.fill()
	if err != nil {
		return nil, err
	}
	var keys, prefixes strings.Builder
	for i, k := range v.Keys {
		fmt.Fprintf(&keys, "%s consumer%d\n", k, i)
	}
	for i, p := range v.APIs {
		fmt.Fprintf(&prefixes, "%s/ api%d\n", p, i)
	}
	if _, err := t.write("keys.map", keys.String()); err != nil {
		return nil, err
	}
	if _, err := t.write("prefixes.map", prefixes.String()); err != nil {
		return nil, err
	}
	conf, err := t.configure("haproxy.cfg", v)
	if err != nil {
		return nil, err
	}
	p, err := start(t.Dir, "haproxy", program, "-db", "-f", conf)
	if err != nil {
		return nil, err
	}
	r := v.running(p)
	if v.WithKeys {
		r.AccessLog = p.log // it does not write files, but to what it is given
	}
	return r, nil
}
