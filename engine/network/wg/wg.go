// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wg runs a WireGuard device in this process. Its plaintext side is a
// Carrier: a userspace stack for a client, a hub for a server. Its other side is a
// UDP socket of its own that sends and receives in batches.
//
// Which peer a packet came from shows in its source address: the device drops
// every packet whose source is not among its peer's allowed addresses.
package wg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/internal/wgkey"

	"golang.zx2c4.com/wireguard/device"
)

// Key is a public key.
type Key = wgkey.Public

// PrivateKey is a private key, which redacts itself when it is printed.
type PrivateKey = wgkey.Private

// PresharedKey is a pre-shared key, which redacts itself when it is printed.
type PresharedKey = wgkey.Shared

// ParseKey reads a public key in base64.
func ParseKey(s string) (Key, error) { return wgkey.ParsePublic(s) }

// ParsePrivateKey reads a private key in base64.
func ParsePrivateKey(s string) (PrivateKey, error) { return wgkey.ParsePrivate(s) }

// ParsePresharedKey reads a pre-shared key in base64.
func ParsePresharedKey(s string) (PresharedKey, error) { return wgkey.ParseShared(s) }

// GenerateKey makes a private key.
func GenerateKey() (PrivateKey, error) { return wgkey.Generate() }

// Carrier is the plaintext side of a device.
type Carrier interface {
	// ReadBatch waits for packets to encrypt and puts them into bufs[i][off:], their
	// lengths into sizes[i]; a length of zero is skipped. After Close it returns
	// net.ErrClosed.
	ReadBatch(bufs [][]byte, sizes []int, off int) (int, error)
	// WriteBatch takes decrypted packets bufs[i][off:]. It must not keep them.
	WriteBatch(bufs [][]byte, off int) (int, error)
	// MTU is the largest packet that the tunnel should carry.
	MTU() int
	// Close makes ReadBatch return. Device.Close calls it.
	Close() error
}

// Options configures a Device.
type Options struct {
	PrivateKey PrivateKey
	// Listen is the address of the UDP socket. Port zero picks one; the zero Addr
	// means any address of both families.
	Listen netip.AddrPort
	// Carrier is the plaintext side. The device owns it and closes it.
	Carrier Carrier
	// Log hears of trouble, and with level debug of every handshake. Nil is silence.
	Log *slog.Logger
}

// Peer is one peer's configuration.
type Peer struct {
	PublicKey    Key
	PresharedKey PresharedKey // zero for none
	// Endpoint is where the peer can be reached, as "host:port". If it is empty the
	// device waits for the peer to call.
	Endpoint string
	// AllowedIPs are the addresses that are the peer's. A prefix that another peer
	// had moves to this one.
	AllowedIPs []netip.Prefix
	// Keepalive is how often to send when idle; zero for never.
	Keepalive time.Duration
}

// Status is what a device knows of a peer.
type Status struct {
	PublicKey     Key
	Endpoint      netip.AddrPort // zero if unknown
	LastHandshake time.Time      // zero if there was none
	Rx, Tx        uint64         // bytes
}

// resolveTimeout bounds the look-up of a peer's name.
const resolveTimeout = 5 * time.Second

// A Device is a WireGuard device. Its methods may be called concurrently.
type Device struct {
	dev    *device.Device
	bind   *bind
	public Key

	mu     sync.Mutex
	closed bool
	peers  map[Key]Peer // as last set
}

// New makes a device that is up and has no peer. When it fails, the carrier may
// have been closed.
func New(o Options) (*Device, error) {
	public, err := o.PrivateKey.Public()
	if err != nil || o.PrivateKey.IsZero() {
		return nil, errors.New("wg: no usable private key")
	}
	b, err := newBind(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("wg: listen: %w", err)
	}
	d := &Device{bind: b, public: public, peers: map[Key]Peer{}}
	d.dev = device.NewDevice(newTun(o.Carrier), b, logger(o.Log))
	err = d.dev.IpcSet("private_key=" + o.PrivateKey.RevealHex() + "\n")
	if err == nil {
		err = d.dev.Up()
	}
	if err != nil {
		d.dev.Close()
		b.release()
		return nil, fmt.Errorf("wg: bring the device up: %w", err)
	}
	return d, nil
}

// logger adapts a slog.Logger. Debug output is switched off at the source, for
// the device would format every line first.
func logger(log *slog.Logger) *device.Logger {
	l := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if log == nil {
		return l
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		l.Verbosef = func(f string, a ...any) { log.Debug(fmt.Sprintf("wireguard: "+f, a...)) }
	}
	l.Errorf = func(f string, a ...any) { log.Warn(fmt.Sprintf("wireguard: "+f, a...)) }
	return l
}

// PublicKey returns the device's own public key.
func (d *Device) PublicKey() Key { return d.public }

// Addr returns the address of the UDP socket.
func (d *Device) Addr() netip.AddrPort { return d.bind.addr() }

