// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

// world has one gateway, whose Gateway is in a region.
func world(region string) *model.Set {
	return model.NewSet(
		&model.Gateway{Head: named("gw"), Spec: model.GatewaySpec{Region: region}},
		&model.SelfHostedGateway{Head: named("shop"), Spec: model.SelfHostedGatewaySpec{Gateway: "gw"}},
	)
}

// in runs f with a Fleet that ticks, in a bubble of its own time.
func in(t *testing.T, o Options, f func(t *testing.T, f *Fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Now, o.Log = time.Now, slog.New(slog.DiscardHandler)
		o.Judge = func(Credential) *configuration.Refuse { return nil }
		o.Standing = func(c Credential) (time.Time, string) { return c.Expires, "" }
		fl := New(o)
		fl.Publish(world("eu"), configuration.Facts{Revision: 1})
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					fl.Tick()
				}
			}
		}()
		f(t, fl)
		close(stop)
		<-done
		fl.Close()
	})
}

// join connects a gateway and returns its end.
func join(t *testing.T, f *Fleet, c Credential) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	c.For = "shop"
	if err := f.Subscribe(there, Subscription{Credential: c, Instance: fmt.Sprintf("i%p", there)}); err != nil {
		t.Fatal(err)
	}
	return here
}

// read reads frames and answers them by f, until the end; it returns what ended
// the stream.
func read(c net.Conn, f func(*configuration.Frame) *configuration.Frame) (last *configuration.Frame) {
	for {
		fr, err := configuration.ReadFrame(c, configuration.MaxFrame)
		if err != nil {
			return last
		}
		last = fr
		if answer := f(fr); answer != nil {
			if configuration.WriteFrame(c, answer) != nil {
				return last
			}
		}
	}
}

var (
	pong = &configuration.Frame{Type: configuration.TypePong}
	none *configuration.Frame
)

func ackOf(f *configuration.Frame) *configuration.Frame {
	switch f.Type {
	case configuration.TypePing:
		return pong
	case configuration.TypeDocument:
		return &configuration.Frame{Type: configuration.TypeAck, Ack: &configuration.Ack{Hash: f.Document.Hash()}}
	case configuration.TypeDelta:
		return &configuration.Frame{Type: configuration.TypeAck, Ack: &configuration.Ack{Hash: f.Delta.To}}
	}
	return none
}

func TestAGatewayThatAnswersPingsStays(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		pings := 0
		c := join(t, f, Credential{})
		go read(c, func(fr *configuration.Frame) *configuration.Frame {
			if fr.Type == configuration.TypePing {
				pings++
			}
			return ackOf(fr)
		})
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if f.Connected() != 1 || pings < 19 || pings > 20 {
			t.Errorf("%d are connected, after %d pings", f.Connected(), pings)
		}
	})
}

func TestASilentGatewayIsGivenUp(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		c := join(t, f, Credential{})
		go func() { _, _ = io.Copy(io.Discard, c) }()
		time.Sleep(silence - time.Second)
		if f.Connected() != 1 {
			t.Error("it was given up too early")
		}
		time.Sleep(2 * time.Second)
		if f.Connected() != 0 {
			t.Error("a half-open connection stays")
		}
	})
}

func TestAGatewayThatDoesNotAcknowledgeIsSentAway(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		c := join(t, f, Credential{})
		began := time.Now()
		last := read(c, func(fr *configuration.Frame) *configuration.Frame {
			if fr.Type == configuration.TypePing {
				return pong
			}
			return nil
		})
		if last.Type != configuration.TypeRefuse || last.Refuse.Code != configuration.RefuseSlow || time.Since(began) > ackTimeout+2*time.Second {
			t.Errorf("%+v after %v", last, time.Since(began))
		}
	})
}

func TestAGatewayThatDoesNotReadHoldsUpNobody(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		join(t, f, Credential{}) // reads nothing
		got := make(chan string, 8)
		go read(join(t, f, Credential{}), func(fr *configuration.Frame) *configuration.Frame {
			if fr.Type == configuration.TypeDelta || fr.Type == configuration.TypeDocument {
				got <- string(fr.Type)
			}
			return ackOf(fr)
		})
		<-got
		synctest.Wait() // its acknowledgement is in
		began := time.Now()
		f.Publish(world("us"), configuration.Facts{Revision: 2})
		<-got
		if d := time.Since(began); d > 0 {
			t.Errorf("the other waited %v", d)
		}
		time.Sleep(writeTimeout + time.Second)
		if f.Connected() != 1 {
			t.Error("who does not read stays")
		}
	})
}

