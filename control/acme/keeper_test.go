// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

const (
	shop = "shop.example"
	day  = 24 * time.Hour
)

// authority issues certificates of 90 days, or fails.
type authority struct {
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	err    error
	asked  []time.Time
	serial int64
	// before, if set, is called while the certificate is being made.
	before func()
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: k}
}

func (a *authority) IssuerKey() string { return "test" }

func (a *authority) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, time.Now())
	if a.before != nil {
		a.before()
	}
	if a.err != nil {
		return nil, a.err
	}
	a.serial++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.serial), DNSNames: csr.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().Add(90 * day)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, csr.PublicKey, a.key)
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}

func (a *authority) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *authority) calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// open opens the documents that s holds, as one server does.
func open(t *testing.T, s store.Store) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), registry.Options{
		Store:   s,
		Compile: func(in registry.Input) registry.Output { return registry.Output{Snapshot: &snapshot.Snapshot{}} },
		Publish: func(*snapshot.Snapshot) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keeper(docs Documents, a *authority) *Keeper {
	k := New(Options{Documents: docs})
	if a != nil {
		k.issue = func(snapshot.ACME) certmagic.Issuer { return a }
	}
	return k
}

func asking(names ...string) *snapshot.Snapshot {
	g := &snapshot.Gateway{Hosts: map[string]*snapshot.Host{"own": {Kind: snapshot.HostOwn}}}
	for _, n := range names {
		g.Hosts[n] = &snapshot.Host{Kind: snapshot.HostDomain, Domain: &snapshot.Domain{Name: n, ACME: &snapshot.ACME{Directory: "https://acme.test/dir"}}}
	}
	return &snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"main": g}}
}

