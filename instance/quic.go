// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

// portQUIC is the published port that HTTP/3 is served beside.
const portQUIC = 443

// datagrams offers HTTP/3 beside the real socket of https: on the same address
// and port, by UDP. A socket that cannot be opened takes nothing away but HTTP/3,
// which is not announced then.
type datagrams struct {
	p      *public
	cancel context.CancelFunc // ends what is served; nil if nothing is
	wanted bool
	failed error // why it is not served although it is wanted
	// announced is the value of Alt-Svc (RFC 7838), nil if there is none.
	announced atomic.Pointer[string]
}

// overQUIC tells whether a Gateway publishes what HTTP/3 is spoken for.
func overQUIC(s *snapshot.Snapshot) bool {
	for _, g := range s.Gateways {
		if speaksQUIC(g) {
			return true
		}
	}
	return false
}

func speaksQUIC(g *snapshot.Gateway) bool {
	return g.PublicPorts[portQUIC].Has(snapshot.ComponentGateway)
}

// apply opens or closes the socket. It is called under the lock of public.
func (d *datagrams) apply(wanted bool) {
	if d.wanted = wanted; !wanted {
		d.failed = nil
	}
	switch {
	case !wanted && d.cancel != nil:
		d.announced.Store(nil)
		d.cancel()
		d.cancel = nil
		d.p.i.opts.Log.Info("HTTP/3 is no longer served", "address", d.p.real(portQUIC))
	case wanted && d.cancel == nil:
		d.listen()
	}
}

// retry tries again to open the socket. It is called under the lock of public.
func (d *datagrams) retry() {
	if d.wanted && d.cancel == nil {
		d.listen()
	}
}

func (d *datagrams) listen() {
	at := d.p.real(portQUIC)
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		if d.failed == nil {
			d.p.i.opts.Log.Warn("HTTP/3 is not served: its UDP port cannot be had; free it, or move it with --public-ports", "address", at, "error", err)
		}
		d.failed = fmt.Errorf("HTTP/3 is not served: %w; free the UDP port, or move it with --public-ports", err)
		return
	}
	d.failed = nil
	// quic-go writes to standard error where the system does not grant it the
	// buffers it asks for; docs/gateways.md tells of them.
	if _, set := os.LookupEnv(quietQUIC); !set {
		if err := os.Setenv(quietQUIC, "true"); err != nil {
			d.p.i.opts.Log.Debug("the environment cannot be set", "error", err)
		}
	}
	ctx, cancel := context.WithCancel(d.p.ctx)
	d.cancel = cancel
	d.p.i.opts.Log.Info("HTTP/3 is served", "address", at)
	value := `h3=":` + strconv.Itoa(int(at.Port())) + `"; ma=86400`
	d.announced.Store(&value)
	d.p.wait.Go(func() {
		defer cancel()
		err := d.p.i.gateway.ServeSocket(ctx, c, d.accept)
		if err != nil && ctx.Err() == nil && !errors.Is(err, gateway.ErrNoSnapshot) {
			d.p.i.opts.Log.Error("HTTP/3 is no longer served", "address", at, "error", err)
			d.lost(ctx, err)
		}
	})
}

// lost notes that the socket has failed while it was served, which is tried again.
func (d *datagrams) lost(ctx context.Context, why error) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if ctx.Err() == nil {
		d.announced.Store(nil)
		d.cancel, d.failed = nil, fmt.Errorf("HTTP/3 is no longer served: %w", why)
	}
}

const quietQUIC = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"

// accept decides over a new connection.
func (d *datagrams) accept(from netip.AddrPort) (*snapshot.Origin, func(), bool) {
	p := d.p
	if !p.open.Enter(from.Addr(), p.each) {
		return nil, nil, false
	}
	return &snapshot.Origin{
		Source: from, Local: netip.AddrPortFrom(everybodys, portQUIC), QUIC: true,
		Socket: p.real(portQUIC).Port(), SocketTLS: p.real(portQUIC).Port(),
	}, func() { p.open.Leave(from.Addr()) }, true
}

// altSvc says where HTTP/3 is served; empty if nowhere.
func (d *datagrams) altSvc() string {
	if v := d.announced.Load(); v != nil {
		return *v
	}
	return ""
}
