// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/model"
)

// Options shape an Issuer.
type Options struct {
	// Serves tells whether a name, in lower case and without a final dot, is
	// one to issue for.
	Serves func(name string) bool
	// Given returns a certificate and key in PEM that were given for the name;
	// ok is false if there are none. It may be nil.
	Given func(name string) (certificate string, key model.Secret, ok bool)
	// Obtained returns a certificate that another authority issued for the
	// name; ok is false while there is none. It may be nil.
	Obtained func(name string) (c *tls.Certificate, ok bool)
	// Addresses are those, beyond 127.0.0.1 and ::1, at which callers that name no host
	// reach the listener.
	Addresses []netip.Addr
	// Now is the clock.
	Now func() time.Time
	// Keep bounds the certificates held; 4096 if 0.
	Keep int
}

// Issuer hands out certificates, issuing each once and again before it ends.
type Issuer struct {
	authority *Authority
	opts      Options

	mu     sync.Mutex
	byName map[string]*list.Element
	recent *list.List // of *held, the last used first
}

type held struct {
	name  string
	given string // the PEM it was made from, if it was given
	ready chan struct{}
	// cert and err are set before ready is closed.
	cert *tls.Certificate
	err  error
}

// NewIssuer returns an Issuer that signs with a.
func NewIssuer(a *Authority, o Options) *Issuer {
	if o.Keep <= 0 {
		o.Keep = 4096
	}
	return &Issuer{authority: a, opts: o, byName: map[string]*list.Element{}, recent: list.New()}
}

// UnknownNameError says that a name is not served here.
type UnknownNameError struct{ Name string }

// Error names the name.
func (e *UnknownNameError) Error() string { return fmt.Sprintf("pki: %q is not served here", e.Name) }

// loopback is the key under which the certificate for callers that name no
// host is held; it is no host name.
const loopback = "127.0.0.1"

// Certificate returns the certificate for a name that is served: the one that
// was given or obtained for it, else one of this authority.
func (i *Issuer) Certificate(name string) (*tls.Certificate, error) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if !i.opts.Serves(name) {
		return nil, &UnknownNameError{name}
	}
	if i.opts.Given != nil {
		if cert, key, ok := i.opts.Given(name); ok {
			return i.get(name, cert, func() (*tls.Certificate, error) { return given(name, cert, key) })
		}
	}
	if i.opts.Obtained != nil {
		if c, ok := i.opts.Obtained(name); ok {
			return c, nil
		}
	}
	return i.get(name, "", func() (*tls.Certificate, error) {
		return i.authority.Issue(i.opts.Now(), []string{name}, nil)
	})
}

// Loopback returns the certificate for callers that name no host: for
// 127.0.0.1, ::1, localhost and the Addresses of the options.
func (i *Issuer) Loopback() (*tls.Certificate, error) {
	return i.get(loopback, "", func() (*tls.Certificate, error) {
		ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		for _, a := range i.opts.Addresses {
			// Loopback has more addresses than these two.
			if ip := net.IP(a.AsSlice()); !ip.Equal(ips[0]) && !ip.Equal(ips[1]) {
				ips = append(ips, ip)
			}
		}
		return i.authority.Issue(i.opts.Now(), []string{"localhost"}, ips)
	})
}

func given(name, cert string, key model.Secret) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair([]byte(cert), []byte(key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("pki: the certificate given for %s: %w", name, err)
	}
	return &c, nil
}

// get returns what is held for the name, or makes it once for all that ask.
func (i *Issuer) get(name, source string, issue func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	i.mu.Lock()
	if e, ok := i.byName[name]; ok {
		h := e.Value.(*held)
		if h.given == source && !i.stale(h) {
			i.recent.MoveToFront(e)
			i.mu.Unlock()
			<-h.ready
			return h.cert, h.err
		}
		i.drop(e)
	}
	h := &held{name: name, given: source, ready: make(chan struct{})}
	e := i.recent.PushFront(h)
	i.byName[name] = e
	for i.recent.Len() > i.opts.Keep {
		i.drop(i.recent.Back())
	}
	i.mu.Unlock()

	h.cert, h.err = issue()
	close(h.ready)
	if h.err != nil {
		i.mu.Lock()
		if i.byName[name] == e { // not replaced meanwhile
			i.drop(e)
		}
		i.mu.Unlock()
	}
	return h.cert, h.err
}

func (i *Issuer) drop(e *list.Element) {
	h := e.Value.(*held)
	if i.byName[h.name] == e {
		delete(i.byName, h.name)
	}
	i.recent.Remove(e)
}

// stale reports whether a certificate of ours has less than a third of its time
// left. What was given is renewed by whoever gave it.
func (i *Issuer) stale(h *held) bool {
	select {
	case <-h.ready:
	default:
		return false // being made
	}
	if h.err != nil || h.given != "" {
		return h.err != nil
	}
	leaf := h.cert.Leaf
	return i.opts.Now().After(leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3))
}
