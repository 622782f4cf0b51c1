// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/selfhosted/setting"
)

// during runs a Link in a bubble until f returns.
func during(t *testing.T, f func(t *testing.T, p *plane, start func(*gateway))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		started := false
		f(t, p, func(g *gateway) {
			started = true
			go func() {
				defer close(done)
				g.Run(ctx)
			}()
		})
		cancel()
		if started {
			<-done
		}
		time.Sleep(time.Hour) // what the other side waits for is over
	})
}

func TestAStreamBringsDocumentAndChanges(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		one, two := document(1, "a"), document(2, "a", "b")
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			if c.req.Header.Get(configuration.HeaderInstance) != "host-8080" || c.req.Header.Get(configuration.HeaderHash) != "" {
				t.Errorf("introduced as %v", c.req.Header)
			}
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: one})
			if a := c.want(configuration.TypeAck).Ack; a.Hash != one.Hash() || a.Error != "" {
				t.Errorf("the document is acknowledged with %+v", a)
			}
			c.send(&configuration.Frame{Type: configuration.TypeDelta, Delta: configuration.Diff(one, two)})
			if a := c.want(configuration.TypeAck).Ack; a.Hash != two.Hash() || a.Revision != 2 {
				t.Errorf("the change is acknowledged with %+v", a)
			}
			c.beat(func(h *configuration.Heartbeat) bool {
				return h.Revision == 2 && h.Instance == "host-8080" && h.LastError == ""
			})
			c.send(&configuration.Frame{Type: configuration.TypePing})
			c.want(configuration.TypePong)
			c.drain()
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		synctest.Wait()
		if s := g.State(); !s.Connected || s.Protocol != setting.V2 || s.Address != "corp.configuration.x:443" || s.Why != "as set" || s.Failure != nil {
			t.Errorf("the state is %+v", s)
		}
		if !slices.Equal(g.took, []int64{1, 2}) {
			t.Errorf("taken are %v", g.took)
		}
	})
}

func TestItFallsBackToTheManagementEndpoint(t *testing.T) {
	f := func(at string, fails map[string]error, why ...string) {
		t.Helper()
		during(t, func(t *testing.T, p *plane, start func(*gateway)) {
			p.fails = fails
			p.reach[at] = p.streams(func(c *peer) {
				c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
				c.drain()
			})
			g := p.gateway("corp.configuration.x")
			start(g)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			s := g.State()
			if !s.Connected || s.Address != at || g.have() == nil {
				t.Errorf("the state is %+v, want %s; dialled %v", s, at, p.dials())
			}
			for _, w := range why {
				if !strings.Contains(s.Why, w) || !strings.Contains(p.logged(), w) {
					t.Errorf("why %s lacks %q", s.Why, w)
				}
			}
		})
	}
	f("corp.management.x:443", nil, "corp.configuration.x:443: Connection refused (ECONNREFUSED)")
	f("corp.management.x:3443", nil, "corp.configuration.x:443: Conn", "corp.management.x:443: Conn")
	f("corp.management.x:3443", map[string]error{"corp.configuration.x:443": &net.DNSError{Name: "corp.configuration.x", IsNotFound: true}}, "Name does not resolve")
	f("corp.management.x:3443", map[string]error{"corp.configuration.x:443": context.DeadlineExceeded}, "no answer")
}

