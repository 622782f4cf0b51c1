// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestHTTP2InClear is of clients that speak HTTP/2 without asking first.
func TestHTTP2InClear(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	l.Swap(l.s)
	speaks := new(http.Protocols)
	speaks.SetUnencryptedHTTP2(true)
	dials := 0
	tr := &http.Transport{Protocols: speaks, DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials++
		return l.connect(t, false, 80), nil
	}}
	defer tr.CloseIdleConnections()
	for range 2 {
		res, err := (&http.Client{Transport: tr}).Post("http://"+l.pub.Host+"/prod/pets", "application/json", strings.NewReader(`{"type":"cat","price":1}`))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 || !strings.Contains(string(b), `"cat"`) {
			t.Errorf("%s %s %s %v", res.Proto, res.Status, b, err)
		}
		res.Body.Close()
	}
	if dials != 1 {
		t.Errorf("%d connections", dials)
	}
}

// TestThePrefaceIsNoSecondRequest: it begins a connection, or is a request that
// breaks the grammar.
func TestThePrefaceIsNoSecondRequest(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	l.Swap(l.s)
	c := l.connect(t, false, 80)
	if _, err := io.WriteString(c, "GET /prod/pets HTTP/1.1\r\nHost: "+l.pub.Host+"\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for _, want := range []int{200, 505} {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != want {
			t.Errorf("%d, and not %d; %v", res.StatusCode, want, err)
		}
	}
}
