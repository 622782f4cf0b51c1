// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sibling

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// LimitsHeader carries what is asked from where on, in base64. The question's
// MAC covers it.
const LimitsHeader = "X-Postern-Sibling-Since"

const (
	// hurry bounds the asking of one instance for what it has counted.
	hurry = 2 * time.Second
	// lookAgain is how often the instances are looked up.
	lookAgain = 5 * time.Second
)

// Poll asks the other instances what they have counted, until ctx ends. It tells
// changed of every change of what stops it; nil is that all answer.
func (n *Neighborhood) Poll(ctx context.Context, s *Share, changed func(error)) {
	p := &poll{n: n, s: s, was: map[netip.Addr]string{}, client: &http.Client{
		Transport:     &http.Transport{DialContext: n.Dial, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer p.client.CloseIdleConnections()
	t := time.NewTicker(Interval)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if len(s.Meters()) == 0 {
			continue // nothing is limited
		}
		err := p.round(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said {
			said = text
			changed(err)
		}
	}
}

type poll struct {
	n      *Neighborhood
	s      *Share
	client *http.Client

	looked time.Time
	addrs  []netip.Addr
	mu     sync.Mutex
	was    map[netip.Addr]string // who answered there last
}

// round asks all once.
func (p *poll) round(ctx context.Context) error {
	if time.Since(p.looked) >= lookAgain {
		addrs, err := p.n.Lookup(ctx, p.n.Host)
		if err != nil {
			return fmt.Errorf("sibling: %s: %w", p.n.Host, err)
		}
		p.looked, p.addrs = time.Now(), addrs[:min(len(addrs), most)]
		p.s.forget()
		for a := range p.was { // nobody asks now
			if !slices.Contains(p.addrs, a) {
				delete(p.was, a)
			}
		}
	}
	errs := make([]error, len(p.addrs))
	places := make(chan struct{}, side)
	var wg sync.WaitGroup
	for i, a := range p.addrs {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if err := p.ask(ctx, a); err != nil {
				errs[i] = fmt.Errorf("%s: %w", a, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ask asks one instance until it has no more.
func (p *poll) ask(ctx context.Context, a netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, hurry)
	defer cancel()
	for {
		p.mu.Lock()
		was := p.was[a]
		p.mu.Unlock()
		data, err := p.fetch(ctx, net.JoinHostPort(a.Unmap().String(), strconv.Itoa(int(p.n.Port))), was)
		if err != nil {
			return err
		}
		name, _, more, err := p.s.take(data)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.was[a] = name
		p.mu.Unlock()
		if !more {
			return nil
		}
	}
}

func (p *poll) fetch(ctx context.Context, at, was string) ([]byte, error) {
	from, err := p.s.question(was)
	if err != nil {
		return nil, err
	}
	q, err := p.n.Key.ask(limits, from)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+LimitsPath, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(Header, q.Header())
	r.Header.Set(LimitsHeader, base64.StdEncoding.EncodeToString(from))
	res, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it has been read
	if err := answered(res, LimitsType); err != nil {
		return nil, err
	}
	sealed, err := io.ReadAll(io.LimitReader(res.Body, maxReport))
	if err != nil {
		return nil, err
	}
	return q.Open(sealed)
}

// answered refuses what is no sealed answer.
func answered(res *http.Response, kind string) error {
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return errors.New("it has no configuration itself")
	case http.StatusForbidden:
		return ErrStranger
	default:
		return fmt.Errorf("it answers %s", res.Status)
	}
	if t := res.Header.Get("Content-Type"); t != kind {
		return fmt.Errorf("it answers with %q: it is no instance of a self-hosted gateway", t)
	}
	return nil
}

// ReadLimits reads the question for what was counted. The answer is what Report
// makes of it.
func (k *Key) ReadLimits(header, since string) (asked *Asked, question []byte, err error) {
	question, err = base64.StdEncoding.DecodeString(since)
	if err != nil {
		return nil, nil, errors.New("sibling: the question is not of a form that this version knows")
	}
	asked, err = k.read(limits, header, question)
	return asked, question, err
}
