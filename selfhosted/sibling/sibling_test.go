// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sibling

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

func key(t *testing.T, token string) *Key {
	t.Helper()
	k, err := NewKey(model.NewSecret(token))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ask(t *testing.T, k *Key) *Question {
	t.Helper()
	q, err := k.Ask()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func answer(k *Key, header string, document []byte) ([]byte, error) {
	q, err := k.Read(header)
	if err != nil {
		return nil, err
	}
	return q.Answer(document)
}

func TestWhoHasTheTokenIsAnsweredAndBelieved(t *testing.T) {
	k := key(t, "GatewayKey a&1&x")
	q := ask(t, k)
	sealed, err := answer(key(t, "GatewayKey a&1&x"), q.Header(), []byte("the document"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := q.Open(sealed); err != nil || string(plain) != "the document" {
		t.Errorf("opened: %q, %v", plain, err)
	}
	if bytes.Contains(sealed, []byte("document")) || strings.Contains(q.Header(), "GatewayKey") {
		t.Error("the document or the token is on the wire")
	}
	for n := range sealed {
		bad := bytes.Clone(sealed)
		bad[n] ^= 1
		if _, err := q.Open(bad); err == nil {
			t.Fatalf("a bit flipped at %d is not seen", n)
		}
		if _, err := q.Open(sealed[:n]); err == nil {
			t.Fatalf("a cut at %d is not seen", n)
		}
	}
}

func TestStrangersGetNothing(t *testing.T) {
	k, other := key(t, "one"), key(t, "two")
	q := ask(t, other)
	if _, err := answer(k, q.Header(), []byte("x")); !errors.Is(err, ErrStranger) {
		t.Errorf("a stranger's question: %v", err)
	}
	sealed, err := answer(other, q.Header(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, k).Open(sealed); !errors.Is(err, ErrStranger) {
		t.Errorf("a stranger's answer: %v", err)
	}
	// Somebody who listened asks the same again, and gets another's answer.
	mine := ask(t, k)
	again, err := answer(k, mine.Header(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, k).Open(again); !errors.Is(err, ErrStranger) {
		t.Errorf("an answer to another question: %v", err)
	}
	for _, bad := range []string{"", "1", "1 x y", "2" + mine.Header()[1:], mine.Header() + "x", strings.Replace(mine.Header(), " ", "  ", 1)} {
		if _, err := answer(k, bad, nil); err == nil {
			t.Errorf("%q is answered", bad)
		}
	}
	if _, err := NewKey(model.Secret{}); err == nil {
		t.Error("no token makes a key")
	}
}

// TestTheNewestOfAllIsTaken asks four instances at addresses of their own.
func TestTheNewestOfAllIsTaken(t *testing.T) {
	k := key(t, "token")
	serve := func(k *Key, doc *configuration.Document, status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status != 0 {
				w.WriteHeader(status)
				return
			}
			plain, err := doc.Encode()
			if err != nil {
				t.Error(err)
			}
			sealed, err := answer(k, r.Header.Get(Header), plain)
			if err != nil {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Type", ContentType)
			_, _ = w.Write(sealed)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	doc := func(revision int64, name string) *configuration.Document {
		return &configuration.Document{Revision: revision, For: name, Gateway: "corp"}
	}
	errOther := errors.New("it is of another gateway")
	at := map[string]string{
		"10.0.0.1:8080": serve(k, nil, http.StatusServiceUnavailable),
		"10.0.0.2:8080": serve(k, doc(3, "edge"), 0),
		"10.0.0.3:8080": serve(k, doc(5, "edge"), 0),
		"10.0.0.4:8080": serve(key(t, "other"), doc(9, "edge"), 0),
		"10.0.0.5:8080": serve(k, doc(8, "foreign"), 0),
	}
	n := &Neighborhood{
		Key: k, Host: "edge.local", Port: 8080,
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "edge.local" {
				t.Errorf("looked up %s", host)
			}
			var out []netip.Addr
			for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"} {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			to, ok := at[address]
			if !ok {
				return nil, errors.New("refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
		Check: func(d *configuration.Document) error {
			if d.For != "edge" {
				return errOther
			}
			return nil
		},
	}
	got, from, err := n.Fetch(t.Context())
	if err != nil || got.Revision != 5 || from != "10.0.0.3:8080" {
		t.Errorf("fetched %+v from %s, %v", got, from, err)
	}
	delete(at, "10.0.0.2:8080")
	delete(at, "10.0.0.3:8080")
	_, _, err = n.Fetch(t.Context())
	if !errors.Is(err, ErrAlone) || !errors.Is(err, ErrStranger) || !errors.Is(err, errOther) {
		t.Errorf("where nobody has one: %v", err)
	}
}