func serial(t *testing.T, k *Keeper) int64 {
	t.Helper()
	c, ok := k.Certificate("Shop.Example.")
	if !ok {
		t.Fatal("there is no certificate")
	}
	if err := c.Leaf.VerifyHostname(shop); err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

// bubble runs f with a store, one server's documents and a Keeper on an
// authority.
func bubble(t *testing.T, f func(*testing.T, *Keeper, *authority, store.Store)) {
	t.Helper()
	a := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(store.Limits{})
		r := open(t, s)
		k := keeper(r, a)
		f(t, k, a, s)
		for _, c := range []interface{ Close() error }{k, k, r, s} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestACertificateIsObtainedAndRenewedBeforeItEnds(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, _ store.Store) {
		k.Follow(asking())
		synctest.Wait()
		if a.calls() != 0 {
			t.Fatal("an authority was asked although no Domain asks for it")
		}
		k.Follow(asking(shop))
		synctest.Wait()
		if n := serial(t, k); n != 1 {
			t.Fatalf("serial number %d, want 1", n)
		}
		if _, ok := k.Certificate("other.example"); ok {
			t.Error("there is a certificate for a name that no Domain has")
		}
		k.Follow(asking(shop)) // as after each change of anything
		time.Sleep(59 * day)
		synctest.Wait()
		if n := a.calls(); n != 1 {
			t.Fatalf("asked %d times within two thirds of the certificate's time", n)
		}
		time.Sleep(2 * day)
		synctest.Wait()
		if n := serial(t, k); n != 2 || a.calls() != 2 {
			t.Errorf("serial number %d after %d calls, want the second", n, a.calls())
		}
		if s, ok := k.State(shop); !ok || s.Err != nil || s.Leaf == nil || s.Directory != "https://acme.test/dir" {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnAuthorityThatFailsIsAskedLessAndLess(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, _ store.Store) {
		a.fail(errors.New("rate limit:\nlater\x1b[31m, please " + strings.Repeat("x", 1000)))
		k.Follow(asking(shop))
		time.Sleep(day)
		synctest.Wait()
		// After 0, 30 s, 2.5 min, 12.5 min, 42.5 min, 1:42, 4:42, 10:42, 16:42, 22:42.
		if n := a.calls(); n != 10 {
			t.Errorf("asked %d times in a day, want 10: %v", n, a.asked)
		}
		s, _ := k.State(shop)
		if s.Err == nil || !strings.HasPrefix(s.Err.Error(), "rate limit: later [31m, please x") || len(s.Err.Error()) > maxText+3 {
			t.Errorf("%v", s.Err)
		}
		if wait := time.Until(s.Next); wait <= 0 || wait > 6*time.Hour {
			t.Errorf("the next attempt is said to be in %s", wait)
		}
		if _, ok := k.Certificate(shop); ok {
			t.Error("there is a certificate all the same")
		}
		a.fail(nil)
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if s, _ := k.State(shop); s.Err != nil || serial(t, k) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestARenewalThatFailsLeavesTheCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, _ store.Store) {
		k.Follow(asking(shop))
		synctest.Wait()
		a.fail(errors.New("out of order"))
		time.Sleep(61 * day)
		synctest.Wait()
		if s, _ := k.State(shop); s.Err == nil || serial(t, k) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestServersOfOneClusterTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, s store.Store) {
		r := open(t, s)
		other := keeper(r, a)
		held := make(chan struct{})
		a.before = func() { <-held }
		k.Follow(asking(shop))
		other.Follow(asking(shop))
		// Longer than a lease: who works keeps the lock.
		time.Sleep(2 * time.Minute)
		close(held)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := a.calls(); n != 1 {
			t.Errorf("the authority was asked %d times", n)
		}
		if serial(t, k) != 1 || serial(t, other) != 1 {
			t.Error("the servers do not share the certificate")
		}
		time.Sleep(61 * day)
		synctest.Wait()
		if n := a.calls(); n != 2 || serial(t, k) != 2 || serial(t, other) != 2 {
			t.Errorf("%d calls after the renewal", n)
		}
		if err := errors.Join(other.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestAKeyBesideAnothersCertificateIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, s store.Store) {
		k.Follow(asking(shop))
		synctest.Wait()
		d := (*k.domains.Load())[shop]
		fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text, err := certmagic.PEMEncodePrivateKey(fresh)
		if err != nil {
			t.Fatal(err)
		}
		if err := (&storage{docs: k.opts.Documents}).Store(t.Context(), d.keyKey, text); err != nil {
			t.Fatal(err)
		}
		if serial(t, k) != 1 {
			t.Error("a running server lost its certificate")
		}
		r := open(t, s) // one that starts now
		other := keeper(r, a)
		other.Follow(asking(shop))
		synctest.Wait()
		if serial(t, other) != 2 || serial(t, k) != 2 {
			t.Error("the pair was not replaced")
		}
		if err := errors.Join(other.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestADomainThatIsGoneIsNoLongerKept(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, a *authority, _ store.Store) {
		k.Follow(asking(shop))
		synctest.Wait()
		k.Follow(asking())
		time.Sleep(80 * day)
		synctest.Wait()
		if n := a.calls(); n != 1 {
			t.Errorf("it was renewed: %d calls", n)
		}
		if _, ok := k.Certificate(shop); ok {
			t.Error("it is handed out")
		}
		files := func() int { return len(k.opts.Documents.Head().Documents(registry.KindACME)) }
		if files() != 3 {
			t.Errorf("%d files are kept; the Domain may come back", files())
		}
		time.Sleep(42 * day) // 30 after its end
		synctest.Wait()
		if n := files(); n != 0 {
			t.Errorf("%d files are kept long after the end of the certificate", n)
		}
	})
}

func TestAnAuthorityThatCannotBeDialledIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(store.Limits{})
		r := open(t, s)
		dialled := ""
		k := New(Options{Documents: r, Dial: func(_ context.Context, host string, port uint16) (net.Conn, error) {
			dialled = host
			return nil, errors.New("may not be dialled")
		}})
		k.Follow(asking(shop))
		time.Sleep(time.Minute) // it tries a few times at once
		synctest.Wait()
		if st, _ := k.State(shop); st.Err == nil || !strings.Contains(st.Err.Error(), "may not be dialled") || dialled != "acme.test" {
			t.Errorf("%v; dialled %q", st.Err, dialled)
		}
		if err := errors.Join(k.Close(), r.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestHandshakesDoNotAllocateForTheCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, k *Keeper, _ *authority, _ store.Store) {
		k.Follow(asking(shop))
		synctest.Wait()
		var c *tls.Certificate
		if n := testing.AllocsPerRun(100, func() { c, _ = k.Certificate(shop) }); n != 0 || c == nil {
			t.Errorf("%v allocations", n)
		}
	})
}

// Follow runs with every publication: ten thousand names, one of which asks.
func BenchmarkFollow(b *testing.B) {
	s := mem.New(store.Limits{})
	r, err := registry.Open(b.Context(), registry.Options{
		Store:   s,
		Compile: func(registry.Input) registry.Output { return registry.Output{Snapshot: &snapshot.Snapshot{}} },
		Publish: func(*snapshot.Snapshot) {},
	})
	if err != nil {
		b.Fatal(err)
	}
	k := New(Options{Documents: r, Dial: func(context.Context, string, uint16) (net.Conn, error) { return nil, errors.New("no") }})
	snap := asking(shop)
	for i := range 10_000 {
		snap.Gateways["main"].Hosts[strconv.Itoa(i)] = &snapshot.Host{Kind: snapshot.HostExecuteAPI}
	}
	for b.Loop() {
		k.Follow(snap)
	}
	if err := errors.Join(k.Close(), r.Close(), s.Close()); err != nil {
		b.Fatal(err)
	}
}