func TestAnExpiredCredentialEndsTheStream(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		end := time.Now().Add(time.Hour)
		last := read(join(t, f, Credential{Expires: end}), ackOf)
		if last.Type != configuration.TypeRefuse || last.Refuse.Code != configuration.RefuseExpired || time.Now().Before(end) {
			t.Errorf("%+v at %v", last, time.Now())
		}
	})
}

func TestEncodedFramesAreForgotten(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		go read(join(t, f, Credential{}), ackOf)
		synctest.Wait()
		kept := func() int {
			f.mu.Lock()
			defer f.mu.Unlock()
			s := f.gateways["shop"].newest()
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.frames)
		}
		if n := kept(); n != 1 {
			t.Errorf("%d frames are kept for who comes at the same time", n)
		}
		time.Sleep(keepEncoded + 2*time.Second)
		synctest.Wait()
		if kept() != 0 {
			t.Error("frames that nobody needs are kept")
		}
	})
}

func TestInstancesAreBoundedAndForgotten(t *testing.T) {
	in(t, Options{Max: 4}, func(t *testing.T, f *Fleet) {
		beat := func(name string) {
			f.Heard(Credential{For: "shop"}, configuration.Heartbeat{Instance: name, Version: strings.Repeat("v", 1000)}, "v1")
		}
		for i := range 20 {
			beat(fmt.Sprint(i))
		}
		if is := f.Instances("shop"); len(is) != 4 || len(is[0].Version) > maxVersion {
			t.Errorf("%d are remembered", len(is))
		}
		time.Sleep(missed + time.Second)
		beat("late")
		is := f.Instances("shop")
		if len(is) != 4 || is[3].Name != "late" || is[3].Offline || !is[0].Offline {
			t.Errorf("got %+v", is)
		}
		time.Sleep(remembered + time.Minute)
		synctest.Wait()
		if is := f.Instances("shop"); len(is) != 0 || f.instances != 0 {
			t.Errorf("after a day: %+v", is)
		}
	})
}

func TestOneGatewayDoesNotTakeAllPlaces(t *testing.T) {
	f := New(Options{Max: 4})
	var leave []func()
	for range 2 {
		l, ok := f.Enter("greedy")
		if !ok {
			t.Fatal("no place, though there is one")
		}
		leave = append(leave, l)
	}
	if _, ok := f.Enter("greedy"); ok {
		t.Error("one gateway has more than half of the places")
	}
	if _, ok := f.Enter("modest"); !ok {
		t.Error("and another has none")
	}
	leave[0]()
	leave[0]() // again is nothing
	if _, ok := f.Enter("greedy"); !ok {
		t.Error("a place that was given back is lost")
	}
}

// TestACredentialThatEndsMeanwhileBringsNothing revokes it after it was judged
// and before its stream is among those that Recheck knows.
func TestACredentialThatEndsMeanwhileBringsNothing(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		f.opts.Judge = func(Credential) *configuration.Refuse {
			return &configuration.Refuse{Code: configuration.RefuseToken}
		}
		f.Recheck()
		c := join(t, f, Credential{})
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		last := read(c, func(fr *configuration.Frame) *configuration.Frame {
			if fr.Type == configuration.TypeDocument {
				t.Error("it is sent the configuration")
			}
			return ackOf(fr)
		})
		if last == nil || last.Refuse == nil || last.Refuse.Code != configuration.RefuseToken {
			t.Errorf("the last frame is %+v, want a refusal", last)
		}
	})
}

