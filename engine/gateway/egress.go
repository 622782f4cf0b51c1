// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/gateway/upstream"
)

// Egress dials a backend from where the process stands. Whether the address may
// be dialled is asked after the name has been resolved, for the very address
// that is dialled, so that a publisher of APIs cannot use the gateway to reach
// what only the gateway's machine can. Inside Networks it refuses to dial.
func (e *Engine) Egress(ctx context.Context, _, network, host string, port uint16) (net.Conn, error) {
	if network != "" {
		return nil, fmt.Errorf("%w: this gateway has no way into Network/%s", upstream.ErrUnreachable, network)
	}
	d := net.Dialer{
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			in := e.snapshot.Load().Internet
			if e.o.Own != nil {
				// The machine may have gained an address since it was compiled.
				if in.Own, err = e.o.Own(); err != nil {
					return err
				}
			}
			if !flow.Egress(&in, a.Addr()) {
				return fmt.Errorf("%w: %s may not be dialled from the server; allow it with --allow-egress", upstream.ErrUnreachable, a.Addr())
			}
			return nil
		},
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return nil, fmt.Errorf("%w: %w", upstream.ErrDNS, err)
	}
	return c, err
}
