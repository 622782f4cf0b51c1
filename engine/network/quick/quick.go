// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package quick reads and writes wg-quick configuration files. It is strict: what
// it does not understand it refuses, naming the line, because a silently dropped
// setting is a tunnel that fails later.
package quick

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/wgkey"
)

// Config is a wg-quick file.
type Config struct {
	Interface Interface
	Peers     []Peer
}

// Interface is the [Interface] section.
type Interface struct {
	PrivateKey wgkey.Private
	Addresses  []netip.Prefix
	// DNS are the resolvers' addresses, Search the names that stand beside them.
	DNS        []netip.Addr
	Search     []string
	MTU        int    // 0 is unset
	ListenPort uint16 // 0 is unset
}

// Peer is a [Peer] section.
type Peer struct {
	PublicKey    wgkey.Public
	PresharedKey wgkey.Shared // zero is unset
	Endpoint     string       // "host:port", or empty
	AllowedIPs   []netip.Prefix
	Keepalive    time.Duration // whole seconds; 0 is unset
}

// An Error is a mistake in a file.
type Error struct {
	Line int // from 1
	Msg  string
}

// Error names the line.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

const (
	maxLine  = 4096
	maxLines = 100_000
)

// Parse reads a file. Every mistake is an *Error, all of them joined.
func Parse(data []byte) (*Config, error) {
	p := parser{}
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	if len(lines) > maxLines {
		return nil, &Error{Line: maxLines, Msg: "the file has too many lines"}
	}
	for i, l := range lines {
		p.n = i + 1
		p.line(strings.TrimSuffix(l, "\r"))
	}
	p.n = len(lines)
	p.finish()
	switch {
	case !p.hasInterface:
		p.fail("there is no [Interface] section")
	case p.c.Interface.PrivateKey.IsZero() && !p.bad["privatekey"]:
		p.fail("[Interface] lacks PrivateKey")
	}
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return &p.c, nil
}

type parser struct {
	c            Config
	n            int // the line
	errs         []error
	section      string
	start        int             // the line of the section's header
	seen         map[string]bool // keys that may appear once
	bad          map[string]bool // keys of [Interface] whose value was refused
	hasInterface bool
}

func (p *parser) fail(format string, a ...any) {
	p.errs = append(p.errs, &Error{Line: p.n, Msg: fmt.Sprintf(format, a...)})
}

func (p *parser) line(l string) {
	if len(l) > maxLine {
		p.fail("the line is longer than %d bytes", maxLine)
		return
	}
	l, _, _ = strings.Cut(l, "#")
	l = strings.TrimSpace(l)
	switch {
	case l == "":
	case strings.HasPrefix(l, "["):
		p.begin(l)
	default:
		k, v, ok := strings.Cut(l, "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !ok:
			p.fail("want Key = Value or a [Section]")
		case p.section == "":
			p.fail("%s stands before any section", printable(k))
		case v == "" && !strings.EqualFold(k, "AllowedIPs"):
			p.fail("%s has no value", printable(k))
		default:
			p.set(k, v)
		}
	}
}

func (p *parser) begin(l string) {
	p.finish()
	p.seen, p.start = map[string]bool{}, p.n
	switch {
	case strings.EqualFold(l, "[Interface]"):
		if p.hasInterface {
			p.fail("a second [Interface] section")
		}
		p.section, p.hasInterface = "interface", true
	case strings.EqualFold(l, "[Peer]"):
		p.section = "peer"
		p.c.Peers = append(p.c.Peers, Peer{})
	default:
		p.fail("unknown section %s: want [Interface] or [Peer]", printable(l))
		p.section = "unknown"
	}
}

// finish checks the section that ends.
func (p *parser) finish() {
	if p.section != "peer" {
		return
	}
	at := p.n
	p.n = p.start
	if !p.seen["publickey"] {
		p.fail("[Peer] lacks PublicKey")
	} else {
		last := p.c.Peers[len(p.c.Peers)-1].PublicKey
		for _, o := range p.c.Peers[:len(p.c.Peers)-1] {
			if o.PublicKey == last && !last.IsZero() {
				p.fail("a second [Peer] with the key %v", last)
			}
		}
	}
	p.n = at
}

