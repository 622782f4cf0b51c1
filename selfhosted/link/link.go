// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package link is a self-hosted gateway's connection to its management plane:
// it brings the configuration and takes heartbeats. It tries what there is to
// try, goes on trying, and says what stands in the way.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/setting"
)

// Options is what a Link is made of.
type Options struct {
	Endpoint setting.Endpoint
	// Name is that of the SelfHostedGateway.
	Name string
	// Token is the value of the Authorization header; empty where a certificate
	// is shown. Expires is when it ends, if known.
	Token   model.Secret
	Expires time.Time
	// TLS is for connections to the management plane.
	TLS *tls.Config
	// Dial opens connections; nil uses this machine's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy is as of http.Transport; nil uses none.
	Proxy func(*http.Request) (*url.URL, error)
	// Timeout bounds each exchange [100 s].
	Timeout time.Duration
	// Instance names this process.
	Instance string
	// Have returns what is served; nil if nothing is.
	Have func() *configuration.Document
	// Take serves a document. What it refuses is not served, and the management
	// plane is told.
	Take func(*configuration.Document) error
	// Heartbeat says how this instance is; the Link adds Age and LastError.
	Heartbeat func() configuration.Heartbeat
	Log       *slog.Logger
	Now       func() time.Time
}

// State says how a Link is.
type State struct {
	// Connected tells whether the management plane answers.
	Connected bool
	Protocol  setting.Protocol
	// Address is what is connected to, and Why tells why it is that.
	Address, Why string
	// Confirmed is when the management plane last said that what is served is
	// what is assigned.
	Confirmed time.Time
	// Failure is what went wrong last, nil once it works again.
	Failure *Failure
	// Failures counts them by kind since the start.
	Failures map[Kind]int64
	// Expires is when the token or certificate ends, as far as is known.
	Expires time.Time
}

// Link is one connection and its successors.
type Link struct {
	o      Options
	client *http.Client

	mu    sync.Mutex // guards what follows
	state State
	said  said
	last  *Failure // the newest, for heartbeats
	at    time.Time
	skew  time.Duration // what was warned of last
	near  time.Time     // when an expiry was warned of last
}

// New returns a Link; Run runs it.
func New(o Options) *Link {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 {
		o.Timeout = 100 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	l := &Link{o: o, state: State{Protocol: o.Endpoint.Protocol, Expires: o.Expires, Failures: map[Kind]int64{}}}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, min(dialTimeout, o.Timeout))
		defer cancel()
		return o.Dial(ctx, network, address)
	}
	l.client = &http.Client{
		Transport: &http.Transport{
			Proxy: o.Proxy, DialContext: dial, TLSClientConfig: o.TLS.Clone(),
			TLSHandshakeTimeout: min(tlsTimeout, o.Timeout), ResponseHeaderTimeout: o.Timeout,
			TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 can be upgraded
			MaxIdleConns:    2,
			IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		// The token goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return l
}

const (
	// dialTimeout bounds the opening of a connection: where packets are dropped,
	// the next candidate is to be tried soon.
	dialTimeout = 10 * time.Second
	tlsTimeout  = 20 * time.Second
	// Attempts follow after a random time up to firstWait, doubled each time up
	// to longestWait.
	firstWait   = time.Second
	longestWait = 30 * time.Second
)

// connectTimeout bounds everything up to a connection that can be used: a proxy
// may be long about it.
const connectTimeout = 30 * time.Second

// errSlow ends an attempt that takes longer.
var errSlow = errors.New("link: no connection in time")

// do sends a request. When its answer is done with, release has to be called.
func (l *Link) do(r *http.Request) (res *http.Response, release func(), err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	slow := time.AfterFunc(connectTimeout, func() { cancel(errSlow) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { slow.Stop() }})
	res, err = l.client.Do(r.WithContext(ctx))
	slow.Stop()
	if err != nil {
		if context.Cause(ctx) == errSlow {
			err = errSlow
		}
		cancel(nil)
		return nil, nil, err
	}
	return res, func() { cancel(nil) }, nil
}

// Run keeps the connection until ctx ends.
func (l *Link) Run(ctx context.Context) {
	defer l.client.CloseIdleConnections()
	if l.o.Endpoint.Protocol == setting.V1 {
		l.poll(ctx)
		return
	}
	for attempt := 0; ctx.Err() == nil; {
		l.ends(time.Time{}, "")
		worked, failure := l.round(ctx)
		if ctx.Err() != nil {
			return
		}
		l.fail(failure)
		if attempt++; worked {
			attempt = 0
		}
		if !sleep(ctx, wait(attempt, failure)) {
			return
		}
	}
}

// wait is how long to wait before an attempt: any time up to a bound that
// doubles, so that many gateways do not come at once. Whoever is told to wait
// waits so long, and as above.
func wait(attempt int, f *Failure) time.Duration {
	bound := min(longestWait, firstWait<<min(attempt, 10))
	d := rand.N(bound)
	if f != nil && f.RetryAfter > 0 {
		d += f.RetryAfter + rand.N(f.RetryAfter/2+1)
	}
	return d
}

// sleep waits and reports false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// State says how the Link is now.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Failures = make(map[Kind]int64, len(l.state.Failures))
	for k, n := range l.state.Failures {
		s.Failures[k] = n
	}
	return s
}

