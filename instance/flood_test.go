// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/instance"
)

// TestAFloodOfConnectionsFromOneAddressShutsOutNobodyElse fills the places of one
// address. What is beyond them is closed, and another address is served.
func TestAFloodOfConnectionsFromOneAddressShutsOutNobodyElse(t *testing.T) {
	const each = 4
	ports := map[uint16]uint16{443: freePort(t), 3443: freePort(t)}
	w := start(t, instance.Options{
		Public: netip.MustParseAddr("127.0.0.1"), PublicPorts: ports, PublicConnections: 4 * each, PublicConnectionsEach: each,
	}, `
apiVersion: postern/v1
kind: Gateway
metadata: {name: open}
spec: {region: eu-1}
`)
	// call connects from an address and, if it is let in, makes a request.
	call := func(from string) (*tls.Conn, error) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		nc, err := d.DialContext(t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[443]).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		c := tls.Client(nc, &tls.Config{RootCAs: w.roots, ServerName: "open.postern.internal", NextProtos: []string{"http/1.1"}})
		if _, err := io.WriteString(c, "GET /status-0123456789abcdef HTTP/1.1\r\nHost: open.postern.internal\r\n\r\n"); err != nil {
			return c, err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return c, err
		}
		if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		return c, err
	}
	var first *tls.Conn
	for i := range each {
		c, err := call("127.0.0.1")
		if err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, each, err)
		}
		if first == nil {
			first = c
		}
	}
	for range 10 * each {
		if _, err := call("127.0.0.1"); err == nil {
			t.Fatal("a connection beyond the bound is served")
		} else if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			t.Fatal("a connection beyond the bound is left waiting")
		}
	}
	if _, err := call("127.0.0.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		if _, err := call("127.0.0.1"); err == nil {
			return // the place is free again
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("a place that was given back is not had again")
		}
	}
}
