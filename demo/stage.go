// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/client/settings"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/model"
)

const (
	// patience is how long a caller waits for a connection that should come;
	// silence how long it waits where the explanation says none will.
	patience = 10 * time.Second
	silence  = 1500 * time.Millisecond
	// joining is how long a tunnel may take to come up: a handshake that was lost is
	// tried again after five seconds.
	joining = 6 * time.Second
	// asking is how often an explanation is asked that is waited for.
	asking = 50 * time.Millisecond
)

// Stage is where a walk-through plays: one Postern, its callers, and what
// came of the last call.
type Stage struct {
	inst    *instance.Instance
	api     *client.Client
	callers *Callers

	// options start it again, folder holds its data and the files of the
	// walk-through, ca is the private CA's certificate.
	options instance.Options
	folder  string
	ca      []byte
	edges   map[string]*edge // self-hosted gateways, by source
	ahead   atomic.Int64     // of the management plane's clock
	beside  []*served

	Last Outcome
}

// hubPorts is how many Networks a Stage has ports for.
const hubPorts = 16

// NewStage starts a Postern on a data folder, with everything on loopback.
func NewStage(ctx context.Context, data string, o instance.Options) (*Stage, error) {
	low, err := freePorts(hubPorts)
	if err != nil {
		return nil, err
	}
	o.Data = data
	o.Management = "127.0.0.1:0"
	o.WireGuard = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	o.Low, o.High = low, low+hubPorts-1
	s := &Stage{options: o, folder: filepath.Dir(data), edges: map[string]*edge{}}
	if o.Now == nil {
		s.options.Now = func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }
	}
	return s, s.up(ctx)
}

// up starts the Postern.
func (s *Stage) up(ctx context.Context) error {
	i, err := instance.Start(ctx, s.options)
	if err != nil {
		return err
	}
	set := i.Settings()
	api, err := client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token})
	if err != nil {
		return errors.Join(err, i.Close())
	}
	callers, err := NewCallers(i, api)
	if err != nil {
		api.Close()
		return errors.Join(err, i.Close())
	}
	s.inst, s.api, s.callers, s.ca = i, api, callers, i.RootPEM()
	return nil
}

// down ends the callers and the Postern.
func (s *Stage) down() error {
	if s.inst == nil {
		return nil
	}
	err := s.callers.Close()
	s.api.Close()
	err = errors.Join(err, s.inst.Close())
	s.inst = nil
	return err
}

// freePorts finds n UDP ports of loopback in a row that nobody has.
func freePorts(n int) (low int, err error) {
	for range 64 {
		low = 20000 + rand.IntN(40000-n) //nolint:gosec // picks a port, guards nothing
		if err = holdPorts(low, n); err == nil {
			return low, nil
		}
	}
	return 0, fmt.Errorf("no %d free UDP ports in a row: %w", n, err)
}

func holdPorts(low, n int) (err error) {
	for p := low; p < low+n && err == nil; p++ {
		var c *net.UDPConn
		c, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p})
		if err == nil {
			defer func() { err = errors.Join(err, c.Close()) }()
		}
	}
	return err
}

// Instance is the running Postern.
func (s *Stage) Instance() *instance.Instance { return s.inst }

// Close ends the self-hosted gateways, the callers and the Postern.
func (s *Stage) Close() error {
	var errs []error
	for _, e := range s.edges {
		errs = append(errs, e.close())
	}
	for _, b := range s.beside {
		errs = append(errs, b.close())
	}
	return errors.Join(append(errs, s.down())...)
}

// Call is what a walk-through asks for.
type Call struct {
	Question answer.Question
	// Until is the code to wait for in the explanation before the request is
	// sent: for what takes its time, such as probes of a backend.
	Until string
}

// ParseCall reads the arguments of a call: SOURCE [-X METHOD] [-H 'k: v'] [-k]
// [-a ADDRESS] [-until CODE] URL.
func ParseCall(args []string) (Call, error) {
	var c Call
	if len(args) < 2 {
		return c, errors.New("usage: call SOURCE [-X METHOD] [-H 'k: v'] [-k] [-a ADDRESS] [-until CODE] URL")
	}
	q := &c.Question
	q.From = args[0]
	f := flag.NewFlagSet("call", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&q.Method, "X", "", "")
	f.BoolVar(&q.Insecure, "k", false, "")
	f.StringVar(&q.ConnectTo, "a", "", "")
	f.StringVar(&c.Until, "until", "", "")
	f.Func("H", "", func(h string) error {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("header %q is not of the form 'name: value'", h)
		}
		q.Headers = append(q.Headers, answer.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
		return nil
	})
	if err := f.Parse(args[1:]); err != nil {
		return c, err
	}
	if f.NArg() != 1 {
		return c, fmt.Errorf("call takes one URL, not %d", f.NArg())
	}
	q.URL = f.Arg(0)
	return c, nil
}

// Call asks for the explanation of a request and sends it for real.
func (s *Stage) Call(ctx context.Context, c Call) error {
	if s.inst == nil {
		return errors.New("the management plane is away; bring it back with plane up")
	}
	s.callers.ready(ctx, c.Question.From)
	a, err := s.explained(ctx, c)
	if err != nil {
		return err
	}
	s.Last, err = s.send(ctx, c.Question, a)
	return err
}