func TestCandidates(t *testing.T) {
	f := func(endpoint string, want ...string) {
		t.Helper()
		e, err := setting.ParseEndpoint(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if got := candidates(e); !slices.Equal(got, want) {
			t.Errorf("%s leads to %v, want %v", endpoint, got, want)
		}
	}
	f("corp.configuration.x.y", "corp.configuration.x.y:443", "corp.management.x.y:443", "corp.management.x.y:3443")
	f("corp.management.x.y:3443", "corp.management.x.y:3443", "corp.management.x.y:443")
	f("gateways.example.com", "gateways.example.com:443")
	f("10.0.0.4:443", "10.0.0.4:443")
}

func TestItResumesFromWhatItHas(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		doc, next := document(7, "a"), document(9, "a", "b")
		var times atomic.Int32
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			if c.req.Header.Get(configuration.HeaderRevision) != "7" || c.req.Header.Get(configuration.HeaderHash) != doc.Hash() {
				t.Errorf("resumed from %v", c.req.Header)
			}
			if times.Add(1) == 1 {
				c.send(&configuration.Frame{Type: configuration.TypeCurrent, Current: &configuration.Current{Revision: 7, Hash: doc.Hash()}})
				c.want(configuration.TypeAck)
				return // the connection breaks
			}
			c.send(&configuration.Frame{Type: configuration.TypeDelta, Delta: configuration.Diff(doc, next)})
			c.drain()
		})
		g := p.gateway("corp.configuration.x")
		g.doc = doc
		start(g)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !slices.Equal(g.took, []int64{9}) || times.Load() != 2 {
			t.Errorf("taken are %v in %d streams", g.took, times.Load())
		}
		if s := g.State(); s.Failures[KindEnded] != 1 {
			t.Errorf("failures are %v", s.Failures)
		}
	})
}

func TestWhatDoesNotFitIsToldAndTheRestServedOn(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		a, b, c := document(1, "a"), document(2, "b"), document(3, "c")
		p.reach["corp.configuration.x:443"] = p.streams(func(x *peer) {
			x.send(&configuration.Frame{Type: configuration.TypeDocument, Document: a})
			x.want(configuration.TypeAck)
			x.send(&configuration.Frame{Type: configuration.TypeDelta, Delta: configuration.Diff(b, c)})
			if ack := x.want(configuration.TypeAck).Ack; ack.Hash != a.Hash() || !strings.Contains(ack.Error, "ask for the whole document") {
				t.Errorf("a change of something else is acknowledged with %+v", ack)
			}
			x.beat(func(h *configuration.Heartbeat) bool {
				return strings.Contains(h.LastError, "ask for the whole document")
			})
			x.send(&configuration.Frame{Type: configuration.TypeDocument, Document: c})
			if ack := x.want(configuration.TypeAck).Ack; ack.Hash != c.Hash() || ack.Error != "" {
				t.Errorf("the whole document is acknowledged with %+v", ack)
			}
			x.drain()
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		synctest.Wait()
		if !slices.Equal(g.took, []int64{1, 3}) || g.State().Failures[KindDocument] != 1 {
			t.Errorf("taken are %v, failures %v", g.took, g.State().Failures)
		}
	})
}

func TestASilentStreamIsFoundAndReplaced(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		var times atomic.Int32
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			times.Add(1)
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
			c.drain() // and not a word more
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		time.Sleep(silence + configuration.PingEvery + 5*time.Second)
		synctest.Wait()
		if n := g.State().Failures[KindHalfOpen]; n != 1 || times.Load() != 2 {
			t.Errorf("%d half-open streams found, %d streams; %s", n, times.Load(), p.logged())
		}
	})
}

func TestAStreamWithPingsLives(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		var beats, times atomic.Int32
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			times.Add(1)
			go func() {
				for {
					f, err := configuration.ReadFrame(c.r, configuration.MaxReply)
					if err != nil {
						return
					}
					if f.Type == configuration.TypeHeartbeat {
						beats.Add(1)
					}
				}
			}()
			for {
				if err := configuration.WriteFrame(c.c, &configuration.Frame{Type: configuration.TypePing}); err != nil {
					return
				}
				time.Sleep(configuration.PingEvery)
			}
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		time.Sleep(10*time.Minute + time.Second)
		if times.Load() != 1 || beats.Load() != 11 {
			t.Errorf("%d streams, %d heartbeats in ten minutes; %s", times.Load(), beats.Load(), p.logged())
		}
	})
}

