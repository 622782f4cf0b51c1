// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/caddyserver/certmagic"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/snapshot"
)

// domain keeps the certificate of one Domain.
type domain struct {
	keeper          *Keeper
	name            string
	spec            snapshot.ACME
	config          *certmagic.Config
	certKey, keyKey string // where certificate and key are kept
	stop            context.CancelFunc

	read atomic.Pointer[reading]

	mu   sync.Mutex
	err  error     // why the last attempt failed; under mu
	next time.Time // of the next attempt; under mu
}

// reading is a certificate as it was read from the store.
type reading struct {
	cert, key int64 // revisions
	pair      *tls.Certificate
}

// certificate returns what the store holds at this moment, whoever put it
// there. Between the writes of a new key and its certificate it is the old one.
func (d *domain) certificate() *tls.Certificate {
	h, was := d.keeper.opts.Documents.Head(), d.read.Load()
	cert, ok := h.Find(registry.KindACME, d.certKey)
	key, ok2 := h.Find(registry.KindACME, d.keyKey)
	if !ok || !ok2 {
		return nil
	}
	if was != nil && was.cert == cert.Revision && was.key == key.Revision {
		return was.pair
	}
	pair, err := tls.X509KeyPair(cert.Data, key.Data)
	if err == nil {
		err = pair.Leaf.VerifyHostname(d.name)
	}
	if err != nil {
		if was != nil {
			return was.pair
		}
		return nil
	}
	d.read.Store(&reading{cert.Revision, key.Revision, &pair})
	return &pair
}

// stored reports whether the store holds something for the Domain.
func (d *domain) stored() bool {
	h := d.keeper.opts.Documents.Head()
	_, cert := h.Find(registry.KindACME, d.certKey)
	_, key := h.Find(registry.KindACME, d.keyKey)
	return cert && key
}

// due is when a certificate is to be renewed. certmagic counts the second in
// which it ends as well, so it is a little later than the third.
func due(c *tls.Certificate) time.Time {
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	return c.Leaf.NotAfter.Add(-time.Duration(float64(life) * renewAt)).Add(time.Second)
}

// run obtains and renews until ctx ends.
func (d *domain) run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := d.keeper.opts.Now()
		if c := d.certificate(); c != nil && now.Before(due(c)) {
			failures = 0
			d.note(nil, due(c))
			t.Reset(min(due(c).Sub(now), look))
			continue
		}
		err := d.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			t.Reset(0) // to wait for its end
			continue
		}
		steps := d.keeper.opts.Backoff
		wait := steps[min(failures, len(steps)-1)]
		failures++
		d.note(err, d.keeper.opts.Now().Add(wait))
		d.keeper.opts.Log.Warn("a certificate could not be obtained", "domain", d.name, "directory", d.spec.Directory, "error", d.state().Err, "again_in", wait)
		t.Reset(wait)
	}
}

// attempt obtains or renews the certificate once. When it returns nil there is
// one that is not due.
func (d *domain) attempt(ctx context.Context) error {
	select {
	case d.keeper.slots <- struct{}{}:
		defer func() { <-d.keeper.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	// Another server may have been faster while this one waited for its turn:
	// both calls look again when they hold the lock.
	var err error
	switch {
	case d.certificate() != nil:
		err = d.config.RenewCertSync(ctx, d.name, false)
	case d.stored():
		// A crash between two writes has left a key beside another's certificate.
		err = d.config.RenewCertSync(ctx, d.name, true)
	default:
		err = d.config.ObtainCertSync(ctx, d.name)
	}
	if err != nil {
		return err
	}
	switch c := d.certificate(); {
	case c == nil:
		return errors.New("what the authority issued is no certificate for the Domain with its key")
	case !d.keeper.opts.Now().Before(due(c)):
		return fmt.Errorf("what the authority issued ends at %s; look at the clocks", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	default:
		d.keeper.opts.Log.Info("a certificate was obtained", "domain", d.name, "directory", d.spec.Directory, "until", c.Leaf.NotAfter)
		return nil
	}
}

func (d *domain) note(err error, next time.Time) {
	d.mu.Lock()
	d.err, d.next = err, next
	d.mu.Unlock()
}

func (d *domain) state() State {
	d.mu.Lock()
	s := State{Directory: d.spec.Directory, Err: d.err, Next: d.next}
	d.mu.Unlock()
	if s.Err != nil {
		s.Err = &Failure{text(s.Err, d.name), s.Err}
	}
	if c := d.certificate(); c != nil {
		s.Leaf = c.Leaf
	}
	return s
}

// Failure is why an authority issued no certificate, in one line of bounded
// length: part of it is the authority's words.
type Failure struct {
	text string
	err  error
}

// Error returns the line.
func (f *Failure) Error() string { return f.text }

// Unwrap returns the error itself.
func (f *Failure) Unwrap() error { return f.err }

// maxText bounds what is shown of an error.
const maxText = 400

func text(err error, name string) string {
	s := err.Error()
	for _, op := range []string{"Obtain: ", "Renew: "} {
		s = strings.TrimPrefix(s, "["+name+"] "+op)
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}