// send sends a request whose explanation is known.
func (s *Stage) send(ctx context.Context, q answer.Question, a answer.Answer) (Outcome, error) {
	real, err := s.expand(q)
	if err != nil {
		return Outcome{}, err
	}
	limit := patience
	if a.Symptom.Kind == answer.Timeout {
		limit = silence
	}
	seen, resp, err := s.callers.Call(ctx, real, limit)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Question: real, Seen: seen, Response: resp, Answer: a}, nil
}

// explained asks for the explanation of a request, again and again where one
// code is waited for. When that does not come, the last answer is as good.
func (s *Stage) explained(ctx context.Context, c Call) (a answer.Answer, err error) {
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(asking)
	defer tick.Stop()
	for {
		a, err = s.api.Explain(ctx, c.Question)
		if err != nil || c.Until == "" || a.Code == c.Until {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-end.C:
			return a, nil
		case <-tick.C:
		}
	}
}

// expand replaces references to resources, as the server does for explain.
func (s *Stage) expand(q answer.Question) (answer.Question, error) {
	set := s.inst.Resources()
	var err error
	if q.URL, err = model.ExpandString(q.URL, set); err != nil {
		return q, err
	}
	if q.ConnectTo, err = model.ExpandString(q.ConnectTo, set); err != nil {
		return q, err
	}
	headers := make([]answer.Header, len(q.Headers))
	for i, h := range q.Headers {
		if h.Value, err = model.ExpandString(h.Value, set); err != nil {
			return q, err
		}
		headers[i] = h
	}
	q.Headers = headers
	return q, nil
}

// ready gives a source's tunnel time to come up. That it does not is for the
// call to find out.
func (c *Callers) ready(ctx context.Context, source string) {
	source, err := c.stands(source)
	if err != nil || strings.HasPrefix(source, "internet") {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, joining)
	defer cancel()
	t, err := c.tunnel(ctx, source)
	if err != nil || t.Ready(ctx) != nil {
		return
	}
	// The site has the hub's answer. The hub takes its Link for up once it has a
	// packet of the site's under the new key, which is on its way.
	kind, rest, _ := strings.Cut(source, "/")
	name, _, _ := strings.Cut(rest, "/")
	l, ok := model.Get[*model.Link](c.inst.Resources(), name)
	if kind != "link" || !ok {
		return
	}
	tick := time.NewTicker(asking)
	defer tick.Stop()
	for !c.inst.Network().LinkUp(l.Spec.Network, name) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Client returns an HTTP client that calls from a source, over connections that
// it keeps.
func (s *Stage) Client(ctx context.Context, source string) (*http.Client, error) {
	s.callers.ready(ctx, source)
	d, err := s.callers.dialer(ctx, source)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return d.dial(ctx, address) },
		TLSClientConfig:     &tls.Config{RootCAs: s.callers.roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 64,
	}}, nil
}

// Roots holds the private CA.
func (s *Stage) Roots() *x509.CertPool { return s.callers.roots }

// API is a client of the management API.
func (s *Stage) API() *client.Client { return s.api }

// Act does what a machine does by itself: serve SOURCE PORT..., close SOURCE
// PORT..., and leave SOURCE, whose next call joins again with a key of its own;
// beside NAME FILE, gateway start SOURCE SETTING..., gateway stop SOURCE, and
// plane down|up, and clock AHEAD.
func (s *Stage) Act(ctx context.Context, verb string, args []string) error {
	switch {
	case verb == "beside" && len(args) == 2:
		return s.Beside(args[0], args[1])
	case verb == "plane" && len(args) == 1:
		return s.Plane(ctx, args[0])
	case verb == "clock" && len(args) == 1:
		return s.Clock(args[0])
	case verb == "gateway" && len(args) >= 2 && args[0] == "start":
		return s.StartGateway(ctx, args[1], args[2:]...)
	case verb == "gateway" && len(args) == 2 && args[0] == "stop":
		return s.StopGateway(args[1])
	case verb == "beside" || verb == "plane" || verb == "gateway" || verb == "clock":
		return errors.New("usage: beside NAME FILE, gateway start SOURCE SETTING..., gateway stop SOURCE, plane down|up, clock AHEAD")
	}
	if verb == "leave" && len(args) == 1 {
		return s.callers.Leave(args[0])
	}
	if len(args) < 2 || verb == "leave" {
		return fmt.Errorf("usage: serve|close SOURCE PORT..., leave SOURCE")
	}
	ports, err := parsePorts(args[1:])
	if err != nil {
		return err
	}
	if verb == "close" {
		return s.callers.Withdraw(args[0], ports...)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.callers.Serve(ctx, args[0], ports...)
}

// ConfigPath is the client.yaml of the running Postern.
func (s *Stage) ConfigPath() string { return filepath.Join(s.options.Data, settings.FileName) }

// tempData makes a data folder that is removed with the returned function.
func tempData() (string, func() error, error) {
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
