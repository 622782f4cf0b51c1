// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tunnel turns the management API's answer to a join into the
// configuration of a WireGuard client.
package tunnel

import (
	"fmt"
	"net/netip"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/internal/wgkey"
)

// keepalive keeps the way to the hub open through NAT.
const keepalive = 25 * time.Second

// Config is the wg-quick configuration that an answer describes.
func Config(j wire.Joined, key wgkey.Private) (*quick.Config, error) {
	hub, err := wgkey.ParsePublic(j.Hub.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the server's answer for the hub of Network/%s: %w", j.Network, err)
	}
	c := &quick.Config{Interface: quick.Interface{PrivateKey: key, MTU: j.MTU}}
	peer := quick.Peer{PublicKey: hub, Endpoint: j.Hub.Endpoint, Keepalive: keepalive}
	for _, list := range []struct {
		texts []string
		to    *[]netip.Prefix
	}{{j.Addresses, &c.Interface.Addresses}, {j.AllowedIPs, &peer.AllowedIPs}} {
		for _, t := range list.texts {
			p, err := netip.ParsePrefix(t)
			if err != nil {
				return nil, fmt.Errorf("the server's answer for %s: %w", j.Name, err)
			}
			*list.to = append(*list.to, p)
		}
	}
	for _, t := range j.DNS {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return nil, fmt.Errorf("the server's answer for %s: %w", j.Name, err)
		}
		c.Interface.DNS = append(c.Interface.DNS, a)
	}
	c.Peers = []quick.Peer{peer}
	return c, nil
}
