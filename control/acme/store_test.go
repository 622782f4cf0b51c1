// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mholt/acmez/v3/acme"

	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

func TestStorageIsATreeOfFiles(t *testing.T) {
	s := mem.New(store.Limits{})
	r := open(t, s)
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	x, ctx := &storage{docs: r}, t.Context()
	for _, k := range []string{"a/b/1", "a/b/2", "a/c/d/3", "ab/4"} {
		if err := x.Store(ctx, k, []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := x.Load(ctx, "a/b/2"); err != nil || string(b) != "a/b/2" {
		t.Errorf("%q, %v", b, err)
	}
	for _, k := range []string{"a/b", "a/x"} {
		if _, err := x.Load(ctx, k); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load %s: %v", k, err)
		}
	}
	for _, c := range []struct {
		path      string
		recursive bool
		want      string
	}{
		{"a", false, "a/b a/c"},
		{"a", true, "a/b a/b/1 a/b/2 a/c a/c/d a/c/d/3"},
		{"", false, "a ab"},
	} {
		got, err := x.List(ctx, c.path, c.recursive)
		if d := cmp.Diff(c.want, strings.Join(got, " ")); err != nil || d != "" {
			t.Errorf("List %q: %v %s", c.path, err, d)
		}
	}
	if i, err := x.Stat(ctx, "a/b/1"); err != nil || !i.IsTerminal || i.Size != 5 {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := x.Stat(ctx, "a/b"); err != nil || i.IsTerminal {
		t.Errorf("%+v, %v", i, err)
	}
	for _, k := range []string{"a", "a", "nothing"} {
		if err := x.Delete(ctx, k); err != nil {
			t.Errorf("Delete %s: %v", k, err)
		}
	}
	if x.Exists(ctx, "a/c/d/3") || x.Exists(ctx, "a") || !x.Exists(ctx, "ab/4") {
		t.Error("Delete took too much or too little")
	}
	if _, err := x.List(ctx, "a", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of what is not there: %v", err)
	}
}

// lockers runs f with the locks of two servers on one store.
func lockers(t *testing.T, f func(t *testing.T, a, b *locks)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(store.Limits{})
		r, q := open(t, s), open(t, s)
		f(t, newLocks(r, 30*time.Second, time.Now), newLocks(q, 30*time.Second, time.Now))
		synctest.Wait()
		if err := errors.Join(r.Close(), q.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestALockIsOneServersUntilItIsReleased(t *testing.T) {
	lockers(t, func(t *testing.T, a, b *locks) {
		if err := a.Lock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if err := b.Lock(t.Context(), "y"); err != nil {
			t.Fatal("another lock is held too:", err)
		}
		short, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := b.Lock(short, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the lock of a server that lives was taken over: %v", err)
		}
		got := make(chan error, 1)
		go func() { got <- b.Lock(t.Context(), "x") }()
		synctest.Wait()
		if err := a.Unlock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-got; err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if err := a.Unlock(t.Context(), "x"); err == nil {
			t.Error("a lock was released twice")
		}
		if err := errors.Join(b.Unlock(t.Context(), "x"), b.Unlock(t.Context(), "y")); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLockOfAServerThatHasGoneIsTakenOver(t *testing.T) {
	lockers(t, func(t *testing.T, a, b *locks) {
		if err := a.Lock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		a.held["x"].stop() // its heart stops, the document stays
		began := time.Now()
		if err := b.Lock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 35*time.Second {
			t.Errorf("it was taken over after %s, want a lease", took)
		}
		// The one that was away comes back and must not take it from its holder.
		if err := a.Unlock(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.Lock(short, "x"); err == nil {
			t.Error("two servers hold one lock")
		}
		if err := b.Unlock(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	})
}

func TestChallengesAreAnsweredByEveryServer(t *testing.T) {
	s := mem.New(store.Limits{})
	r, q := open(t, s), open(t, s)
	asked, other := keeper(r, newAuthority(t)), keeper(q, newAuthority(t))
	t.Cleanup(func() {
		if err := errors.Join(asked.Close(), other.Close(), r.Close(), q.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	p, id := presenter{r}, acme.Identifier{Type: "dns", Value: shop}
	web := acme.Challenge{Type: acme.ChallengeTypeHTTP01, Token: "token", KeyAuthorization: "token.print", Identifier: id}
	hello := acme.Challenge{Type: acme.ChallengeTypeTLSALPN01, Token: "other", KeyAuthorization: "other.print", Identifier: id}
	for _, c := range []acme.Challenge{web, hello} {
		if err := p.Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for q.Head().Revision < r.Head().Revision { // it follows
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		default:
		}
	}
	for n, k := range []*Keeper{asked, other} {
		if got, ok := k.HTTP01("Shop.Example:80", "token"); !ok || got != "token.print" {
			t.Errorf("server %d: %q, %t", n, got, ok)
		}
		for host, token := range map[string]string{shop: "tokem", "other.example": "token"} {
			if _, ok := k.HTTP01(host, token); ok {
				t.Errorf("server %d answers for %s and %s", n, host, token)
			}
		}
		c, ok := k.TLSALPN("SHOP.example")
		if !ok || !proves(t, c.Certificate[0]) {
			t.Errorf("server %d: no certificate that proves the name", n)
		}
		if _, ok := k.TLSALPN("other.example"); ok {
			t.Errorf("server %d proves a name it was not asked for", n)
		}
	}
	for _, c := range []acme.Challenge{web, hello} {
		if err := p.CleanUp(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := asked.HTTP01(shop, "token"); ok {
		t.Error("a challenge that is over is answered")
	}
	if _, ok := asked.TLSALPN(shop); ok {
		t.Error("a challenge that is over is answered")
	}
}

// proves reports whether a certificate is one of RFC 8737, 3: for the name
// alone, with the critical extension.
func proves(t *testing.T, der []byte) bool {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical {
			return len(c.DNSNames) == 1 && c.DNSNames[0] == shop
		}
	}
	return false
}
