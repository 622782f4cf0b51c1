// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// served is a port of a machine that answers plain HTTP.
type served struct {
	server http.Server
	ended  chan error
}

// Serve lets a machine answer plain HTTP at ports of its own: host/NAME joins
// by its tunnel, link/NAME/IP is a machine of a site. What it answers names the
// machine, the port and who called.
func (c *Callers) Serve(ctx context.Context, source string, ports ...uint16) error {
	t, err := c.open(ctx, source)
	if err != nil {
		return err
	}
	if err := t.client.Ready(ctx); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	for _, port := range ports {
		if t.serves[port] != nil {
			continue
		}
		l, err := t.client.Listen(port)
		if err != nil {
			return fmt.Errorf("%s: port %d: %w", source, port, err)
		}
		s := &served{ended: make(chan error, 1)}
		s.server.ReadHeaderTimeout = 10 * time.Second
		s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				from = r.RemoteAddr
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "%s answers at port %d: %s %s from %s\n", source, port, r.Method, r.URL.Path, from) //nolint:gosec // text
		})
		go func() { s.ended <- s.server.Serve(l) }()
		t.serves[port] = s
	}
	return nil
}

// Withdraw ends what a machine serves at ports. It stays joined, so that they are
// refused.
func (c *Callers) Withdraw(source string, ports ...uint16) error {
	t := c.tunnels[member(source)]
	if t == nil {
		return fmt.Errorf("%s has not joined", source)
	}
	var errs []error
	for _, port := range ports {
		s := t.serves[port]
		if s == nil {
			errs = append(errs, fmt.Errorf("%s does not serve at port %d", source, port))
			continue
		}
		delete(t.serves, port)
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func (s *served) close() error {
	err := s.server.Close()
	if end := <-s.ended; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// parsePorts reads the ports of a command line.
func parsePorts(args []string) ([]uint16, error) {
	var out []uint16
	for _, a := range args {
		n, err := strconv.ParseUint(a, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is no port", a)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}