func TestEachFailureIsNamed(t *testing.T) {
	answer := func(status int, header http.Header, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	f := func(kind Kind, event, text string, set func(*plane), endpoint ...string) {
		t.Helper()
		during(t, func(t *testing.T, p *plane, start func(*gateway)) {
			set(p)
			g := p.gateway(append(endpoint, "corp.management.x:3443")[0])
			start(g)
			time.Sleep(90 * time.Second)
			synctest.Wait()
			s := g.State()
			if s.Failure == nil || s.Failure.Kind != kind || s.Connected {
				t.Errorf("%s: the state is %+v", kind, s)
			}
			log := p.logged()
			if !strings.Contains(log, "msg="+event+" ") || !strings.Contains(log, text) {
				t.Errorf("%s: the log lacks %s or %q:\n%s", kind, event, text, log)
			}
			if n := strings.Count(log, "msg="+event+" "); n != 1 {
				t.Errorf("%s is said %d times in 90 seconds", event, n)
			}
			if h := g.beat(); !strings.Contains(h.LastError, text) {
				t.Errorf("%s: the heartbeat says %q", kind, h.LastError)
			}
			if strings.Contains(log, "c2ln") {
				t.Errorf("the token is in the log:\n%s", log)
			}
		})
	}
	every := func(err error) func(*plane) {
		return func(p *plane) {
			p.fails["corp.management.x:3443"], p.fails["corp.management.x:443"] = err, err
		}
	}
	at := func(h http.Handler) func(*plane) {
		return func(p *plane) { p.reach["corp.management.x:3443"] = h }
	}
	f(KindDNS, "ErrorResolvingHostname", "Name does not resolve", every(&net.DNSError{Name: "corp.management.x", IsNotFound: true}))
	f(KindDNS, "ErrorResolvingHostname", "the DNS server does not answer", every(&net.DNSError{Name: "corp.management.x", Err: "i/o timeout", IsTimeout: true}))
	f(KindDNS, "ErrorResolvingHostname", "nothing listens where the DNS server should be", every(&net.DNSError{Name: "corp.management.x", Err: "read udp 192.0.2.1:49196->192.0.2.53:53: read: connection refused", IsTemporary: true}))
	f(KindDNS, "ErrorResolvingHostname", "the DNS server answers that it failed or does not serve this machine", every(&net.DNSError{Name: "corp.management.x", Err: "server misbehaving", IsTemporary: true}))
	f(KindRefused, "ConfigInitialSyncFailed", "Connection refused (ECONNREFUSED)", func(*plane) {})
	f(KindTimeout, "ConfigInitialSyncFailed", "no answer", every(context.DeadlineExceeded))
	f(KindTLS, "ConfigInitialSyncFailed", "signed by unknown authority", func(p *plane) {
		p.reach["corp.management.x:3443"] = answer(200, nil, "")
		p.pool = newPlane(t).pool
	})
	f(KindTLS, "ConfigInitialSyncFailed", "valid for corp.configuration.x, corp.management.x", func(p *plane) { p.reach["other.x:443"] = answer(200, nil, "") }, "other.x")
	f(KindToken, "ConfigInitialSyncFailed", "401 (Unauthorized): the token ended", at(answer(401, nil, `{"title":"Unauthorized","detail":"the token ended"}`)))
	f(KindThrottled, "ConfigInitialSyncFailed", "Response status code does not indicate success: 429 ()", at(answer(429, http.Header{"Retry-After": {"600"}}, "")))
	f(KindUnavailable, "ConfigInitialSyncFailed", "503 (Service Unavailable)", at(answer(503, http.Header{"Retry-After": {"600"}}, "")))
	f(KindRequest, "ConfigInitialSyncFailed", "400 (Bad Request): no api-version", at(answer(400, nil, "no api-version")))
}

// TestWhatGotFurthestIsTold has 443 refused, as at an internal Gateway from the
// outside: what there is to do about is 3443.
func TestWhatGotFurthestIsTold(t *testing.T) {
	f := func(kind Kind, message, advice string, set func(*plane)) {
		t.Helper()
		during(t, func(t *testing.T, p *plane, start func(*gateway)) {
			set(p)
			g := p.gateway("corp.configuration.x")
			start(g)
			time.Sleep(90 * time.Second)
			synctest.Wait()
			s := g.State().Failure
			if s == nil || s.Kind != kind || s.Address != "corp.management.x:3443" || !strings.Contains(s.Message, message) || !strings.Contains(s.Advice, advice) ||
				!strings.HasSuffix(s.Message, "; corp.configuration.x:443: Connection refused (ECONNREFUSED); corp.management.x:443: Connection refused (ECONNREFUSED)") {
				t.Errorf("got %+v", s)
			}
			if n := strings.Count(p.logged(), "msg=ConfigInitialSyncFailed "); n != 1 {
				t.Errorf("it is said %d times in 90 seconds", n)
			}
		})
	}
	const rule = "postern explain --from selfhosted/NAME https://corp.management.x:3443/"
	f(KindTLS, "signed by unknown authority", "config.service.ca", func(p *plane) {
		p.reach["corp.management.x:3443"], p.pool = http.NotFoundHandler(), newPlane(t).pool
	})
	f(KindRefused, "the connection was reset", rule, func(p *plane) { p.fails["corp.management.x:3443"] = syscall.ECONNRESET })
	f(KindTimeout, "no answer", rule, func(p *plane) { p.fails["corp.management.x:3443"] = context.DeadlineExceeded })
	f(KindRequest, "no api-version", "", func(p *plane) {
		p.reach["corp.management.x:3443"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no api-version", http.StatusBadRequest) })
	})
}

func TestAdviceOnANameThatNobodyServes(t *testing.T) {
	f := unreached("x:443", &net.OpError{Op: "remote error", Err: errors.New("tls: unrecognized name")}, time.Now())
	if f.Kind != KindTLS || !strings.Contains(f.Advice, "compare config.service.endpoint") {
		t.Errorf("got %+v", f)
	}
}

// TestAdviceOnATokenHoldsForACertificate asks of an answer and of the end of a
// stream, which do not tell what was shown.
func TestAdviceOnATokenHoldsForACertificate(t *testing.T) {
	for _, f := range []*Failure{
		answered("x:443", &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}),
		refused("x:443", &configuration.Refuse{Code: configuration.RefuseToken}),
	} {
		if f.Kind != KindToken || !strings.Contains(f.Advice, "with --enrol where") || !strings.Contains(f.Advice, "start the gateway again") {
			t.Errorf("got %+v", f)
		}
	}
}

func TestWhatAProxySaysIsUnderstood(t *testing.T) {
	f := func(reply byte, kind Kind, text string) {
		t.Helper()
		during(t, func(t *testing.T, p *plane, start func(*gateway)) {
			g := p.gateway("corp.management.x:3443", func(o *Options) {
				o.Proxy = http.ProxyURL(&url.URL{Scheme: "socks5h", Host: "proxy:1080"})
				o.Dial = func(context.Context, string, string) (net.Conn, error) {
					near, far := net.Pipe()
					go func() {
						defer far.Close()
						b := make([]byte, 300)
						if _, err := far.Read(b); err != nil { // greeting
							return
						}
						if _, err := far.Write([]byte{5, 0}); err != nil {
							return
						}
						if _, err := far.Read(b); err != nil { // the name
							return
						}
						if reply == 0xff { // and nothing more
							_, _ = far.Read(b)
							return
						}
						_, _ = far.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
					}()
					return near, nil
				}
			})
			start(g)
			time.Sleep(65 * time.Second)
			if s := g.State(); s.Failure == nil || s.Failure.Kind != kind || !strings.Contains(s.Failure.Message, text) {
				t.Errorf("reply %d: %+v", reply, s.Failure)
			}
		})
	}
	f(5, KindRefused, "Connection refused (ECONNREFUSED), says the proxy")
	f(4, KindDNS, "Name does not resolve")
	f(6, KindTimeout, "no answer, says the proxy")
	f(1, KindRefused, "general SOCKS server failure")
	f(0xff, KindTimeout, "no connection within 30s")
}

func TestRetryAfterIsKept(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		p.reach["corp.configuration.x:443"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		start(p.gateway("corp.configuration.x"))
		time.Sleep(119 * time.Second)
		if n := len(p.dials()); n != 1 {
			t.Errorf("%d attempts within Retry-After, and through other addresses: %v", n, p.dials())
		}
		time.Sleep(65 * time.Second)
		if n := len(p.dials()); n != 2 {
			t.Errorf("%d attempts in all", n)
		}
	})
}

