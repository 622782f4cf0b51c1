// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limited

import (
	"errors"
	"net"
	"testing"
)

func TestConnectionBeyondTheLimitWaits(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listener(inner, 1)
	defer l.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	dial()
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	select {
	case err := <-accepted:
		t.Fatalf("a second connection was accepted: %v", err)
	default:
	}
	for range 2 { // closing twice frees one slot
		_ = first.Close()
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("waiting for a slot at the end: %v", err)
	}
}
