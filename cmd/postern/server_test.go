// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"strings"
	"testing"
)

func TestPublishedPortsAreMovedEachToItsOwn(t *testing.T) {
	const segment = "198.18.0.0/15"
	for _, c := range []struct {
		name, public string
		ports        []string
		want         map[uint16]uint16
		err          string
	}{
		{name: "moved", public: "127.0.0.1", ports: []string{"443=8443", "3443=13443"}, want: map[uint16]uint16{443: 8443, 3443: 13443}},
		{name: "two to one", public: "127.0.0.1", ports: []string{"443=8443", "80=8443"}, err: `"80=8443" names a port that another one has already`},
		{name: "one to two", public: "127.0.0.1", ports: []string{"443=8443", "443=9443"}, err: `"443=9443" names a port that another one has already`},
		{name: "no number", public: "127.0.0.1", ports: []string{"https=8443"}, err: "is not of the form 443=8443"},
		{name: "out of bounds", public: "127.0.0.1", ports: []string{"443=65536"}, err: "is not of the form 443=8443"},
		{name: "nowhere", ports: []string{"443=8443"}, err: "say with --public on which address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := (&serverFlags{segment: segment, public: c.public, publicPorts: c.ports}).options()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, want %s", err, c.err)
				}
				return
			}
			if err != nil || !maps.Equal(o.PublicPorts, c.want) {
				t.Fatalf("%v, %v", o.PublicPorts, err)
			}
		})
	}
}

func TestBoundsOfConnectionsAreBounds(t *testing.T) {
	for _, c := range []struct {
		all, each int
		ok        bool
	}{{0, 0, true}, {16384, 0, true}, {16384, 16384, true}, {10, 11, false}, {-1, 0, false}, {10, -1, false}} {
		o, err := (&serverFlags{segment: "198.18.0.0/15", connections: c.all, connectionsEach: c.each}).options()
		if (err == nil) != c.ok || err == nil && (o.PublicConnections != c.all || o.PublicConnectionsEach != c.each) {
			t.Errorf("%+v: %v, %v and %v", c, err, o.PublicConnections, o.PublicConnectionsEach)
		}
	}
}