func TestWaitsAreSpreadAndBounded(t *testing.T) {
	var below [4]int
	for range 10000 {
		d := wait(20, nil)
		if d < 0 || d >= longestWait {
			t.Fatalf("waits %s", d)
		}
		below[4*d/longestWait]++
	}
	for _, n := range below {
		if n < 2000 {
			t.Errorf("the waits are not spread: %v of 10000", below)
		}
	}
	if d := wait(1, nil); d >= 2*firstWait {
		t.Errorf("the first wait is %s", d)
	}
}

func TestAClockThatIsWrongIsSaid(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
			c.beat(func(h *configuration.Heartbeat) bool { return strings.Contains(h.LastError, "clock is 10m0s ahead of") })
			c.drain()
		})
		g := p.gateway("corp.configuration.x", func(o *Options) { o.Now = func() time.Time { return time.Now().Add(10 * time.Minute) } })
		start(g)
		synctest.Wait()
		if log := p.logged(); strings.Count(log, "msg=ClockSkew") != 1 || g.have() == nil {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

func TestAnExpiryIsWarnedOf(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		at := time.Now().Add(36 * time.Hour)
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
			for {
				f, err := configuration.ReadFrame(c.r, configuration.MaxReply)
				if err != nil {
					return
				}
				if f.Type == configuration.TypeHeartbeat {
					c.send(&configuration.Frame{Type: configuration.TypeStanding, Standing: &configuration.Standing{Revision: 1, Hash: document(1).Hash(), Expires: at, Warning: "the token ends soon"}})
				}
			}
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		time.Sleep(47 * time.Hour)
		log := p.logged()
		if strings.Count(log, "msg=GatewayTokenNearExpiry") != 2 || strings.Count(log, "msg=GatewayTokenExpired") != 1 {
			t.Errorf("after 47 hours, eleven of them without a good token, the log says:\n%s", log)
		}
		time.Sleep(24 * time.Hour)
		if log := p.logged(); strings.Count(log, "msg=GatewayTokenExpired") != 2 || g.have() == nil {
			t.Errorf("a day later the log says:\n%s", log)
		}
	})
}

