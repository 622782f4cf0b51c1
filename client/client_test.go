// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	c, err := New(Options{Address: s.URL, CA: string(ca), Token: model.NewSecret("postern_hush")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestErrorsComeBackAsTheyWere(t *testing.T) {
	for _, k := range model.ErrorKinds {
		want := model.Errors{
			{Kind: k, Ref: model.Ref{Kind: model.KindHost, Name: "a"}, Field: "spec.subnet", Msg: "first"},
			{Kind: k, Position: model.Position{File: "f", Line: 1, Column: 2}, Msg: "second"},
		}
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", wire.ProblemType)
			w.WriteHeader(418)
			if err := json.NewEncoder(w).Encode(wire.Problem{Type: wire.ProblemTypeOf(k), Errors: wire.FaultsOf(want)}); err != nil {
				t.Error(err)
			}
		})
		_, err := c.Tokens(t.Context())
		var got model.Errors
		if !errors.As(err, &got) {
			t.Fatalf("%s: %v", k, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestProblemWithoutErrorsIsOneError(t *testing.T) {
	for typ, want := range map[string]model.ErrorKind{
		wire.ProblemTypeOf(model.Limited): model.Limited, "about:blank": model.Internal, wire.ProblemTypeOf("unheard_of"): model.Internal,
	} {
		p := wire.Problem{Type: typ, Title: "t", Detail: "d"}
		e, ok := errors.AsType[*model.Error](p.Err())
		if !ok || e.Kind != want || e.Msg != "d" {
			t.Errorf("%s: %v", typ, p.Err())
		}
	}
}

func TestServerThatIsNoneIsTold(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	if _, err := c.Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("got %v", err)
	}
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
	})
	if _, err := c.Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("a redirect: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	away, err := New(Options{Address: "https://" + addr, Token: model.NewSecret("postern_hush")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = away.Tokens(t.Context())
	e, ok := errors.AsType[*model.Error](err)
	if !ok || e.Kind != model.Unavailable || !strings.Contains(e.Msg, "is postern server running?") || strings.Contains(err.Error(), "hush") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestAWriteWhoseAnswerIsLostMayHaveHappened(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := c.RevokeToken(t.Context(), "x")
	if e, ok := errors.AsType[*model.Error](err); !ok || e.Kind != model.Unavailable || !strings.Contains(e.Msg, "may have been made or not") {
		t.Errorf("a write: %v", err)
	}
	if _, err := c.Tokens(t.Context()); err == nil || strings.Contains(err.Error(), "may have been made") {
		t.Errorf("a read: %v", err)
	}
}

func TestCertificateOfAnotherServerIsRefused(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	c, err := New(Options{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []Options{{Address: "http://127.0.0.1"}, {Address: "127.0.0.1:3443"}, {Address: "https://x", CA: "no PEM"}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if shown := fmt.Sprintf("%v %+v", Options{Token: model.NewSecret("hush")}, *c); strings.Contains(shown, "hush") {
		t.Error("the token shows")
	}
}

func TestListReadsEveryPage(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer postern_hush" {
			t.Errorf("Authorization: %q", got)
		}
		if r.URL.Path != "/v1/apis" || r.URL.Query().Get("label") != "a=b" {
			t.Errorf("asked for %s", r.URL)
		}
		page := map[string]string{"": `{"items":[{"kind":"API","metadata":{"name":"a"}}],"continue":"a"}`, "a": `{"items":[{"kind":"API","metadata":{"name":"b"}}]}`}
		fmt.Fprint(w, page[r.URL.Query().Get("continue")])
	})
	got, err := c.List(t.Context(), model.KindAPI, "a=b")
	if err != nil || len(got) != 2 || got[1].Metadata.Name != "b" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNamesAreEscapedInPaths(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/v1/domains/%2A.shop.example%2Fx" {
			t.Errorf("asked for %s", r.URL.EscapedPath())
		}
		fmt.Fprint(w, "{}")
	})
	if _, err := c.Get(t.Context(), model.Ref{Kind: model.KindDomain, Name: "*.shop.example/x"}); err != nil {
		t.Error(err)
	}
}
