// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/client"
	clienttunnel "postern.dev/postern/client/tunnel"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
)

// Callers send real requests: Hosts and Links through WireGuard tunnels of
// their own, the internet from any address on the segment.
type Callers struct {
	inst  *instance.Instance
	api   *client.Client
	roots *x509.CertPool
	// tunnels are the open ones by source; a site has one at a time, because
	// its machines share the Link's key.
	tunnels map[string]*tunnel
}

type tunnel struct {
	source string
	client *join.Client
	serves map[uint16]*served
}

// close stops what the machine serves and leaves.
func (t *tunnel) close() error {
	var errs []error
	for _, s := range t.serves {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, t.client.Close())...)
}

// NewCallers returns the callers of an Instance that offers WireGuard.
func NewCallers(i *instance.Instance, api *client.Client) (*Callers, error) {
	c := &Callers{inst: i, api: api, roots: x509.NewCertPool(), tunnels: map[string]*tunnel{}}
	if !c.roots.AppendCertsFromPEM(i.RootPEM()) {
		return nil, errors.New("the private CA's certificate cannot be read")
	}
	return c, nil
}

// Close leaves every tunnel.
func (c *Callers) Close() error {
	var errs []error
	for _, t := range c.tunnels {
		errs = append(errs, t.close())
	}
	c.tunnels = map[string]*tunnel{}
	return errors.Join(errs...)
}

// Yield leaves every tunnel but those of machines that serve something.
func (c *Callers) Yield() error {
	var errs []error
	for key, t := range c.tunnels {
		if len(t.serves) == 0 {
			delete(c.tunnels, key)
			errs = append(errs, t.close())
		}
	}
	return errors.Join(errs...)
}

// Call sends the request that a question describes and says what the caller
// saw. limit is how long it waits for a connection.
func (c *Callers) Call(ctx context.Context, q answer.Question, limit time.Duration) (answer.Symptom, *Response, error) {
	d, err := c.dialer(ctx, q.From)
	if err != nil {
		return answer.Symptom{}, nil, err
	}
	return call(ctx, d, c.roots, q, limit)
}

// dialer is the way out of a source.
func (c *Callers) dialer(ctx context.Context, source string) (dialer, error) {
	source, err := c.stands(source)
	if err != nil {
		return dialer{}, err
	}
	kind, rest, _ := strings.Cut(source, "/")
	switch kind {
	case "internet":
		from, err := netip.ParseAddr(rest)
		if err != nil {
			return dialer{}, fmt.Errorf("source %q: write internet/IP", source)
		}
		return dialer{
			resolve: c.resolvePublic,
			connect: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				return c.inst.Network().DialInternet(ctx, from, to)
			},
		}, nil
	case "host", "link":
		t, err := c.tunnel(ctx, source)
		if err != nil {
			return dialer{}, err
		}
		return dialer{
			resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
				a, err := t.Resolve(ctx, name)
				if err != nil {
					return nil, err
				}
				return a.Addrs, nil
			},
			connect: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				conn, err := t.Dial(ctx, "tcp", to.String())
				if errors.Is(err, join.ErrNoData) {
					// The machine has no address of that family: it can send
					// nothing, and nothing comes back.
					err = fmt.Errorf("%s has no address to call %s from: %w", source, to, context.DeadlineExceeded)
				}
				return conn, err
			},
		}, nil
	}
	return dialer{}, fmt.Errorf("source %q is none of host/NAME, link/NAME/IP, internet/IP, selfhosted/NAME[/IP]", source)
}

// stands is the source as which a self-hosted gateway calls: what it is attached
// to. Any other source is itself.
func (c *Callers) stands(source string) (string, error) {
	rest, ok := strings.CutPrefix(source, "selfhosted/")
	if !ok {
		return source, nil
	}
	name, addr, given := strings.Cut(rest, "/")
	g, ok := model.Get[*model.SelfHostedGateway](c.inst.Resources(), name)
	switch {
	case !ok:
		return "", fmt.Errorf("there is no SelfHostedGateway %q", name)
	case g.Spec.Attach != "" && given:
		return g.Spec.Attach + "/" + addr, nil
	case g.Spec.Attach != "":
		return g.Spec.Attach, nil
	case !given:
		return "", fmt.Errorf("source %q: it stands on the internet; write selfhosted/%s/IP", source, name)
	}
	return "internet/" + addr, nil
}

// resolvePublic asks as the internet does.
func (c *Callers) resolvePublic(ctx context.Context, name string) ([]netip.Addr, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		go c.answer(ctx, far)
		return near, nil
	}}
	as, err := r.LookupNetIP(ctx, "ip", strings.TrimSuffix(name, ".")+".")
	var missing *net.DNSError
	if errors.As(err, &missing) && missing.IsNotFound {
		return nil, fmt.Errorf("%s: %w", name, join.ErrNXDomain)
	}
	for i := range as {
		as[i] = as[i].Unmap()
	}
	return as, err
}

// answer serves DNS over one stream until its end.
func (c *Callers) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		out := c.inst.Resolve(ctx, query)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil { //nolint:gosec // DNS answers fit
			return
		}
	}
}

// member is the Host or Link that a source belongs to: kind/NAME.
func member(source string) string {
	kind, rest, _ := strings.Cut(source, "/")
	name, _, _ := strings.Cut(rest, "/")
	return kind + "/" + name
}

// tunnel is the client of the tunnel of a source, which is opened if need be.
func (c *Callers) tunnel(ctx context.Context, source string) (*join.Client, error) {
	t, err := c.open(ctx, source)
	if err != nil {
		return nil, err
	}
	return t.client, nil
}

// open opens the tunnel of a source, or returns the open one.
func (c *Callers) open(ctx context.Context, source string) (*tunnel, error) {
	kind, rest, _ := strings.Cut(source, "/")
	name, addr, _ := strings.Cut(rest, "/")
	if kind != "host" && kind != "link" {
		return nil, fmt.Errorf("source %q has no tunnel; write host/NAME or link/NAME/IP", source)
	}
	key := member(source)
	if t := c.tunnels[key]; t != nil {
		if t.source == source {
			return t, nil
		}
		if len(t.serves) > 0 {
			return nil, fmt.Errorf("%s serves, and a site has one machine at a time; %s cannot call", t.source, source)
		}
		delete(c.tunnels, key)
		if err := t.close(); err != nil {
			return nil, err
		}
	}
	ref := model.Ref{Kind: model.KindHost, Name: name}
	if kind == "link" {
		ref.Kind = model.KindLink
	}
	joined, err := c.api.Join(ctx, ref, wire.Join{})
	if err != nil {
		return nil, err
	}
	if kind == "link" {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, fmt.Errorf("source %q: write link/NAME/IP", source)
		}
		joined.Addresses = []string{netip.PrefixFrom(a, a.BitLen()).String()}
	}
	private, err := wgkey.ParsePrivate(joined.PrivateKey)
	if err != nil {
		return nil, err
	}
	conf, err := clienttunnel.Config(joined, private)
	if err != nil {
		return nil, err
	}
	j, err := join.Open(join.Options{Config: conf})
	if err != nil {
		return nil, err
	}
	t := &tunnel{source: source, client: j, serves: map[uint16]*served{}}
	c.tunnels[key] = t
	return t, nil
}

// Leave closes the tunnel of host/NAME or link/NAME, if it is open.
func (c *Callers) Leave(member string) error {
	t := c.tunnels[member]
	if t == nil {
		return nil
	}
	delete(c.tunnels, member)
	return t.close()
}
