// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

func TestTheTableHasMediansAndRatios(t *testing.T) {
	r := results{scenario: find("a"), notes: map[string]string{"postern": "something is not there"}, of: map[string][]figures{}}
	for _, cpu := range []time.Duration{30, 10, 20} {
		r.of["nginx"] = append(r.of["nginx"], figures{perSecond: 100, cpu: cpu * time.Microsecond})
		r.of["postern"] = append(r.of["postern"], figures{perSecond: 150, cpu: cpu * time.Microsecond / 2})
	}
	var b bytes.Buffer
	r.print(&b)
	for _, want := range []string{"(a) plain 1 KiB GET", " 20.0  1.00", " 10.0  0.50", " 150  1.50", "postern: something is not there"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "haproxy") {
		t.Errorf("who was not measured is in\n%s", b.String())
	}
}

func TestScenariosThatFollowEachOtherShareGateways(t *testing.T) {
	a, a60, c := find("a"), find("a60"), find("c")
	if !a.same(&a60) || a.same(&c) {
		t.Error("a and a60 share their gateways; a and c have other answers")
	}
}

func TestWhatIsNotThereIsSaidWithWhatIs(t *testing.T) {
	for _, args := range [][]string{{"-scenario", "a,z"}, {"-gateways", "apache"}, {"-rounds", "0"}} {
		var out bytes.Buffer
		err := bench(context.Background(), args, &out, &out)
		if err == nil || !(strings.Contains(err.Error(), "there are") || strings.Contains(err.Error(), "more than nothing")) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestRequestsAreWhatTheScenarioSays(t *testing.T) {
	g, d := find("g"), find("d")
	for want, b := range map[string][]byte{
		"GET /api0003/items HTTP/1.1\r\nHost: main.postern.internal\r\n": g.request(3, ""),
		"Connection: close\r\n\r\n":                                      g.request(3, ""),
		"X-API-Key: secret\r\n":                                          d.request(0, "secret"),
		"Content-Length: 10240\r\n\r\nxxx":                               d.request(0, ""),
	} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%q is not in %.200q", want, b)
		}
	}
}