func TestNobodySubscribesToWhatIsNotThere(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		_, there := net.Pipe()
		err := f.Subscribe(there, Subscription{Credential: Credential{For: "absent"}})
		var e *model.Error
		if !errors.As(err, &e) || e.Kind != model.NotFound {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheWayBackIsSpread(t *testing.T) {
	seen := map[int]bool{}
	for range 1000 {
		n := Spread(2000)
		if n < 1 || n > 12 {
			t.Fatalf("after %d s", n)
		}
		seen[n] = true
	}
	if len(seen) < 10 {
		t.Errorf("2,000 gateways come in %d different seconds", len(seen))
	}
}

// TestSignaturesAreInTheOrderOfRevisions signs what was assigned first last, and
// has the clock set back in between: gateways refuse what was signed earlier.
func TestSignaturesAreInTheOrderOfRevisions(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := noon
	f := New(Options{
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Sign: func([]byte) ([]byte, error) { return []byte("signature"), nil },
	})
	defer f.Close()
	times := map[int64]time.Time{}
	var states []Current
	for i, region := range []string{"eu", "us", "ap"} {
		f.Publish(world(region), configuration.Facts{Revision: int64(i + 1)})
		c, err := f.Current("shop")
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, c)
		now = noon.Add(time.Hour)
		if i == 1 {
			now = noon.Add(-time.Hour)
		}
	}
	for _, c := range slices.Backward(states) {
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := configuration.DecodeDocument(b)
		if err != nil {
			t.Fatal(err)
		}
		times[d.Revision] = d.Signature.Time
	}
	if !times[1].Equal(noon) || !times[2].Equal(noon.Add(time.Hour)) || !times[3].Equal(noon.Add(time.Hour)) {
		t.Errorf("signed at %v", times)
	}
}

// TestAnErrorIsOverOnceTheConfigurationIsServed follows one instance: what it says
// went wrong is shown with when, and no longer as an error once it has got over it.
func TestAnErrorIsOverOnceTheConfigurationIsServed(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		cur, err := f.Current("shop")
		if err != nil {
			t.Fatal(err)
		}
		beat := func(text, hash string) model.Instance {
			f.Heard(Credential{For: "shop"}, configuration.Heartbeat{Instance: "i", Hash: hash, LastError: text}, "v1")
			return f.Instances("shop")[0]
		}
		began := time.Now()
		if i := beat("no way", ""); i.Recovered || !i.ErrorSeen.Equal(began.UTC().Truncate(time.Second)) {
			t.Errorf("at first: %+v", i)
		}
		time.Sleep(time.Minute)
		if i := beat("no way", ""); i.Recovered || !i.ErrorSeen.Equal(began.UTC().Truncate(time.Second)) {
			t.Errorf("told again: %+v", i)
		}
		if i := beat("no way", cur.Hash); !i.Recovered || i.LastError != "no way" {
			t.Errorf("with what it is assigned: %+v", i)
		}
		f.Publish(world("us"), configuration.Facts{Revision: 2})
		if i := beat("no way", cur.Hash); !i.Recovered || i.Current {
			t.Errorf("when there is something new: %+v", i)
		}
		if i := beat("no way either", cur.Hash); i.Recovered || !i.ErrorSeen.After(began) {
			t.Errorf("another error: %+v", i)
		}
		if i := beat("", cur.Hash); i.Recovered || i.LastError != "" || !i.ErrorSeen.IsZero() {
			t.Errorf("when it tells of none: %+v", i)
		}
	})
}

func TestAStreamThatHasEndedIsNoConnection(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		c := join(t, f, Credential{})
		go read(c, ackOf)
		synctest.Wait()
		if i := f.Instances("shop")[0]; !i.Connected || i.Age != 0 {
			t.Errorf("with a stream: %+v", i)
		}
		_ = c.Close()
		synctest.Wait()
		if i := f.Instances("shop")[0]; i.Connected || i.Offline {
			t.Errorf("once it has ended: %+v", i)
		}
		time.Sleep(missed + time.Second)
		if i := f.Instances("shop")[0]; i.Connected || !i.Offline || i.Age < int64(missed/time.Second) {
			t.Errorf("three heartbeats later: %+v", i)
		}
	})
}

func TestWhoPollsIsConnectedForThreeHeartbeats(t *testing.T) {
	in(t, Options{}, func(t *testing.T, f *Fleet) {
		f.Polled(Credential{For: "shop"}, "i", "")
		time.Sleep(missed)
		if i := f.Instances("shop")[0]; !i.Connected || i.Offline {
			t.Errorf("before: %+v", i)
		}
		time.Sleep(time.Second)
		if i := f.Instances("shop")[0]; i.Connected || !i.Offline {
			t.Errorf("after: %+v", i)
		}
	})
}
