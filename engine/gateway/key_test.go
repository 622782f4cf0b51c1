// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/key"
)

// keyed has the lab's public API ask for keys, and returns one with limits.
func (l *lab) keyed(t testing.TB, p *snapshot.Product) string {
	t.Helper()
	secret, _, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	value, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := secret.Hash(value)
	ops := l.pub.Stages["prod"].Deployment.Operations
	ops.Keyed = true
	for i := range ops.Operations {
		ops.Operations[i].KeyRequired = true
	}
	p.Name, p.APIs = "basic", map[*snapshot.API]bool{l.pub: true}
	l.g.Keys = snapshot.NewKeys(secret)
	l.g.Keys.Add(sum, &snapshot.Key{ID: "k", Subscription: &snapshot.Subscription{Name: "checkout", Product: p}})
	s := *l.s
	s.Meters = []string{"Key/k"}
	l.Swap(&s)
	return value
}

func TestARequestWithAKeyAndLimitsCostsNoAllocation(t *testing.T) {
	var c net.Conn
	_, l := speak(t, func(l *lab) net.Conn { c = l.connect(t, false, 80); return c })
	value := l.keyed(t, &snapshot.Product{
		Throttle: &snapshot.Throttle{Rate: 1e6, Burst: 1e6, Interval: 1e3}, Quota: &snapshot.Quota{Limit: 1e12, Period: model.PeriodMonth},
	})
	request := fmt.Appendf(nil, "GET /prod/x/42 HTTP/1.1\r\nHost: %s\r\nx-api-key: %s\r\n\r\n", l.pub.Host, value)
	buf, ok := make([]byte, 8192), []byte("\r\n\r\nok")
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], ok) {
			t.Fatalf("%v: %q", err, buf[:n])
		}
	}
	for range 2 * remembered { // until every buffer has been there before
		ask()
	}
	if n := testing.AllocsPerRun(200, ask); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAKeyThatIsRepeatedOpensNothing(t *testing.T) {
	var c net.Conn
	_, l := speak(t, func(l *lab) net.Conn { c = l.connect(t, false, 80); return c })
	value := l.keyed(t, &snapshot.Product{})
	for fields, want := range map[string]string{
		"x-api-key: " + value + "\r\n":                                    "HTTP/1.1 200 ",
		"x-api-key: " + value + "\r\nX-API-Key: " + value + "\r\n":        "HTTP/1.1 403 ",
		"x-api-key: wrong\r\nX-API-Key: " + value + "\r\n":                "HTTP/1.1 403 ",
		"x-api-key: " + value + "\r\nAccept: */*\r\nx-api-key: wrong\r\n": "HTTP/1.1 403 ",
	} {
		if _, err := fmt.Fprintf(c, "GET /prod/x/42 HTTP/1.1\r\nHost: %s\r\n%s\r\n", l.pub.Host, fields); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 8192)
		if n, err := c.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte(want)) {
			t.Errorf("%q, want %q", buf[:n], want)
		}
	}
}

func TestWhoseKeyWasShownIsRememberedAsLongAsTheRequest(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	value := l.keyed(t, &snapshot.Product{Throttle: &snapshot.Throttle{Rate: 0.001, Burst: 2, Interval: 1e12}})
	ask := func(header map[string]string) (id, code string) {
		res, _ := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/pets", header, "")
		id = res.Header.Get("x-postern-request-id")
		r, ok := l.Recent(id)
		if !ok {
			t.Fatal("the request is not remembered")
		}
		return id, r.Code
	}
	for i, want := range []struct {
		header       map[string]string
		code         string
		subscription string
		limit        model.Kind
	}{
		{nil, "auth/key-missing", "", ""},
		{map[string]string{"x-api-key": "wrong"}, "auth/key-unknown", "", ""},
		{map[string]string{"X-API-Key": value}, "backend/ok", "checkout", ""},
		{map[string]string{"x-api-key": value}, "backend/ok", "checkout", ""},
		{map[string]string{"x-api-key": value}, "limit/throttled", "checkout", model.KindProduct},
	} {
		id, code := ask(want.header)
		s, limit := l.Key(id)
		if code != want.code || s != want.subscription || limit != want.limit {
			t.Errorf("request %d: %s, %q, %q", i, code, s, limit)
		}
	}
	if s, limit := l.Key("of nobody"); s != "" || limit != "" {
		t.Errorf("%q, %q", s, limit)
	}
}
