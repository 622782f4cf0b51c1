// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestCloseWaitsForNoBackend(t *testing.T) {
	for name, dial := range map[string]func(ctx context.Context, c net.Conn, asked chan<- net.Conn) (net.Conn, error){
		"that does not answer": func(_ context.Context, _ net.Conn, asked chan<- net.Conn) (net.Conn, error) {
			here, there := loopback(t)
			go func() {
				if _, err := there.Read(make([]byte, 1)); err == nil {
					asked <- there
				}
			}()
			return here, nil
		},
		"that is not reached": func(ctx context.Context, c net.Conn, asked chan<- net.Conn) (net.Conn, error) {
			asked <- c
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, `{"openapi":"3.0.1","paths":{"/x":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"http://up.example/"}}}}}`)
			l.g.HTTP = "serve"
			c, asked := l.connect(t, false, 80), make(chan net.Conn, 1)
			l.dial = func(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) { return dial(ctx, c, asked) }
			if _, err := c.Write([]byte("GET /prod/x HTTP/1.1\r\nHost: " + l.pub.Host + "\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			defer (<-asked).Close()
			began := time.Now()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