// TestAHealthyStreamIsConfirmedEachHeartbeat holds what the age of a configuration is
// alerted on by.
func TestAHealthyStreamIsConfirmedEachHeartbeat(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		doc := document(1)
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: doc})
			ended := make(chan struct{})
			defer close(ended)
			var writing sync.Mutex
			send := func(f *configuration.Frame) {
				writing.Lock()
				defer writing.Unlock()
				_ = configuration.WriteFrame(c.c, f) // the end is found in reading
			}
			go func() {
				for {
					select {
					case <-ended:
						return
					case <-time.After(configuration.PingEvery):
						send(&configuration.Frame{Type: configuration.TypePing})
					}
				}
			}()
			for {
				f, err := configuration.ReadFrame(c.r, configuration.MaxReply)
				if err != nil {
					return
				}
				if f.Type == configuration.TypeHeartbeat {
					send(&configuration.Frame{Type: configuration.TypeStanding, Standing: &configuration.Standing{Revision: 1, Hash: doc.Hash()}})
				}
			}
		})
		g := p.gateway("corp.configuration.x")
		start(g)
		time.Sleep(time.Second)
		oldest := time.Duration(0)
		for range 600 {
			time.Sleep(time.Second)
			oldest = max(oldest, time.Since(g.State().Confirmed))
		}
		if oldest > configuration.HeartbeatEvery || oldest < configuration.HeartbeatEvery/2 {
			t.Errorf("in ten minutes it was not confirmed for %s", oldest)
		}
	})
}

// TestTheEndOfATokenIsSaidOnce has a stream that is ended at the third address that
// is tried, and refused from then on.
func TestTheEndOfATokenIsSaidOnce(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		var asked atomic.Int64
		stream := p.streams(func(c *peer) {
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
			c.want(configuration.TypeAck)
			c.send(&configuration.Frame{Type: configuration.TypeRefuse, Refuse: &configuration.Refuse{Code: configuration.RefuseExpired, Message: "the token has expired"}})
			c.drain()
		})
		p.reach["corp.management.x:3443"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 1 {
				stream.ServeHTTP(w, r)
				return
			}
			http.Error(w, "the token has expired; make one", http.StatusUnauthorized)
		})
		start(p.gateway("corp.configuration.x"))
		time.Sleep(4 * time.Minute)
		if log := p.logged(); asked.Load() < 3 || strings.Count(log, "msg=ConfigSyncFailed") != 1 || !strings.Contains(log, "kind=token") {
			t.Errorf("asked %d times, the log says:\n%s", asked.Load(), log)
		}
		time.Sleep(2 * time.Minute)
		if log := p.logged(); strings.Count(log, "msg=ConfigSyncFailed") != 2 {
			t.Errorf("two minutes later the log says:\n%s", log)
		}
	})
}