func (p *parser) set(key, v string) {
	k := strings.ToLower(key)
	// Lists may be spread over several lines; anything else stands once.
	if list := k == "address" || k == "dns" || k == "allowedips"; p.seen[k] && !list {
		p.fail("%s is set twice", printable(key))
		return
	}
	p.seen[k] = true
	var err error
	switch p.section {
	case "unknown":
		return // its header was refused already
	case "interface":
		err = p.c.Interface.set(k, v)
		if err != nil {
			if p.bad == nil {
				p.bad = map[string]bool{}
			}
			p.bad[k] = true
		}
	case "peer":
		err = p.c.Peers[len(p.c.Peers)-1].set(k, v)
	}
	switch {
	case errors.Is(err, errUnknown):
		p.fail("unknown key %s", printable(key))
	case err != nil:
		p.fail("%s: %v", printable(key), err)
	}
}

var errUnknown = errors.New("unknown")

func (i *Interface) set(k, v string) (err error) {
	switch k {
	case "privatekey":
		i.PrivateKey, err = wgkey.ParsePrivate(v)
	case "address":
		return each(v, func(s string) error {
			a, err := prefix(s)
			i.Addresses = append(i.Addresses, a)
			return err
		})
	case "dns":
		return each(v, func(s string) error {
			if a, err := netip.ParseAddr(s); err == nil {
				i.DNS = append(i.DNS, a)
				return nil
			}
			if !name(s) {
				return fmt.Errorf("%s is neither an address nor a name", printable(s))
			}
			i.Search = append(i.Search, s)
			return nil
		})
	case "mtu":
		var n uint64
		n, err = number(v, 576, 65535)
		i.MTU = int(n)
	case "listenport":
		var n uint64
		n, err = number(v, 1, 65535)
		i.ListenPort = uint16(n)
	case "table", "preup", "postup", "predown", "postdown", "saveconfig", "fwmark":
		return errors.New("is for a kernel interface and would have no effect")
	default:
		return errUnknown
	}
	return err
}

func (p *Peer) set(k, v string) (err error) {
	switch k {
	case "publickey":
		p.PublicKey, err = wgkey.ParsePublic(v)
	case "presharedkey":
		p.PresharedKey, err = wgkey.ParseShared(v)
	case "endpoint":
		p.Endpoint, err = endpoint(v)
	case "allowedips":
		if v == "" {
			return nil
		}
		return each(v, func(s string) error {
			a, err := prefix(s)
			p.AllowedIPs = append(p.AllowedIPs, a.Masked())
			return err
		})
	case "persistentkeepalive":
		if strings.EqualFold(v, "off") {
			return nil
		}
		var n uint64
		n, err = number(v, 0, 65535)
		p.Keepalive = time.Duration(n) * time.Second
	default:
		return errUnknown
	}
	return err
}

// each visits the parts of a list.
func each(v string, visit func(string) error) error {
	for _, s := range strings.Split(v, ",") {
		if err := visit(strings.TrimSpace(s)); err != nil {
			return err
		}
	}
	return nil
}

// prefix reads an address with or without a length.
func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s is not an address or prefix", printable(s))
	}
	return p, nil
}

func number(s string, low, high uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s is not within %d..%d", printable(s), low, high)
	}
	return n, nil
}

func endpoint(s string) (string, error) {
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() != 0 {
		return a.String(), nil
	}
	colon := strings.LastIndexByte(s, ':')
	host, port := s[:max(colon, 0)], s[colon+1:]
	if !name(host) {
		return "", fmt.Errorf("%s is not host:port (an IPv6 address stands in brackets)", printable(s))
	}
	if _, err := number(port, 1, 65535); err != nil {
		return "", fmt.Errorf("port %w", err)
	}
	return s, nil
}

// name reports whether s is a host name.
func name(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, l := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|32 < 'a' || c|32 > 'z') {
				return false
			}
		}
	}
	return true
}

// printable quotes and shortens what a file says. Values of key fields never pass
// here.
func printable(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return strconv.Quote(s)
}
