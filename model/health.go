// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"strings"
	"time"
)

// BackendHealth is how the targets of a Backend are probed.
type BackendHealth struct {
	// Path is asked for with GET; if empty, a connection is enough.
	Path           string `json:"path,omitempty"`
	Interval       string `json:"interval,omitempty" unit:"s"`
	Timeout        string `json:"timeout,omitempty" unit:"s"`
	UnhealthyAfter int    `json:"unhealthyAfter,omitempty"`
	HealthyAfter   int    `json:"healthyAfter,omitempty"`
}

// The probes of a Backend that says nothing else.
const (
	DefaultHealthInterval = 10 * time.Second
	DefaultHealthTimeout  = 2 * time.Second
	DefaultUnhealthyAfter = 3
	DefaultHealthyAfter   = 2
)

const (
	maxHealthPath  = 1024
	maxHealthAfter = 100
)

// health checks how a Backend is probed.
func (c *check) health(h *BackendHealth) {
	if h == nil {
		return
	}
	if p := h.Path; p != "" && !open(p) {
		switch {
		case p[0] != '/':
			c.fail("spec.health.path", "%q is no path; write one with a leading slash, such as /healthz", p)
		case len(p) > maxHealthPath:
			c.fail("spec.health.path", "%d bytes are too many; at most %d are allowed", len(p), maxHealthPath)
		case strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == '#' || r >= 0x7f }):
			c.fail("spec.health.path", "%q is no path; escape what is not plain, as %%20 for a space", p)
		}
	}
	interval, known := c.span("spec.health.interval", h.Interval, DefaultHealthInterval, time.Second, time.Hour)
	timeout, ok := c.span("spec.health.timeout", h.Timeout, DefaultHealthTimeout, 100*time.Millisecond, time.Minute)
	if known && ok && h.Timeout != "" && timeout > interval {
		c.fail("spec.health.timeout", "%s is longer than the interval of %s; a probe ends before the next begins", timeout, interval)
	}
	for _, n := range []struct {
		field string
		value int
	}{{"spec.health.unhealthyAfter", h.UnhealthyAfter}, {"spec.health.healthyAfter", h.HealthyAfter}} {
		if n.value < 0 || n.value > maxHealthAfter {
			c.fail(n.field, "%d is out of range; choose 1 to %d", n.value, maxHealthAfter)
		}
	}
}

// span checks a length of time, which is unset if empty.
func (c *check) span(field, v string, unset, least, most time.Duration) (time.Duration, bool) {
	if v == "" {
		return unset, true
	}
	d, err := time.ParseDuration(v)
	switch {
	case open(v):
		return 0, false
	case err != nil:
		c.fail(field, "%q is no length of time; write one like 10s", v)
	case d < least || d > most:
		c.fail(field, "%s is out of range; choose %s to %s", v, least, most)
	default:
		return d, true
	}
	return 0, false
}
