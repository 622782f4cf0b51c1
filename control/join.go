// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net"
	"net/netip"
	"strconv"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// tunnelMTU is what fits into WireGuard on a path of 1500 bytes.
const tunnelMTU = 1420

func joinHost(c *call) (any, error) { return c.join(model.KindHost) }

func joinLink(c *call) (any, error) { return c.join(model.KindLink) }

// join registers a key and answers how to reach the hub.
func (c *call) join(kind model.Kind) (any, error) {
	var in wire.Join
	if err := c.read(&in); err != nil {
		return nil, err
	}
	if c.opts.HubHost == "" {
		return nil, unavailable("offer WireGuard; start it with --wireguard ADDR:LOW-HIGH")
	}
	ref := model.Ref{Kind: kind, Name: c.name()}
	out := wire.Joined{Name: ref.Name, PublicKey: in.PublicKey, MTU: tunnelMTU}
	if out.PublicKey == "" {
		key, err := wgkey.Generate()
		if err != nil {
			return nil, err
		}
		public, err := key.Public()
		if err != nil {
			return nil, err
		}
		out.PublicKey, out.PrivateKey = public.String(), key.Reveal()
	} else if _, err := wgkey.ParsePublic(out.PublicKey); err != nil {
		return nil, &model.Error{Kind: model.Invalid, Ref: ref, Field: "publicKey", Msg: "it is no WireGuard key: 32 bytes in base64, as wg pubkey prints"}
	}
	res, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		if err := checkKey(h.Set, ref, out.PublicKey, out.PrivateKey != ""); err != nil {
			return nil, err
		}
		o := model.Clone(h.Set.Object(ref))
		out.Replaced = o.Base().Status.PublicKey != "" && o.Base().Status.PublicKey != out.PublicKey
		o.Base().Status.PublicKey = out.PublicKey
		return put(o), nil
	})
	if err != nil {
		return nil, err
	}
	if cond := res.Published.NotReady(ref); cond != nil {
		return nil, &model.Error{Kind: model.Conflict, Ref: ref, Msg: "it is not ready: " + cond.Message}
	}
	if err := c.describeHub(res.Published.Snapshot, ref, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// checkKey judges whether ref may have the key: no two members of any Network
// share one, and what a manifest says stands.
func checkKey(s *model.Set, ref model.Ref, key string, made bool) error {
	if s.Object(ref) == nil {
		return absent(ref)
	}
	for member, keys := range memberKeys(s) {
		switch {
		case member == ref && keys.declared != "" && (made || keys.declared != key):
			return &model.Error{
				Kind: model.Conflict, Ref: ref, Field: "spec.publicKey",
				Msg: "its manifest names the public key; join with the private key that belongs to it, or take the field out and apply",
			}
		case member != ref && (keys.declared == key || keys.registered == key):
			return &model.Error{Kind: model.Conflict, Ref: ref, Field: "publicKey", Msg: "the key is " + member.String() + "'s; make another with wg genkey"}
		}
	}
	return nil
}

type memberKey struct{ declared, registered string }

func memberKeys(s *model.Set) map[model.Ref]memberKey {
	out := map[model.Ref]memberKey{}
	for _, h := range model.All[*model.Host](s) {
		out[model.RefOf(h)] = memberKey{h.Spec.PublicKey, h.Status.PublicKey}
	}
	for _, l := range model.All[*model.Link](s) {
		out[model.RefOf(l)] = memberKey{l.Spec.PublicKey, l.Status.PublicKey}
	}
	return out
}

// describeHub fills in where the hub is and what lies behind it.
func (c *call) describeHub(s *snapshot.Snapshot, ref model.Ref, out *wire.Joined) error {
	var n *snapshot.Network
	var reach []netip.Prefix
	switch ref.Kind {
	case model.KindHost:
		i := s.Hosts[ref.Name]
		if i == nil {
			return absent(ref)
		}
		n = i.Network
		out.Addresses = []string{netip.PrefixFrom(i.Addr, i.Addr.BitLen()).String()}
		reach = hostReach(i)
	default:
		l := s.Links[ref.Name]
		if l == nil {
			return absent(ref)
		}
		n = l.Network
		out.Addresses = []string{}
		reach = n.Prefixes
	}
	if n.Hub.Port == 0 {
		return unavailable("offer a port for Network/" + n.Name + "; start it with --wireguard ADDR:LOW-HIGH")
	}
	out.Network = n.Name
	out.Hub = wire.Hub{PublicKey: n.Hub.PublicKey, Endpoint: net.JoinHostPort(c.opts.HubHost, strconv.Itoa(n.Hub.Port))}
	out.DNS = []string{}
	for _, a := range n.Resolver {
		out.DNS = append(out.DNS, a.String())
	}
	out.AllowedIPs = []string{}
	for _, p := range reach {
		out.AllowedIPs = append(out.AllowedIPs, p.String())
	}
	return nil
}

// hostReach is what a Host sends into the tunnel: its Network, peers and
// links; everything only if its Subnet has a route to the internet.
func hostReach(i *snapshot.Interface) []netip.Prefix {
	if i.Subnet.InternetRoute {
		if i.Addr.Is4() {
			return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}
		return []netip.Prefix{netip.MustParsePrefix("::/0")}
	}
	out := append([]netip.Prefix(nil), i.Network.Prefixes...)
	for _, p := range i.Network.Peers {
		out = append(out, p.Prefixes...)
	}
	for _, l := range i.Network.Links {
		out = append(out, l.Prefixes...)
	}
	return out
}
