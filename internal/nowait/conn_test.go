// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package nowait

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func pair(t *testing.T) (wrapped, plain net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if plain, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); plain.Close() })
	return Wrap(c), plain
}

func TestEverythingPassesBothWays(t *testing.T) {
	c, peer := pair(t)
	if _, ok := c.(*Conn); ok != Supported {
		t.Fatalf("it is a %T", c)
	}
	want := make([]byte, 20<<20) // more than sockets have room for
	for i := range want {
		want[i] = byte(i >> 8)
	}
	sent := make(chan error, 2)
	go func() {
		_, err := peer.Write(want)
		sent <- errors.Join(err, peer.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	go func() {
		n, err := c.Write(want)
		if n != len(want) {
			t.Errorf("wrote %d bytes", n)
		}
		sent <- errors.Join(err, c.Close())
	}()
	if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer read %d bytes, %v", len(got), err)
	}
	for range 2 {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

func TestDeadlinesEndWaits(t *testing.T) {
	c, _ := pair(t)
	if err := c.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if n, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Errorf("write: %d bytes, %v", n, err)
	}
}

func TestCloseEndsWaits(t *testing.T) {
	c, _ := pair(t)
	ended := make(chan error, 2)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	go func() { _, err := c.Write(make([]byte, 64<<20)); ended <- err }()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestAResetIsTold(t *testing.T) {
	c, peer := pair(t)
	if err := peer.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read: %v", err)
	}
}
