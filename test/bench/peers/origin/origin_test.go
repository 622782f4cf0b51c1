// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package origin

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestEveryRequestIsAnswered(t *testing.T) {
	const size = 300 << 10 // more than a socket takes at once
	s, err := Listen(size)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }() // it ends with the process
	c, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := strings.Repeat("x", 10000)
	requests := []string{
		"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: here\r\ncontent-Length: 10000\r\n\r\n" + body,
		"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n" + body + "\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n",
	}
	all := strings.Join(requests, "")
	go func() {
		for piece := 1; len(all) > 0; piece = piece*3 + 1 { // in pieces of every size
			n := min(piece, len(all))
			if _, err := io.WriteString(c, all[:n]); err != nil {
				t.Error(err)
				return
			}
			all = all[n:]
		}
	}()
	r := bufio.NewReader(c)
	for _, q := range requests {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%.30q: %v", q, err)
		}
		n, err := io.Copy(io.Discard, a.Body)
		if err != nil || n != size || a.StatusCode != http.StatusOK {
			t.Fatalf("%.30q: %d with %d bytes, %v", q, a.StatusCode, n, err)
		}
	}
}
