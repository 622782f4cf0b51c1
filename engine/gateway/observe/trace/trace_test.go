// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/internal/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	good  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	quiet = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func TestATraceparentIsReadStrictly(t *testing.T) {
	for in, want := range map[string]string{
		good:  good,
		quiet: quiet,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03":      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff":      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      good,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more": good,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more":  "",
		good + "-more": "", good + "-": "", good + " ": "", " " + good: "", good[:54]: "", "": "", "00": "",
		"ff" + good[2:]:       "",
		"0g" + good[2:]:       "",
		strings.ToUpper(good): "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e473 -00f067aa0ba902b7-01": "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x": "",
	} {
		c, ok := Parse(in)
		got := ""
		if ok {
			got = string(c.Append(nil))
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(good)
	f.Add("cc" + good[2:] + "-x")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := Parse(s)
		if !ok {
			return
		}
		if out := string(c.Append(nil)); out[3:52] != s[3:52] {
			t.Fatalf("%q became %q", s, out)
		}
	})
}

func TestATracestateIsPassedOnIfItIsOne(t *testing.T) {
	long := strings.Repeat("k=v,", 40)
	for in, want := range map[string]bool{
		"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE": true, "a@b=1": true, "1a@b=1": true, " a=1 ,\tb=2": true, "a=1,,b=2": true, "a/b*c_d-e=x y": true,
		"": false, "a": false, "=1": false, "A=1": false, "1a=1": false, "a=1,a=2": false, "a=": false, "a=b=c": false, "a=\x7f": false, "a@=1": false, "@b=1": false,
		",": false, "a=" + strings.Repeat("x", 257): false, strings.Repeat("x", 513): false, long: false, "a@" + strings.Repeat("x", 15) + "=1": false,
	} {
		if got := validState(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestARequestIsInOneTraceOrInNone(t *testing.T) {
	for _, x := range []struct {
		fields []string
		ok     bool
		state  string
	}{
		{[]string{"Traceparent", good, "TraceState", "a=1"}, true, "a=1"},
		{[]string{"traceparent", good}, true, ""},
		{[]string{"traceparent", good, "tracestate", "A=1"}, true, ""},
		{[]string{"traceparent", good, "tracestate", "a=1", "tracestate", "b=1"}, true, ""},
		{[]string{"traceparent", good, "traceparent", good}, false, ""},
		{[]string{"traceparent", "x", "tracestate", "a=1"}, false, ""},
		{[]string{"tracestate", "a=1"}, false, ""},
	} {
		var h exchange.Header
		for i := 0; i < len(x.fields); i += 2 {
			h.Add(x.fields[i], x.fields[i+1])
		}
		c, state, ok := Read(&h)
		if ok != x.ok || state != x.state || !ok && c != (Context{}) {
			t.Errorf("%v: %v %q", x.fields, ok, state)
		}
	}
}

func TestAPartOfTheRequestsIsTraced(t *testing.T) {
	for _, ratio := range []float64{0, 0.25, 1} {
		tr := New(Options{Ratio: ratio})
		n := 0
		const of = 20000
		seen := map[[16]byte]bool{}
		for range of {
			c := tr.Begin()
			if c.Sampled {
				n++
			}
			seen[c.Trace] = true
		}
		if got := float64(n) / of; got < ratio-0.05 || got > ratio+0.05 || ratio == 1 && n != of || len(seen) != of {
			t.Errorf("%v of them at a ratio of %v, %d traces", got, ratio, len(seen))
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

// record is one request with a call.
func record(tr *Tracer) *Record {
	r := tr.Record()
	r.Context, _ = Parse(good)
	r.Parent = [8]byte{1}
	r.Start, r.Took = time.Unix(1000, 0), 3*time.Millisecond
	r.Status, r.TLS, r.Proto, r.Port = 504, true, exchange.HTTP2, 443
	r.Source = netip.MustParseAddrPort("[::ffff:192.0.2.7]:4000")
	r.Set(Method, "BREW")
	r.Set(Route, "/pets/{id}")
	r.Set(Path, "/pets/7")
	r.Set(Host, "a.example")
	r.Set(API, "shop")
	r.Set(Code, "backend/timeout")
	r.Called, r.Call, r.CallStart, r.CallTook, r.CallPort = true, [8]byte{2}, time.Unix(1000, 1e6), time.Millisecond, 8443
	r.Set(CallMethod, "GET")
	r.Set(CallScheme, "https")
	r.Set(CallHost, "2001:db8::1")
	r.Set(CallFailure, "timeout")
	return r
}

// shown writes a span.
func shown(s *otlp.Span) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x %x<%x %v %s client=%v %v failed=%v %s:", s.Trace, s.ID, s.Parent, s.Remote, s.Name, s.Client, s.End.Sub(s.Start), s.Failed, s.Message)
	for _, a := range s.Attributes {
		if a.Number != nil {
			fmt.Fprintf(&b, " %s=%d", a.Key, *a.Number)
		} else {
			fmt.Fprintf(&b, " %s=%s", a.Key, a.Text)
		}
	}
	return b.String()
}

func TestSpansHaveTheAttributesOfTheConventions(t *testing.T) {
	tr := New(Options{})
	defer tr.Close()
	spans := record(tr).appendSpans(nil)
	want := []string{
		"4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7<0100000000000000 true HTTP /pets/{id} client=false 3ms failed=true : http.request.method=_OTHER http.request.method_original=BREW http.route=/pets/{id} url.scheme=https url.path=/pets/7 server.address=a.example server.port=443 client.address=192.0.2.7 network.peer.address=192.0.2.7 network.peer.port=4000 network.protocol.version=2 http.response.status_code=504 postern.api=shop postern.code=backend/timeout error.type=504",
		"4bf92f3577b34da6a3ce929d0e0e4736 0200000000000000<00f067aa0ba902b7 false GET client=true 1ms failed=true timeout: http.request.method=GET server.address=2001:db8::1 server.port=8443 url.full=https://[2001:db8::1]:8443/ error.type=timeout",
	}
	for i, w := range want {
		if got := shown(&spans[i]); got != w {
			t.Errorf("got\n%s\nwant\n%s", got, w)
		}
	}
}

func TestSpansAreSentTogetherAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		tr := New(Options{Export: func(_ context.Context, s []otlp.Span) error {
			sizes = append(sizes, len(s))
			return nil
		}})
		tr.Add(record(tr))
		tr.Add(record(tr))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		tr.Add(record(tr))
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(sizes) != "[4 2]" || tr.Sent() != 6 || tr.Dropped() != 0 {
			t.Errorf("%v, %d sent, %d dropped", sizes, tr.Sent(), tr.Dropped())
		}
	})
}

func TestASilentCollectorHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told error
		tr := New(Options{
			Queue: 10, Failed: func(err error) { told = err },
			Export: func(ctx context.Context, _ []otlp.Span) error { // it answers nothing
				<-ctx.Done()
				return errors.New("no answer")
			},
		})
		tr.Add(record(tr))
		time.Sleep(2 * time.Second)
		for range 30 {
			tr.Add(record(tr))
		}
		if tr.Dropped() != 2*20 {
			t.Errorf("%d spans are dropped", tr.Dropped())
		}
		began := time.Now()
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second || told == nil || tr.Sent() != 0 {
			t.Errorf("closing took %v, told %v", took, told)
		}
	})
}

func TestARecordIsUsedAgainWithoutAllocation(t *testing.T) {
	tr := New(Options{})
	defer tr.Close()
	tr.release(record(tr))
	n := testing.AllocsPerRun(100, func() {
		r := record(tr)
		tr.release(r)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	var h exchange.Header
	for _, n := range []string{"Host", "User-Agent", "Accept", "Authorization", "X-Forwarded-For"} {
		h.Add(n, "x")
	}
	h.Add("traceparent", good)
	h.Add("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := Read(&h); !ok {
			b.Fatal("no trace")
		}
	}
}