// SetPeer adds or changes a peer. Only what differs from the last call for that
// peer is changed, so packets flow on.
func (d *Device) SetPeer(p Peer) error {
	fail := func(err error) error { return fmt.Errorf("wg: set peer %v: %w", p.PublicKey, err) }
	if p.PublicKey.IsZero() {
		return fail(errors.New("no public key"))
	}
	if p.PublicKey == d.public {
		return fail(errors.New("the key is the device's own"))
	}
	if p.Keepalive < 0 || p.Keepalive > 65535*time.Second {
		return fail(fmt.Errorf("keepalive %v is not within 0..65535 s", p.Keepalive))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fail(net.ErrClosed)
	}
	old, known := d.peers[p.PublicKey]
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%s\n", p.PublicKey.Hex())
	if !p.PresharedKey.Equal(old.PresharedKey) {
		fmt.Fprintf(&b, "preshared_key=%s\n", p.PresharedKey.RevealHex())
	}
	if p.Endpoint != "" && p.Endpoint != old.Endpoint {
		at, err := d.Resolve(context.Background(), p.Endpoint)
		if err != nil {
			return fail(err)
		}
		fmt.Fprintf(&b, "endpoint=%s\n", at)
	}
	if p.Keepalive != old.Keepalive {
		fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", int(p.Keepalive.Round(time.Second)/time.Second))
	}
	if err := diff(&b, old.AllowedIPs, p.AllowedIPs, known); err != nil {
		return fail(err)
	}
	if err := d.dev.IpcSet(b.String()); err != nil {
		return fail(err)
	}
	p.AllowedIPs = append([]netip.Prefix(nil), p.AllowedIPs...)
	d.peers[p.PublicKey] = p
	// A prefix that moved here is no longer the other peer's, so that setting it
	// there again is a change.
	for k, other := range d.peers {
		if k != p.PublicKey {
			other.AllowedIPs = without(other.AllowedIPs, p.AllowedIPs)
			d.peers[k] = other
		}
	}
	return nil
}

// diff writes the lines that turn the prefixes old into want.
func diff(b *strings.Builder, old, want []netip.Prefix, known bool) error {
	if !known {
		b.WriteString("replace_allowed_ips=true\n")
	}
	for _, p := range want {
		if !p.IsValid() {
			return fmt.Errorf("allowed address %v is not a prefix", p)
		}
	}
	for _, p := range without(old, want) {
		fmt.Fprintf(b, "allowed_ip=-%s\n", p.Masked())
	}
	for _, p := range without(want, old) {
		fmt.Fprintf(b, "allowed_ip=%s\n", p.Masked())
	}
	return nil
}

// without returns the prefixes of a that are not in b.
func without(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 {
		return nil
	}
	in := make(map[netip.Prefix]struct{}, len(b))
	for _, p := range b {
		in[p.Masked()] = struct{}{}
	}
	var out []netip.Prefix
	for _, p := range a {
		if _, ok := in[p.Masked()]; !ok {
			out = append(out, p)
		}
	}
	return out
}

// Resolve turns "host:port" into an address that the socket can reach. It asks
// this machine's resolver, for at most five seconds.
func (d *Device) Resolve(ctx context.Context, s string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("endpoint: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, fmt.Errorf("endpoint %q: port is not within 1..65535", s)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("endpoint: %w", err)
	}
	for _, a := range addrs {
		if a = a.Unmap(); d.bind.reaches(a) {
			return netip.AddrPortFrom(a, uint16(n)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("endpoint: %s has no address of the socket's family", host)
}

// RemovePeer forgets a peer. Removing an unknown one does nothing.
func (d *Device) RemovePeer(k Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.peers[k]; !ok || d.closed {
		return nil
	}
	if err := d.dev.IpcSet("public_key=" + k.Hex() + "\nremove=true\n"); err != nil {
		return fmt.Errorf("wg: remove peer %v: %w", k, err)
	}
	delete(d.peers, k)
	return nil
}

// Peers returns the status of every peer.
func (d *Device) Peers() ([]Status, error) {
	var out []Status
	err := d.each(func(s Status) { out = append(out, s) })
	return out, err
}

// Status returns the status of one peer and whether it is configured.
func (d *Device) Status(k Key) (Status, bool) {
	var out Status
	found := false
	err := d.each(func(s Status) {
		if s.PublicKey == k {
			out, found = s, true
		}
	})
	return out, found && err == nil
}

// each reads the device's state.
func (d *Device) each(visit func(Status)) error {
	text, err := d.dev.IpcGet()
	if err != nil {
		return fmt.Errorf("wg: read status: %w", err)
	}
	var s Status
	var sec, nsec int64
	some := false
	flush := func() {
		if some {
			if sec != 0 || nsec != 0 {
				s.LastHandshake = time.Unix(sec, nsec)
			}
			visit(s)
		}
		s, sec, nsec = Status{}, 0, 0
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		k, v, _ := strings.Cut(lines.Text(), "=")
		switch k {
		case "public_key":
			flush()
			some = true
			s.PublicKey, err = wgkey.ParsePublicHex(v)
		case "endpoint":
			s.Endpoint, err = netip.ParseAddrPort(v)
		case "last_handshake_time_sec":
			sec, err = strconv.ParseInt(v, 10, 64)
		case "last_handshake_time_nsec":
			nsec, err = strconv.ParseInt(v, 10, 64)
		case "rx_bytes":
			s.Rx, err = strconv.ParseUint(v, 10, 64)
		case "tx_bytes":
			s.Tx, err = strconv.ParseUint(v, 10, 64)
		}
		if err != nil {
			return fmt.Errorf("wg: read status: field %s: %w", k, err)
		}
	}
	flush()
	return lines.Err()
}

// Close takes the device down, closes its socket and its carrier and waits.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.dev.Close()
	<-d.dev.Wait()
	d.bind.release()
	return nil
}
