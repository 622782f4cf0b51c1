// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/upstream/multiplex"
	"postern.dev/postern/snapshot"
)

// subject is what is probed, and how: where any of it changes, what was known
// no longer counts.
type subject struct {
	gateway, backend, network, scheme, host string
	port                                    uint16
	health                                  snapshot.Health
}

func about(u user, b *snapshot.Backend, t *snapshot.Target) subject {
	k := subject{gateway: u.gateway, backend: u.backend, scheme: request.Scheme(b, t), host: t.Host, port: t.Port, health: *b.Health}
	if b.Network != nil {
		k.network = b.Network.Name
	}
	return k
}

// probe is one target that is probed.
type probe struct {
	subject
	share  chan struct{} // of the Backend's probes
	cancel context.CancelFunc
	out    atomic.Bool

	mu     sync.Mutex // guards those below
	known  Target
	streak int // probes in a row that speak against the present state
}

// note takes the outcome of a probe.
func (pr *probe) note(err error, now time.Time) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if !pr.known.Known {
		pr.known = Target{Known: true, Healthy: true, Since: now}
	}
	pr.known.Checked = now
	if err != nil {
		pr.known.Err = err.Error()
	}
	if (err == nil) == pr.known.Healthy {
		pr.streak = 0
		return
	}
	need := pr.health.Unhealthy
	if err == nil {
		need = pr.health.Healthy
	}
	if pr.streak++; pr.streak < need {
		return
	}
	pr.streak, pr.known.Healthy, pr.known.Since = 0, err == nil, now
	pr.out.Store(err != nil)
}

func (pr *probe) report() Target {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	t := pr.known
	t.Host, t.Port = pr.host, pr.port
	if !t.Known {
		t.Healthy = true
	}
	return t
}

// maxHead bounds what is read of an answer.
const maxHead = 16 << 10

// once probes a target once.
func (p *Prober) once(ctx context.Context, k *subject) error {
	ctx, cancel := context.WithTimeout(ctx, k.health.Timeout)
	defer cancel()
	c, err := p.o.Dial(ctx, k.gateway, k.network, k.host, k.port)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // its purpose is fulfilled
	if k.health.Path == "" {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := p.ask(ctx, c, k); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("it did not answer within %s", k.health.Timeout)
		}
		return err
	}
	return nil
}

// ask asks for the path.
func (p *Prober) ask(ctx context.Context, c net.Conn, k *subject) error {
	d := request.Destination{Scheme: k.scheme}
	scheme := "http"
	if d.Secure() {
		scheme = "https"
		t := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.o.Roots, ServerName: k.host, NextProtos: d.ALPN()})
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		c = t
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(k.host, strconv.Itoa(int(k.port)))+k.health.Path, nil)
	if err != nil {
		return err
	}
	r.Host = authority(k)
	r.Close = true
	r.Header.Set("User-Agent", "Postern-Health")
	res, err := answered(c, k.scheme, r)
	if err != nil {
		return err
	}
	if res.StatusCode >= 400 {
		return fmt.Errorf("GET %s was answered %d", k.health.Path, res.StatusCode)
	}
	return nil
}

// answered sends the request as the Backend's protocol has it.
func answered(c net.Conn, scheme string, r *http.Request) (*http.Response, error) {
	var res *http.Response
	var err error
	if scheme == "http" || scheme == "https" {
		if err = r.Write(c); err == nil {
			res, err = http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxHead)), r)
		}
	} else {
		r.Close = false // HTTP/2 has no such field
		res, err = multiplex.Ask(c, r)
	}
	if err != nil {
		return nil, err
	}
	return res, res.Body.Close() // the connection is closed with it
}

// authority is the Host field: without the port where it is the scheme's own.
func authority(k *subject) string {
	own := uint16(80)
	if d := (request.Destination{Scheme: k.scheme}); d.Secure() {
		own = 443
	}
	if k.port != own {
		return net.JoinHostPort(k.host, strconv.Itoa(int(k.port)))
	}
	if _, _, err := net.SplitHostPort(k.host + ":1"); err != nil {
		return "[" + k.host + "]"
	}
	return k.host
}
