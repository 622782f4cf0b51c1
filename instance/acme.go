// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"postern.dev/postern/control/acme"
)

// keeping is the Keeper of certificates, from when the registry is open.
type keeping struct {
	atomic.Pointer[acme.Keeper]
	mu sync.Mutex // from reading the newest snapshot to following it
}

// startACME begins to keep the certificates that Domains ask for, when what is
// kept of them can be read.
func (i *Instance) startACME() {
	k := acme.New(acme.Options{
		Documents: i.registry, Now: i.opts.Now, Log: i.opts.Log,
		// From the server's own stack, as a Backend without network: whoever
		// writes a Domain must not reach what only this machine can.
		Dial: func(ctx context.Context, host string, port uint16) (net.Conn, error) {
			return i.gateway.Egress(ctx, "", "", host, port)
		},
	})
	i.acme.Store(k)
	i.followACME() // what was published before it stood here
}

// followACME makes the Keeper keep what the newest snapshot asks for.
func (i *Instance) followACME() {
	i.acme.mu.Lock()
	defer i.acme.mu.Unlock()
	if k := i.acme.Load(); k != nil {
		k.Follow(i.Snapshot())
	}
}

// obtained returns the certificate that an ACME authority issued for a name.
func (i *Instance) obtained(name string) (*tls.Certificate, bool) {
	if k := i.acme.Load(); k != nil {
		return k.Certificate(name)
	}
	return nil, false
}

// challenges answers ACME authorities with what the Keeper has, once it runs.
type challenges struct{ i *Instance }

// TLSALPN implements gateway.Challenge.
func (c challenges) TLSALPN(name string) (*tls.Certificate, bool) {
	if k := c.i.acme.Load(); k != nil {
		return k.TLSALPN(name)
	}
	return nil, false
}

// HTTP01 implements gateway.Challenge.
func (c challenges) HTTP01(host, token string) (string, bool) {
	if k := c.i.acme.Load(); k != nil {
		return k.HTTP01(host, token)
	}
	return "", false
}
