// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

func TestPortIsFreeForAnotherListenerAndNotForTwo(t *testing.T) {
	for _, promiscuous := range []bool{false, true} {
		a, b := pair(t, Options{Promiscuous: promiscuous}, nil)
		at := netip.AddrPortFrom(b4, 80)
		for range 3 {
			l, err := b.ListenTCP(at)
			if err != nil {
				t.Fatalf("with connections of an earlier listener open: %v", err)
			}
			if _, err := b.ListenTCP(at); !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("a second listener: %v", err)
			}
			c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