func TestProtocolV1AsksForWholeDocuments(t *testing.T) {
	const resource = "/subscriptions/0/resourceGroups/r/providers/Microsoft.ApiManagement/service/corp"
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		var revision, gets, unchanged, beats atomic.Int64
		revision.Store(1)
		p.reach["corp.management.x:3443"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != token || r.URL.RawQuery != "api-version=2021-01-01-preview" {
				t.Errorf("asked %s with %v", r.URL, r.Header)
			}
			doc := document(revision.Load(), fmt.Sprint("api", revision.Load()))
			switch r.Method + " " + r.URL.Path {
			case "GET " + resource + "/gateways/edge-1/configuration":
				gets.Add(1)
				w.Header().Set("ETag", `"`+doc.Hash()+`"`)
				if r.Header.Get("If-None-Match") == `"`+doc.Hash()+`"` {
					unchanged.Add(1)
					w.WriteHeader(http.StatusNotModified)
					return
				}
				b, err := doc.Encode()
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(b)
			case "POST " + resource + "/gateways/edge-1/heartbeat":
				if beats.Add(1) > 12 {
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				_, _ = fmt.Fprintf(w, `{"revision":%d,"hash":%q}`, doc.Revision, doc.Hash())
			default:
				t.Errorf("asked for %s %s", r.Method, r.URL)
			}
		})
		g := p.gateway("https://corp.management.x:3443" + resource + "?api-version=2021-01-01-preview")
		start(g)
		time.Sleep(5 * time.Minute)
		if n := gets.Load(); n < 25 || n > 38 || unchanged.Load() != n-1 || beats.Load() < 5 || beats.Load() > 6 {
			t.Errorf("%d documents asked for, %d unchanged, %d heartbeats in five minutes", n, unchanged.Load(), beats.Load())
		}
		revision.Store(2)
		was := beats.Load()
		time.Sleep(13 * time.Second)
		if d := g.have(); d.Revision != 2 || beats.Load() <= was {
			t.Errorf("revision %d is served, %d heartbeats since", d.Revision, beats.Load()-was)
		}
		if s := g.State(); s.Protocol != setting.V1 || !s.Connected || s.Failure != nil || !strings.Contains(s.Why, "v1") {
			t.Errorf("the state is %+v", s)
		}
		time.Sleep(10 * time.Minute)
		if log := p.logged(); !strings.Contains(log, "msg=HeartbeatError ") || !strings.Contains(log, "Response status code does not indicate success: 429 ()") {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

func TestADocumentThatIsRefusedIsNotServed(t *testing.T) {
	during(t, func(t *testing.T, p *plane, start func(*gateway)) {
		p.reach["corp.configuration.x:443"] = p.streams(func(c *peer) {
			c.send(&configuration.Frame{Type: configuration.TypeDocument, Document: document(1)})
			if a := c.want(configuration.TypeAck).Ack; a.Hash != "" || a.Error != "not signed" {
				t.Errorf("acknowledged with %+v", a)
			}
			c.send(&configuration.Frame{Type: configuration.TypeRefuse, Refuse: &configuration.Refuse{Code: configuration.RefuseDeleted, Message: "SelfHostedGateway edge-1 was deleted", RetryAfter: 300}})
			c.drain()
		})
		g := p.gateway("corp.configuration.x")
		g.bad = errors.New("not signed")
		start(g)
		time.Sleep(time.Minute)
		if s := g.State(); s.Failure == nil || s.Failure.Kind != KindToken || g.have() != nil || len(p.dials()) != 1 {
			t.Errorf("the state is %+v after %v", s, p.dials())
		}
	})
}
