// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

// TestACallerThatGivesUpItsStreamEndsTheCall has callers of both versions that have streams give up a request while a
// backend of HTTP/1.1 keeps it waiting, for the head of the answer or for the rest of it.
func TestACallerThatGivesUpItsStreamEndsTheCall(t *testing.T) {
	for name, client := range map[string]func(*lab) *http.Client{
		"HTTP/2": func(l *lab) *http.Client { return l.h2client(t, false, "") },
		"HTTP/3": func(l *lab) *http.Client { return l.h3client(t, l.socket(t), "", nil) },
	} {
		for said, reply := range map[string]string{
			"nothing":            "",
			"an interim head":    "HTTP/1.1 100 Continue\r\n\r\n",
			"the head":           "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
			"half of the answer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		} {
			t.Run(name+" with "+said, func(t *testing.T) {
				l := newLabWith(t, rpcs, func(o *gateway.Options) { o.Upstream.Total, o.Upstream.Head = -1, -1 })
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				l.dial = func(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
				}
				l.s.Backends["plain"] = &snapshot.Backend{Name: "plain", Protocol: "http", Targets: []snapshot.Target{{Host: "10.1.0.30", Port: 9000, Weight: 1}}}
				l.Swap(l.s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, err := http.NewRequestWithContext(ctx, "GET", "https://"+l.pub.Host+"/prod/events", nil)
				if err != nil {
					t.Fatal(err)
				}
				caller, done := client(l), make(chan error, 1)
				go func() {
					res, err := caller.Do(r)
					if err == nil {
						_, err = io.Copy(io.Discard, res.Body)
						err = errors.Join(err, res.Body.Close())
					}
					done <- err
				}()
				c, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
					t.Fatal(err)
				}
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, reply); err != nil {
					t.Fatal(err)
				}
				cancel()
				if err := <-done; err == nil {
					t.Error("the caller was answered")
				}
				b, err := io.ReadAll(br)
				if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() || len(b) != 0 {
					t.Errorf("the backend's connection goes on: %q, %v", b, err)
				}
			})
		}
	}
}
