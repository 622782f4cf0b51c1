// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model"
)

// hand serves the components of a plane and returns how a request over a
// connection that was handed over is answered.
func (p *plane) hand() (ask func(serve func(context.Context, net.Conn), host, path string, token model.Secret) (string, http.Header), stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.ServeComponents(ctx) }()
	ask = func(serve func(context.Context, net.Conn), host, path string, token model.Secret) (string, http.Header) {
		p.t.Helper()
		here, there := net.Pipe()
		defer here.Close()
		served := make(chan struct{})
		go func() { defer close(served); serve(ctx, there) }()
		if err := here.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			p.t.Fatal(err)
		}
		auth := ""
		if token.Reveal() != "" {
			auth = "Authorization: Bearer " + token.Reveal() + "\r\n"
		}
		if _, err := fmt.Fprintf(here, "GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", path, host, auth); err != nil {
			return err.Error(), nil
		}
		res, err := http.ReadResponse(bufio.NewReader(here), nil)
		if err != nil {
			return err.Error(), nil
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			p.t.Fatal(err)
		}
		<-served // the handler returns when the connection is closed
		return fmt.Sprintf("%d %s", res.StatusCode, b), res.Header
	}
	return ask, func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

func TestComponentsAreServedOnConnectionsThatAreHandedOver(t *testing.T) {
	p := newPlane(t)
	ask, stop := p.hand()
	none := model.Secret{}
	for _, x := range []struct {
		serve      func(context.Context, net.Conn)
		host, path string
		token      model.Secret
		want       string
	}{
		{p.ServeManagement, "localhost", "/ServiceStatus", none, `200 {"status":"ok"}`},
		{p.ServeManagement, "localhost", "/v1/networks", p.admin, `200 {`},
		{p.ServeManagement, "localhost", "/v1/networks", none, `401 {`},
		{p.ServeManagement, "evil.example", "/ServiceStatus", none, `403 {`},
		{p.ServeConfiguration, "main.configuration.postern.internal", "/ServiceStatus", none, `200 {"status":"ok"}`},
		{p.ServeConfiguration, "main.configuration.postern.internal", "/v1/networks", p.admin, `404 {`},
	} {
		got, h := ask(x.serve, x.host, x.path, x.token)
		if !strings.HasPrefix(got, x.want) {
			t.Errorf("%s%s: %s, want %s", x.host, x.path, got, x.want)
		}
		if got[0] == '4' && h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s%s: %v", x.host, x.path, h)
		}
	}
	stop()
	if got, _ := ask(p.ServeManagement, "localhost", "/ServiceStatus", none); strings.HasPrefix(got, "200") {
		t.Errorf("served after the end: %s", got)
	}
}

func TestConnectionsToAComponentAreBounded(t *testing.T) {
	p := newPlane(t)
	for name, hold := range map[string]func() (release func()){
		"in all": func() func() {
			n := 0
			for p.management.open.Enter(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 1) {
				n++
			}
			return func() {
				for ; n > 0; n-- {
					p.management.open.Leave(netip.AddrFrom4([4]byte{10, 0, byte((n - 1) >> 8), byte(n - 1)}))
				}
			}
		},
		"from one address": func() func() {
			n := 0
			for p.management.open.Enter(netip.Addr{}, eachComponent) {
				n++
			}
			return func() {
				for ; n > 0; n-- {
					p.management.open.Leave(netip.Addr{})
				}
			}
		},
	} {
		release := hold()
		here, there := net.Pipe()
		p.ServeManagement(t.Context(), there) // returns at once
		if _, err := here.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v, want the end", name, err)
		}
		if err := here.Close(); err != nil {
			t.Error(err)
		}
		release()
	}
	ask, stop := p.hand()
	defer stop()
	if got, _ := ask(p.ServeManagement, "localhost", "/ServiceStatus", model.Secret{}); !strings.HasPrefix(got, "200") {
		t.Errorf("when there is room again: %s", got)
	}
}
