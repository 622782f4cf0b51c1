// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/control/pki"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

const base = "postern.internal"

// plane is a management plane on an empty store, with its log and clock in the
// test's hands.
type plane struct {
	*Server
	t         testing.TB
	authority *pki.Authority
	admin     model.Secret
	log       *lockedBuffer
	later     atomic.Int64 // nanoseconds that the clock is ahead
	served    atomic.Pointer[snapshot.Snapshot]
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (p *plane) now() time.Time { return time.Now().Add(time.Duration(p.later.Load())) }

func newPlane(t *testing.T) *plane {
	s := mem.New(store.Limits{})
	t.Cleanup(func() { _ = s.Close() })
	return newPlaneOn(t, s)
}

func newPlaneOn(t testing.TB, s store.Store) *plane {
	t.Helper()
	p := &plane{t: t, log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if p.authority, err = Authority(t.Context(), s, time.Now()); err != nil {
		t.Fatal(err)
	}
	var compiler, checker compile.Compiler
	r, err := registry.Open(t.Context(), registry.Options{
		Store:     s,
		Admission: model.Options{IDs: model.RandomIDs(rand.Reader), Base: base},
		Check:     checker.Check,
		Compile: func(in registry.Input) registry.Output {
			out := compiler.Compile(in.Set, compile.Options{
				Revision: in.Revision, Base: base, Hub: in.Hub, Segment: []netip.Prefix{model.DefaultInternet},
			})
			return registry.Output{Snapshot: out.Snapshot, Conditions: out.Conditions}
		},
		Publish: func(s *snapshot.Snapshot) { p.served.Store(s) },
		Ports:   registry.Ports{Low: 51820, High: 51829},
		Log:     log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	issuer := pki.NewIssuer(p.authority, pki.Options{
		Serves: func(name string) bool { return Serves(p.served.Load(), name) },
		Given:  func(name string) (string, model.Secret, bool) { return Given(p.served.Load(), name) },
		Now:    p.now,
	})
	p.Server, err = New(Options{
		Registry: r, Base: base, HubHost: "192.0.2.1", Certificate: issuer.Certificate, Loopback: issuer.Loopback, Authority: p.authority,
		Explain: func(_ context.Context, w World, q answer.Question) (answer.Answer, error) {
			return answer.Answer{Verdict: answer.Allow, Revision: w.Snapshot.Revision, Code: q.From}, nil
		},
		Matrix: func(_ context.Context, w World, gateway string, all bool) (answer.Matrix, error) {
			return answer.Matrix{Gateway: gateway, Revision: w.Snapshot.Revision, Sources: []string{strconv.FormatBool(all)}}, nil
		},
		Reach: func(_ context.Context, before, after *model.Set) (gains, losses []answer.Opening, err error) {
			for _, name := range after.Names(model.KindAPI) {
				if !before.Has(model.Ref{Kind: model.KindAPI, Name: name}) {
					gains = append(gains, answer.Opening{From: "internet", To: "API/" + name})
				}
			}
			return gains, losses, nil
		},
		Conditions: func(s *model.Set) map[model.Ref][]model.Condition {
			return new(compile.Compiler).Compile(s, compile.Options{Base: base, Segment: []netip.Prefix{model.DefaultInternet}}).Conditions
		},
		Verify: func(_ context.Context, w World) ([]wire.TestResult, error) {
			return []wire.TestResult{{Ref: model.Ref{Name: "t"}, Holds: w.Set.Len() > 0}}, nil
		},
		Request: func(_ context.Context, id string) (wire.Request, error) {
			return wire.Request{}, &model.Error{Kind: model.NotFound, Msg: "no request " + id}
		},
		Now: p.now, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.admin, err = p.AdminToken(t.Context(), model.Secret{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// client serves the plane on loopback and returns a client with a token.
func (p *plane) client(tok model.Secret) *client.Client {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	c, err := client.New(client.Options{Address: "https://" + l.Addr().String(), CA: string(p.authority.RootPEM()), Token: tok})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		c.Close()
		stop()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	return c
}

// token makes a token of a role.
func (p *plane) token(r token.Role, subject string) model.Secret {
	p.t.Helper()
	rec := p.call("POST", "/v1/tokens", p.admin, `{"role":"`+string(r)+`","subject":"`+subject+`"}`)
	if rec.Code != http.StatusCreated {
		p.t.Fatalf("create a %s token: %d %s", r, rec.Code, rec.Body)
	}
	_, value, _ := strings.Cut(rec.Body.String(), `"value":"`)
	value, _, _ = strings.Cut(value, `"`)
	return model.NewSecret(value)
}

// call makes one request; headers are name and value by turns.
func (p *plane) call(method, path string, tok model.Secret, body string, headers ...string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:3443"
	if !tok.IsZero() {
		r.Header.Set("Authorization", "Bearer "+tok.Reveal())
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	p.Handler().ServeHTTP(rec, r)
	return rec
}

// read reads manifests in YAML.
func read(t *testing.T, text string) []model.Object {
	t.Helper()
	os, err := manifest.Decode("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return os
}

const world = `
apiVersion: postern/v1
kind: Network
metadata: {name: corp, labels: {team: a}}
spec: {cidrs: [10.0.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: apps}
spec: {network: corp, cidr: 10.0.1.0/24}
---
apiVersion: postern/v1
kind: Host
metadata: {name: laptop}
spec: {subnet: apps}
---
apiVersion: postern/v1
kind: Link
metadata: {name: hq}
spec: {network: corp, type: vpn, cidrs: [192.168.0.0/24]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: gw}
spec: {region: eu-1, endpointApproval: manual}
---
apiVersion: postern/v1
kind: Endpoint
metadata: {name: corp-ep}
spec: {gateway: gw, subnets: [apps]}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: gw, type: regional, openapi: example:petstore}
`
