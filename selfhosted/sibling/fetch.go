// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sibling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"postern.dev/postern/configuration"
)

// Neighborhood is where the instances are.
type Neighborhood struct {
	Key *Key
	// Host resolves to all instances, Port is their HTTP port.
	Host string
	Port uint16
	// Lookup resolves; Dial connects.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// Check refuses documents that are not this gateway's, or not signed.
	Check func(*configuration.Document) error
}

const (
	// patience bounds the asking of one instance.
	patience = 15 * time.Second
	// most bounds how many are asked, side how many at once.
	most = 64
	side = 8
)

// ErrAlone says that no instance answered with a configuration.
var ErrAlone = errors.New("sibling: no other instance has a configuration")

// Fetch asks every instance and returns the newest document that any has, with
// the address of who had it. One's own address may be among those that are
// asked: it has nothing to say.
func (n *Neighborhood) Fetch(ctx context.Context) (*configuration.Document, string, error) {
	addrs, err := n.Lookup(ctx, n.Host)
	if err != nil {
		return nil, "", fmt.Errorf("sibling: %s: %w", n.Host, err)
	}
	if len(addrs) > most {
		addrs = addrs[:most]
	}
	type found struct {
		doc  *configuration.Document
		from string
		err  error
	}
	results := make([]found, len(addrs))
	places := make(chan struct{}, side)
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			at := net.JoinHostPort(a.Unmap().String(), strconv.Itoa(int(n.Port)))
			doc, err := n.ask(ctx, at)
			results[i] = found{doc, at, err}
		})
	}
	wg.Wait()
	var best found
	var errs []error
	for _, r := range results {
		switch {
		case r.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", r.from, r.err))
		case best.doc == nil || newer(r.doc, best.doc):
			best = r
		}
	}
	if best.doc == nil {
		return nil, "", errors.Join(append([]error{ErrAlone}, errs...)...)
	}
	return best.doc, best.from, nil
}

// newer compares by when they were signed, else by revision.
func newer(a, b *configuration.Document) bool {
	if a.Signature != nil && b.Signature != nil && !a.Signature.Time.Equal(b.Signature.Time) {
		return a.Signature.Time.After(b.Signature.Time)
	}
	return a.Revision > b.Revision
}

// ask asks one instance.
func (n *Neighborhood) ask(ctx context.Context, at string) (*configuration.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := n.Key.Ask()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+Path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(Header, q.Header())
	client := &http.Client{
		Transport:     &http.Transport{DialContext: n.Dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it has been read
	if err := answered(res, ContentType); err != nil {
		return nil, err
	}
	sealed, err := io.ReadAll(io.LimitReader(res.Body, configuration.MaxFrame+1024))
	if err != nil {
		return nil, err
	}
	plain, err := q.Open(sealed)
	if err != nil {
		return nil, err
	}
	doc, err := configuration.DecodeDocument(plain)
	if err != nil {
		return nil, err
	}
	return doc, n.Check(doc)
}