// Confirm notes that what is served is as of at, though the management plane did
// not say so to this process: it comes from a backup or a sibling.
func (l *Link) Confirm(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.state.Confirmed) {
		l.state.Confirmed = at
	}
}

// beat is the heartbeat of this moment.
func (l *Link) beat() configuration.Heartbeat {
	h := l.o.Heartbeat()
	h.Instance = l.o.Instance
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.state.Confirmed.IsZero() {
		h.Age = max(0, int64(l.o.Now().Sub(l.state.Confirmed)/time.Second))
	}
	if l.last != nil && l.o.Now().Sub(l.at) < remember {
		h.LastError = clip(l.last.Error() + " (at " + l.at.UTC().Format(time.RFC3339) + ")")
	}
	return h
}

// remember is for how long heartbeats tell what went wrong last: it is over by
// the time that a heartbeat gets through.
const remember = time.Hour

// connected notes a connection that works.
func (l *Link) connected(p setting.Protocol, address, why string) {
	l.mu.Lock()
	was := l.state
	l.state.Connected, l.state.Protocol, l.state.Address, l.state.Why = true, p, address, why
	l.said = said{}
	l.mu.Unlock()
	if !was.Connected || was.Address != address || was.Protocol != p || was.Why != why {
		l.o.Log.Info("ConfigConnected", "protocol", p, "endpoint", address, "why", why)
	}
}

// confirmed notes that what is served is what is assigned. Errors of connecting
// are over.
func (l *Link) confirmed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Confirmed, l.state.Failure = l.o.Now(), nil
}

// fail notes that a connection ended or did not come about.
func (l *Link) fail(f *Failure) {
	if f == nil {
		return
	}
	l.mu.Lock()
	l.state.Connected = false
	l.count(f)
	say := l.said.again(f, l.o.Now())
	l.mu.Unlock()
	if say {
		l.say(f)
	}
}

// note notes a failure that leaves the connection as it is.
func (l *Link) note(f *Failure) {
	l.mu.Lock()
	l.count(f)
	l.mu.Unlock()
	l.say(f)
}

// count keeps a failure; mu is held.
func (l *Link) count(f *Failure) {
	l.state.Failure, l.last, l.at = f, f, l.o.Now()
	l.state.Failures[f.Kind]++
}

func (l *Link) say(f *Failure) {
	event := f.Event()
	if event == "" {
		if event = "ConfigSyncFailed"; l.o.Have() == nil {
			event = "ConfigInitialSyncFailed"
		}
	}
	args := []any{"kind", f.Kind, "endpoint", f.Address, "exception", f.text()}
	if f.Advice != "" {
		args = append(args, "advice", f.Advice)
	}
	if l.o.Have() != nil {
		args = append(args, "serving", "what was received before")
	}
	l.o.Log.Error(event, args...)
}

// said keeps one failure from filling the log.
type said struct {
	text string
	at   time.Time
}

// sayEvery is how often the same failure is said again.
const sayEvery = 5 * time.Minute

func (s *said) again(f *Failure, now time.Time) bool {
	text := f.Error()
	if f.Kind == KindToken {
		// A stream ends in other words, and at another address, than those in which
		// the next is refused for the same token.
		text = string(KindToken)
	}
	if text != s.text || now.Sub(s.at) >= sayEvery {
		*s = said{text, now}
		return true
	}
	return false
}
