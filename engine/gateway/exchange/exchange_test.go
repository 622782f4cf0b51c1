// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exchange

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func header(pairs ...string) *Header {
	h := &Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func text(h *Header) string {
	var b strings.Builder
	for f := range h.All() {
		b.WriteString(f.Name + "=" + f.Value + " ")
	}
	return b.String()
}

func TestHeaderKeepsOrderAndIgnoresCase(t *testing.T) {
	h := header("A", "1", "b", "2", "a", "3")
	if h.Get("a") != "1" || !h.Has("B") || h.Has("c") || h.Count("A") != 2 || h.Len() != 3 || h.At(1).Name != "b" {
		t.Errorf("%s", text(h))
	}
	if got := slices.Collect(h.Values("A")); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("values %v", got)
	}
	c := &Header{}
	c.CopyFrom(h)
	h.Set("A", "9")
	h.Set("d", "4")
	h.Del("B")
	if text(h) != "A=9 d=4 " || text(c) != "A=1 b=2 a=3 " {
		t.Errorf("%s / %s", text(h), text(c))
	}
	h.Reset()
	if h.Len() != 0 {
		t.Error("something is left")
	}
}

func TestOnlyLettersFold(t *testing.T) {
	for _, p := range [][2]string{{"@a", "`a"}, {"[", "{"}, {"a", "b"}, {"a", "aa"}, {"\xc3", "\xe3"}, {"\x00", " "}} {
		if EqualFold(p[0], p[1]) {
			t.Errorf("%q equals %q", p[0], p[1])
		}
	}
	if !EqualFold("X-Api-KEY", "x-aPI-key") {
		t.Error("case matters")
	}
}

func TestAuthorityIsTakenApart(t *testing.T) {
	var r Request
	for in, want := range map[string][2]string{
		"a.example": {"a.example", ""}, "A.Example:8443": {"a.example", "8443"}, "[2001:DB8::1]": {"2001:db8::1", ""},
		"[::1]:80": {"::1", "80"}, "": {"", ""},
	} {
		r.SetAuthority(in)
		if r.Authority != in || r.Host != want[0] || r.Port != want[1] {
			t.Errorf("%q: host %q, port %q", in, r.Host, r.Port)
		}
	}
}

func TestPathDecodes(t *testing.T) {
	for in, want := range map[string]string{"/a": "/a", "/%41%2fb%c3%a9": "/A/b\xc3\xa9", "/%": "", "/%4": "", "/%zz": "", "/%25": "/%"} {
		r := Request{Path: in}
		got, ok := r.DecodedPath()
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}

// watched is a body that records what is done to it.
type watched struct {
	io.Reader
	log  *[]string
	name string
}

func (w watched) Settle()      { *w.log = append(*w.log, "settle "+w.name) }
func (w watched) Close() error { *w.log = append(*w.log, "close "+w.name); return nil }

func TestFinishSettlesThenTellsThenCloses(t *testing.T) {
	var log []string
	e := &Exchange{}
	for range 2 { // an exchange is used again
		log = nil
		e.Begin(context.Background(), time.Now())
		e.OnDone(func(*Exchange) { log = append(log, "outer") })
		e.OnDone(func(e *Exchange) { log = append(log, "inner "+e.Response.Header.Get("X")) })
		e.SetBody(watched{strings.NewReader("a"), &log, "a"}, 1)
		e.SetBody(watched{strings.NewReader("b"), &log, "b"}, 1)
		e.Reply(404, []Field{{"X", "y"}}, []byte("gone"))
		b, err := io.ReadAll(e.Response.Body)
		if string(b) != "gone" || err != nil || e.Response.Length != 4 || e.Response.Status != 404 {
			t.Errorf("the reply is %q, %v", b, err)
		}
		if err := e.Finish(); err != nil {
			t.Error(err)
		}
		if got := strings.Join(log, ", "); got != "settle a, settle b, inner y, outer, close a, close b" {
			t.Errorf("order: %s", got)
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	e := &Exchange{}
	seen := map[string]bool{}
	for range 100 {
		e.Begin(context.Background(), time.Now())
		id := strings.Clone(e.ID())
		if id != e.ID() || seen[id] {
			t.Fatalf("id %s comes twice, or does not stay", id)
		}
		seen[id] = true
	}
}

func TestAFinishedExchangeKeepsNoBody(t *testing.T) {
	var e Exchange
	e.Begin(t.Context(), time.Now())
	e.Request.Body = strings.NewReader("large")
	e.Reply(200, nil, []byte("large"))
	if err := e.Finish(); err != nil {
		t.Fatal(err)
	}
	if e.Request.Body != NoBody || e.Response.Body != nil || e.Response.inline.b != nil {
		t.Errorf("kept: %v, %v", e.Request.Body, e.Response.Body)
	}
}
