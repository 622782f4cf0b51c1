// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package quick

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// String prints the file with its keys redacted.
func (c *Config) String() string { return c.print(false) }

// Reveal prints the file as wg-quick reads it, with its keys.
func (c *Config) Reveal() []byte { return []byte(c.print(true)) }

func (c *Config) print(reveal bool) string {
	show := func(plain func() string, redacted fmt.Stringer) string {
		if reveal {
			return plain()
		}
		return redacted.String()
	}
	var b strings.Builder
	line := func(k, v string) { fmt.Fprintf(&b, "%s = %s\n", k, v) }
	i := c.Interface
	b.WriteString("[Interface]\n")
	line("PrivateKey", show(i.PrivateKey.Reveal, i.PrivateKey))
	if len(i.Addresses) > 0 {
		line("Address", join(i.Addresses, netip.Prefix.String))
	}
	if len(i.DNS)+len(i.Search) > 0 {
		names := make([]string, 0, len(i.DNS)+len(i.Search))
		for _, a := range i.DNS {
			names = append(names, a.String())
		}
		line("DNS", strings.Join(append(names, i.Search...), ", "))
	}
	if i.MTU != 0 {
		line("MTU", fmt.Sprint(i.MTU))
	}
	if i.ListenPort != 0 {
		line("ListenPort", fmt.Sprint(i.ListenPort))
	}
	for _, p := range c.Peers {
		b.WriteString("\n[Peer]\n")
		line("PublicKey", p.PublicKey.String())
		if !p.PresharedKey.IsZero() {
			line("PresharedKey", show(p.PresharedKey.Reveal, p.PresharedKey))
		}
		if p.Endpoint != "" {
			line("Endpoint", p.Endpoint)
		}
		if len(p.AllowedIPs) > 0 {
			line("AllowedIPs", join(p.AllowedIPs, netip.Prefix.String))
		}
		if p.Keepalive > 0 {
			line("PersistentKeepalive", fmt.Sprint(int(p.Keepalive/time.Second)))
		}
	}
	return b.String()
}

func join[T any](list []T, show func(T) string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = show(v)
	}
	return strings.Join(out, ", ")
}
