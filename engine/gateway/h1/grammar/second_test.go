// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/engine/gateway/exchange"
)

// forwarded is what a backend is sent for p.
func forwarded(p *parsed) ([]byte, *Error) {
	r := &p.r
	out, err := AppendRequest(nil, &Outgoing{
		Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, HasQuery: r.HasQuery,
		Authority: r.Authority, Header: &r.Header, Length: r.Length, Upgrade: r.Upgrade,
	})
	if err != nil {
		return nil, err
	}
	if r.Length >= 0 {
		return append(out, p.body...), nil
	}
	if p.body != "" {
		out = AppendChunkHead(out, len(p.body))
		out = append(out, p.body...)
		out = append(out, '\r', '\n')
	}
	return AppendLastChunk(out, nil)
}

// meaning is a request as a reader understands it.
type meaning struct {
	Method, Target, Host, Body, Rest string
	Fields                           []string
}

// first is our own reading.
func first(p *parsed) meaning {
	target := p.r.Path
	if p.r.HasQuery {
		target += "?" + p.r.RawQuery
	}
	m := meaning{Method: p.r.Method, Target: target, Host: p.r.Authority, Body: p.body, Rest: p.rest}
	h := make(http.Header)
	for f := range p.r.Header.All() {
		if which(f.Name) == other || which(f.Name) == fieldDate {
			h.Add(f.Name, f.Value)
		}
	}
	m.Fields = flat(h)
	return m
}

// second is the reading of net/http.
func second(in []byte) (meaning, error) {
	br := bufio.NewReader(bytes.NewReader(in))
	r, err := http.ReadRequest(br)
	if err != nil {
		return meaning{}, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return meaning{}, err
	}
	rest, err := io.ReadAll(br)
	if err != nil {
		return meaning{}, err
	}
	target := r.RequestURI
	if i := strings.Index(target, "://"); i > 0 && target[0] != '/' { // an absolute target, read to its parts
		target = r.URL.RequestURI()
		if r.URL.Path == "" && r.URL.RawQuery != "" {
			target = "/?" + r.URL.RawQuery
		}
	}
	m := meaning{Method: r.Method, Target: target, Host: r.Host, Body: string(body), Rest: string(rest)}
	for _, n := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Content-Length", "Transfer-Encoding", "Expect"} {
		r.Header.Del(n)
	}
	m.Fields = flat(r.Header)
	return m, nil
}

// flat lists fields by name, values in order. The Cache-Control that net/http derives from Pragma is its own doing.
func flat(h http.Header) []string {
	var out []string
	for n, vs := range h {
		if http.CanonicalHeaderKey(n) == "Cache-Control" {
			continue
		}
		out = append(out, fmt.Sprintf("%s %q", http.CanonicalHeaderKey(n), vs))
	}
	slices.Sort(out)
	return out
}

// oneMeaning checks that what we forward for p is read by net/http as we read the original, that reading and writing it
// again changes nothing, and that net/http, where it accepts the original, reads it the same way.
func oneMeaning(t *testing.T, in string, p *parsed) {
	t.Helper()
	out, bad := forwarded(p)
	if bad != nil {
		t.Fatalf("%q was accepted but cannot be sent: %v", in, bad)
	}
	ours := first(p)
	ours.Rest = ""
	theirs, err := second(out)
	if err != nil {
		t.Fatalf("net/http refuses what we forward for %q: %q: %v", in, out, err)
	}
	if d := cmp.Diff(ours, theirs); d != "" {
		t.Fatalf("net/http reads what we forward otherwise (-ours +theirs), from %q:\n%s", in, d)
	}
	again, err := parse(bytes.NewReader(out), Limits{Fields: 20 << 10, Count: 200}.WithDefaults())
	if err != nil {
		t.Fatalf("we refuse what we forward for %q: %q: %v", in, out, err)
	}
	if twice, bad := forwarded(again); bad != nil || !bytes.Equal(twice, out) {
		t.Fatalf("forwarding is no fixed point: %q, then %q, %v", out, twice, bad)
	}
	theirs, err = second([]byte(strings.TrimPrefix(in, "\r\n")))
	if err != nil {
		return // stricter than we are, which is its right
	}
	ours = first(p)
	if exchange.EqualFold(theirs.Host, ours.Host) { // of an absolute target's and Host's spelling we keep the latter
		theirs.Host = ours.Host
	}
	hop := make(map[string]bool) // net/http leaves it to the proxy to remove what Connection lists
	for _, l := range strings.Split(in, "\r\n") {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, "Connection") {
			for _, o := range strings.Split(v, ",") {
				hop[http.CanonicalHeaderKey(strings.TrimSpace(o))] = true
			}
		}
	}
	kept := theirs.Fields[:0]
	for _, f := range theirs.Fields {
		if n, _, _ := strings.Cut(f, " "); !hop[n] {
			kept = append(kept, f)
		}
	}
	theirs.Fields = kept
	if len(kept) == 0 {
		theirs.Fields = nil
	}
	if d := cmp.Diff(ours, theirs); d != "" {
		t.Fatalf("net/http reads the original otherwise (-ours +theirs): %q:\n%s", in, d)
	}
}
