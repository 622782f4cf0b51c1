// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench measures Postern as a whole: what a request costs, with and
// without the tunnel, and how long a start takes.
package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/demo"
	"postern.dev/postern/instance"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// callers is how many keep-alive connections send at once.
const callers = 16

// world is a host in corp with a private API behind an Endpoint, and a public
// API on the same Gateway.
const world = `
apiVersion: postern/v1
kind: Network
metadata: {name: corp}
spec: {cidrs: [10.30.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: apps}
spec: {network: corp, cidr: 10.30.1.0/24}
---
apiVersion: postern/v1
kind: Host
metadata: {name: app}
spec: {subnet: apps}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: execute-api}
spec:
  network: corp
  rules:
    - {direction: inbound, protocol: tcp, ports: ["443"], from: [10.30.0.0/16]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: main}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: Endpoint
metadata: {name: corp}
spec: {gateway: main, subnets: [apps], securityGroups: [execute-api]}
---
apiVersion: postern/v1
kind: API
metadata: {name: orders}
spec:
  gateway: main
  type: private
  openapi: example:petstore
  policy:
    Statement:
      - {Effect: Allow, Principal: "*", Action: execute-api:Invoke, Resource: "execute-api:/*", Condition: {StringEquals: {"aws:SourceVpce": "${Endpoint/corp.id}"}}}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: orders.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: API
metadata: {name: catalog}
spec: {gateway: main, type: regional, openapi: example:petstore}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: catalog.prod}
spec: {autoDeploy: true}
`

const publicPort = 20443

func stage(b *testing.B, data string) *demo.Stage {
	b.Helper()
	s, err := demo.NewStage(b.Context(), data, instance.Options{
		Public: netip.MustParseAddr("127.0.0.1"), PublicPorts: map[uint16]uint16{443: publicPort, 3443: 0},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func apply(b *testing.B, s *demo.Stage, objects []model.Object) {
	b.Helper()
	if _, err := s.API().Apply(b.Context(), objects, false); err != nil {
		b.Fatal(err)
	}
}

func setUp(b *testing.B) *demo.Stage {
	b.Helper()
	s := stage(b, b.TempDir())
	objects, err := manifest.Decode("world.yaml", []byte(world))
	if err != nil {
		b.Fatal(err)
	}
	apply(b, s, objects)
	return s
}

// BenchmarkRequest sends the same request over TLS through a tunnel and an
// Endpoint, and over loopback to the public port. CPU is that of the whole
// process, the senders and the far ends of the tunnels included.
func BenchmarkRequest(b *testing.B) {
	s := setUp(b)
	host := func(api string) string {
		a, ok := model.Get[*model.API](s.Instance().Resources(), api)
		if !ok {
			b.Fatalf("no API %s", api)
		}
		return a.Status.Host
	}
	b.Run("tunnel", func(b *testing.B) {
		c, err := s.Client(b.Context(), "host/app")
		if err != nil {
			b.Fatal(err)
		}
		measure(b, c, "https://"+host("orders")+"/prod/pets")
	})
	b.Run("loopback", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", publicPort))
			},
			TLSClientConfig:     &tls.Config{RootCAs: s.Roots(), MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: callers,
		}}
		measure(b, c, "https://"+host("catalog")+"/prod/pets")
	})
}

// measure sends b.N requests over keep-alive connections.
func measure(b *testing.B, c *http.Client, url string) {
	b.Helper()
	defer c.CloseIdleConnections()
	if err := get(c, url); err != nil { // the connection and the handshake are not measured
		b.Fatal(err)
	}
	times := make([]time.Duration, b.N)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	before := cpu(b)
	b.ResetTimer()
	for range callers {
		wait.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(b.N) {
					return
				}
				start := time.Now()
				if err := get(c, url); err != nil {
					failed.Store(&err)
					return
				}
				times[n] = time.Since(start)
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	used := cpu(b) - before
	slices.Sort(times)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us/req")
}

func get(c *http.Client, url string) error {
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, r.Status)
	}
	return nil
}

// cpu is the processor time of this process so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkServerStart starts a server on a store that holds 1,000 APIs, until
// it is ready.
func BenchmarkServerStart(b *testing.B) {
	data := filepath.Join(b.TempDir(), "data")
	var objects []model.Object
	objects, err := manifest.Decode("world.yaml", []byte(world))
	if err != nil {
		b.Fatal(err)
	}
	for n := range 1000 {
		text := fmt.Sprintf("apiVersion: postern/v1\nkind: API\nmetadata: {name: a%d}\nspec: {gateway: main, type: regional, openapi: example:petstore}\n---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: a%d.prod}\nspec: {autoDeploy: true}\n", n, n)
		more, err := manifest.Decode("api.yaml", []byte(text))
		if err != nil {
			b.Fatal(err)
		}
		objects = append(objects, more...)
	}
	start := func() *demo.Stage {
		s, err := demo.NewStage(b.Context(), data, instance.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := start()
	apply(b, s, objects)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		s := start()
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
