// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// SOCKS5 as of RFC 1928, with the passwords of RFC 1929.
const (
	socksVersion = 5
	noAuth       = 0
	userPassword = 2
	noneAccepted = 0xff
	cmdConnect   = 1
	addrV4       = 1
	addrName     = 3
	addrV6       = 4

	replySucceeded   = 0
	replyFailure     = 1
	replyNetwork     = 3
	replyHost        = 4
	replyRefused     = 5
	replyTTL         = 6
	replyCommand     = 7
	replyAddressType = 8

	// greetTimeout bounds what comes before the dial.
	greetTimeout = 10 * time.Second
)

// ProxyOptions configures a SOCKS5 proxy.
type ProxyOptions struct {
	// Listen is where the proxy listens. Empty means a free port of 127.0.0.1.
	Listen string
	// User and Password, when set, are demanded of every caller, for a loopback port
	// is open to every user of the machine.
	User, Password string
}

// Proxy starts a SOCKS5 proxy whose connections leave through the tunnel. Names are
// resolved by the tunnel's resolver (what curl calls socks5h).
func (c *Client) Proxy(o ProxyOptions) (*Service, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if len(o.User) > 255 || len(o.Password) > 255 {
		return nil, errors.New("join: proxy: user and password are at most 255 bytes")
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("join: proxy: %w", err)
	}
	return c.serve(l, func(ctx context.Context, conn net.Conn) { c.socks(ctx, conn, &o) })
}

func (c *Client) socks(ctx context.Context, in net.Conn, o *ProxyOptions) {
	_ = in.SetDeadline(time.Now().Add(greetTimeout))
	to, err := greet(in, o)
	if err != nil {
		c.log.Debug("join: SOCKS greeting failed", "error", err)
		_ = in.Close()
		return
	}
	_ = in.SetDeadline(time.Time{})
	dctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	out, err := c.Dial(dctx, "tcp", to)
	cancel()
	if err != nil {
		c.log.Info("join: proxied dial failed", "to", to, "error", err)
		_ = answer(in, replyCode(err), netip.AddrPort{})
		_ = in.Close()
		return
	}
	var at netip.AddrPort
	if a, ok := out.LocalAddr().(*net.TCPAddr); ok {
		at = a.AddrPort()
	}
	if err := answer(in, replySucceeded, at); err != nil {
		_, _ = out.Close(), in.Close() // the caller is gone
		return
	}
	splice(in, out)
}

// replyCode maps a failed dial onto RFC 1928 section 6.
func replyCode(err error) byte {
	switch Symptom(err) {
	case "refused":
		return replyRefused
	case "nxdomain":
		return replyHost
	case "timeout":
		return replyTTL
	case "unreachable":
		if errors.Is(err, syscall.ENETUNREACH) {
			return replyNetwork
		}
		return replyHost
	}
	return replyFailure
}

// greet negotiates and reads the request. It has answered when it fails.
func greet(c net.Conn, o *ProxyOptions) (to string, err error) {
	var b [257]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return "", err
	}
	if b[0] != socksVersion {
		return "", fmt.Errorf("version %d is not 5", b[0])
	}
	methods := b[2 : 2+min(int(b[1]), 255)]
	if _, err := io.ReadFull(c, methods); err != nil {
		return "", err
	}
	want := byte(noAuth)
	if o.User != "" || o.Password != "" {
		want = userPassword
	}
	offered := false
	for _, m := range methods {
		offered = offered || m == want
	}
	if !offered {
		_, _ = c.Write([]byte{socksVersion, noneAccepted})
		return "", fmt.Errorf("method %d was not offered", want)
	}
	if _, err := c.Write([]byte{socksVersion, want}); err != nil {
		return "", err
	}
	if want == userPassword {
		if err := authenticate(c, o); err != nil {
			return "", err
		}
	}
	return request(c, b[:])
}

func authenticate(c net.Conn, o *ProxyOptions) error {
	field := func() ([]byte, error) {
		var n [1]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return nil, err
		}
		b := make([]byte, n[0])
		_, err := io.ReadFull(c, b)
		return b, err
	}
	var v [1]byte
	if _, err := io.ReadFull(c, v[:]); err != nil {
		return err
	}
	user, err := field()
	if err != nil {
		return err
	}
	password, err := field()
	if err != nil {
		return err
	}
	if v[0] != 1 || same(user, o.User)&same(password, o.Password) != 1 {
		_, _ = c.Write([]byte{1, 1})
		return errors.New("wrong user or password")
	}
	_, err = c.Write([]byte{1, 0})
	return err
}

// same compares in a time that does not depend on the secret, its length included.
func same(a []byte, b string) int {
	x, y := sha256.Sum256(a), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

func request(c net.Conn, b []byte) (string, error) {
	if _, err := io.ReadFull(c, b[:4]); err != nil {
		return "", err
	}
	if b[0] != socksVersion || b[2] != 0 {
		_ = answer(c, replyFailure, netip.AddrPort{})
		return "", errors.New("malformed request")
	}
	cmd, kind := b[1], b[3]
	var n int
	switch kind {
	case addrV4:
		n = 4
	case addrV6:
		n = 16
	case addrName:
		if _, err := io.ReadFull(c, b[:1]); err != nil {
			return "", err
		}
		n = int(b[0])
	default:
		_ = answer(c, replyAddressType, netip.AddrPort{})
		return "", fmt.Errorf("unknown address type %d", kind)
	}
	if _, err := io.ReadFull(c, b[:n+2]); err != nil {
		return "", err
	}
	if cmd != cmdConnect {
		_ = answer(c, replyCommand, netip.AddrPort{})
		return "", fmt.Errorf("command %d is not CONNECT", cmd)
	}
	host := string(b[:n])
	if kind != addrName {
		a, _ := netip.AddrFromSlice(b[:n]) // n is 4 or 16
		host = a.String()
	}
	port := binary.BigEndian.Uint16(b[n:])
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// answer sends a reply with the bound address, which is all zero on failure.
func answer(c net.Conn, code byte, at netip.AddrPort) error {
	a := at.Addr().Unmap()
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	kind := byte(addrV4)
	if a.Is6() {
		kind = addrV6
	}
	b := append([]byte{socksVersion, code, 0, kind}, a.AsSlice()...)
	_, err := c.Write(binary.BigEndian.AppendUint16(b, at.Port()))
	return err
}
