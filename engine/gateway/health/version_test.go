// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/health"
)

// TestABackendIsProbedByTheVersionItSpeaks: one of HTTP/2 in clear.
func TestABackendIsProbedByTheVersionItSpeaks(t *testing.T) {
	for _, protocol := range []string{"h2c", "grpc"} {
		for path, well := range map[string]bool{"/up": true, "/gone": false} {
			seen := make(chan string, 1) // what the first probe asks for
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case seen <- r.Proto + " " + r.Host + r.URL.Path:
				default:
				}
				if r.URL.Path != "/up" {
					w.WriteHeader(http.StatusNotFound)
				}
			}))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.Start()
			p := health.New(health.Options{Dial: func(ctx context.Context, _, _, _ string, _ uint16) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
			}})
			h := probing()
			h.Path, h.Interval, h.Timeout, h.Unhealthy = path, 10*time.Millisecond, time.Minute, 1
			s, b := world(h, "rpc.example")
			b.Protocol = protocol
			p.Apply(s)
			if got, want := <-seen, "HTTP/2.0 rpc.example:8080"+path; got != want {
				t.Errorf("%s: the backend saw %q, and not %q", protocol, got, want)
			}
			for !p.Targets("main", "store")[0].Known {
				<-time.After(time.Millisecond)
			}
			if got := p.Targets("main", "store")[0]; got.Healthy != well {
				t.Errorf("%s %s: %+v", protocol, path, got)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			srv.Close()
		}
	}
}
