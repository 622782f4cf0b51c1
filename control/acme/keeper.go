// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acme obtains certificates for Domains from authorities that speak
// ACME (RFC 8555) and renews them before they end. What it keeps, it keeps in
// the store, so that the servers of one cluster share certificates and take
// turns. Nothing is contacted unless a Domain asks for it.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/snapshot"
)

// Dial opens a connection to an authority.
type Dial func(ctx context.Context, host string, port uint16) (net.Conn, error)

// Options are what a Keeper works with.
type Options struct {
	Documents Documents
	Dial      Dial
	// Backoff is how long to wait after each failure in a row; the last holds
	// from there on. If empty, half a minute at first and six hours at last.
	Backoff []time.Duration
	// Lease is after how long the lock of a server that has gone is taken over;
	// 30 seconds if 0.
	Lease time.Duration
	Now   func() time.Time
	Log   *slog.Logger
}

var backoff = []time.Duration{
	30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour,
}

const (
	// atOnce bounds the certificates being obtained.
	atOnce = 4
	// attempt bounds one try, waiting for another server's included.
	attempt = 6 * time.Minute
	// look is how often a Domain's certificate is looked at, at least: clocks
	// are set, and machines sleep.
	look = time.Hour
	// renewAt is the part of its time that a certificate has left when it is
	// renewed.
	renewAt = 1.0 / 3
	// kept is how long a certificate that nobody asks for stays after its end.
	kept = 30 * 24 * time.Hour
)

// Keeper keeps the certificates of the Domains of the newest snapshot.
type Keeper struct {
	opts  Options
	locks *locks
	cache *certmagic.Cache
	slots chan struct{} // one for each certificate being obtained
	// issue returns who issues; tests replace it.
	issue func(snapshot.ACME) certmagic.Issuer

	domains atomic.Pointer[map[string]*domain]

	mu     sync.Mutex // orders Follow and Close
	closed bool
	ctx    context.Context
	stop   context.CancelFunc
	wait   sync.WaitGroup
}

// New returns a Keeper that keeps nothing until Follow.
func New(o Options) *Keeper {
	if len(o.Backoff) == 0 {
		o.Backoff = backoff
	}
	if o.Lease <= 0 {
		o.Lease = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{opts: o, locks: newLocks(o.Documents, o.Lease, o.Now), slots: make(chan struct{}, atOnce)}
	k.issue = func(a snapshot.ACME) certmagic.Issuer {
		return &issuer{docs: o.Documents, locks: k.locks, dial: o.Dial, spec: a}
	}
	// Nothing is put into the cache, whose own maintenance knows neither our
	// clock nor our conditions; a certmagic.Config has to have one.
	k.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
			return nil, errors.New("acme: the cache is not used")
		},
		Logger: zap.NewNop(),
	})
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.domains.Store(&map[string]*domain{})
	k.wait.Go(func() { k.sweep() })
	return k
}

// Follow makes the Keeper keep what s asks for. It does not wait.
func (k *Keeper) Follow(s *snapshot.Snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	was, now := *k.domains.Load(), map[string]*domain{}
	for _, g := range s.Gateways {
		for name, h := range g.Hosts {
			if h.Domain == nil || h.Domain.ACME == nil {
				continue
			}
			if d := was[name]; d != nil && d.spec == *h.Domain.ACME {
				now[name] = d
				continue
			}
			now[name] = k.begin(name, *h.Domain.ACME)
		}
	}
	k.domains.Store(&now)
	for name, d := range was {
		if now[name] != d {
			d.stop()
		}
	}
}

// begin starts to keep one Domain's certificate.
func (k *Keeper) begin(name string, spec snapshot.ACME) *domain {
	iss := k.issue(spec)
	d := &domain{
		keeper: k, name: name, spec: spec,
		certKey: certmagic.StorageKeys.SiteCert(iss.IssuerKey(), name),
		keyKey:  certmagic.StorageKeys.SitePrivateKey(iss.IssuerKey(), name),
	}
	d.config = certmagic.New(k.cache, certmagic.Config{
		Storage: &storage{k.opts.Documents, k.locks}, Issuers: []certmagic.Issuer{iss},
		RenewalWindowRatio: renewAt, DisableARI: true, DisableStorageCheck: true,
		KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		Logger:    zap.NewNop(), // errors come back as such
	})
	var ctx context.Context
	ctx, d.stop = context.WithCancel(k.ctx)
	k.wait.Go(func() { d.run(ctx) })
	return d
}

// Certificate returns the newest certificate for a Domain's name; ok is false
// until there is one.
func (k *Keeper) Certificate(name string) (*tls.Certificate, bool) {
	d := (*k.domains.Load())[hostName(name)]
	if d == nil {
		return nil, false
	}
	c := d.certificate()
	return c, c != nil
}

// State is what is known of a Domain's certificate.
type State struct {
	// Leaf is the certificate; nil until there is one.
	Leaf *x509.Certificate
	// Directory is the authority.
	Directory string
	// Err is why the last attempt failed, nil if it did not; Next is when
	// another is made.
	Err  error
	Next time.Time
}

// State tells how a Domain's certificate stands; ok is false if none is kept.
func (k *Keeper) State(name string) (s State, ok bool) {
	d := (*k.domains.Load())[name]
	if d == nil {
		return s, false
	}
	return d.state(), true
}

// Close stops what runs and waits for it. Certificates are no longer renewed,
// but handed out as before.
func (k *Keeper) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	k.mu.Unlock()
	k.stop()
	k.wait.Wait()
	k.cache.Stop()
	return nil
}

// sweep deletes, once a day, certificates that ended long ago and that nobody
// asks for: their Domains were deleted, or use another authority.
func (k *Keeper) sweep() {
	t := time.NewTicker(24 * time.Hour)
	defer t.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-t.C:
		}
		wanted := map[string]bool{}
		for _, d := range *k.domains.Load() {
			wanted[d.certKey] = true
		}
		s := &storage{k.opts.Documents, k.locks}
		for name, data := range k.opts.Documents.Head().Documents(registry.KindACME) {
			folder, file, _ := cutLast(name)
			block, _ := pem.Decode(data)
			if !strings.HasSuffix(file, ".crt") || wanted[name] || block == nil {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil || k.opts.Now().Before(c.NotAfter.Add(kept)) {
				continue
			}
			if err := s.Delete(k.ctx, folder); err != nil {
				k.opts.Log.Warn("a certificate that has ended could not be deleted; it is tried again tomorrow", "certificate", name, "error", err)
			}
		}
	}
}

func cutLast(name string) (folder, file string, ok bool) {
	n := strings.LastIndexByte(name, '/')
	if n < 0 {
		return "", name, false
	}
	return name[:n], name[n+1:], true
}
