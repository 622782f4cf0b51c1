// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
)

// Ports is the range of UDP ports for the Networks' hubs, one each. The zero
// value offers none.
type Ports struct{ Low, High int }

func (p Ports) contain(n int) bool { return n >= p.Low && n <= p.High }

// hubDocument is a hub's secret half.
type hubDocument struct {
	PrivateKey string `json:"privateKey"`
	Port       int    `json:"port"`
}

// hub reads the hub of a Network; it is zero if there is none.
func (h *Head) hub(network string) (snapshot.Hub, error) {
	data, ok := h.Document(KindHub, network)
	if !ok {
		return snapshot.Hub{}, nil
	}
	var d hubDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return snapshot.Hub{}, fmt.Errorf("the hub of Network/%s does not parse", network)
	}
	key, err := wgkey.ParsePrivate(d.PrivateKey)
	if err != nil {
		return snapshot.Hub{}, fmt.Errorf("the hub of Network/%s: %w", network, err)
	}
	public, err := key.Public()
	if err != nil {
		return snapshot.Hub{}, err
	}
	return snapshot.Hub{PrivateKey: model.NewSecret(d.PrivateKey), PublicKey: public.String(), Port: d.Port}, nil
}

// provideHubs gives every Network of next a hub with a key and a port, and
// returns the change that notes its public half in the status. The hubs of
// Networks that are gone go with them.
func (r *Registry) provideHubs(h *Head, next *model.Set, change *store.Change) (own model.Change, err error) {
	networks := model.All[*model.Network](next)
	hubs := make(map[string]snapshot.Hub, len(networks))
	used := map[int]bool{}
	for _, n := range networks {
		hub, err := h.hub(n.Metadata.Name)
		if err != nil {
			return own, err
		}
		if hub.Port != 0 && r.opts.Ports.contain(hub.Port) && !used[hub.Port] {
			used[hub.Port] = true
		} else {
			hub.Port = 0
		}
		hubs[n.Metadata.Name] = hub
	}
	for _, n := range networks {
		name := n.Metadata.Name
		hub, err := r.completeHub(hubs[name], name, used)
		if err != nil {
			return own, err
		}
		if was, _ := h.hub(name); was != hub {
			data, err := json.Marshal(hubDocument{hub.PrivateKey.Reveal(), hub.Port})
			if err != nil {
				return own, err
			}
			change.Puts = append(change.Puts, store.Put{Key: store.Key{Kind: KindHub, Name: name}, IfRevision: store.Any, Data: data})
		}
		if n.Status.PublicKey != hub.PublicKey || n.Status.Port != hub.Port {
			c := model.Clone(n)
			c.Status.PublicKey, c.Status.Port = hub.PublicKey, hub.Port
			own.Puts = append(own.Puts, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Documents(KindHub))) {
		if _, ok := hubs[name]; !ok {
			change.Deletes = append(change.Deletes, store.Delete{Key: store.Key{Kind: KindHub, Name: name}, IfRevision: store.Any})
		}
	}
	return own, nil
}

func (r *Registry) completeHub(hub snapshot.Hub, network string, used map[int]bool) (snapshot.Hub, error) {
	if hub.PrivateKey.IsZero() {
		key, err := wgkey.Generate()
		if err != nil {
			return hub, err
		}
		public, err := key.Public()
		if err != nil {
			return hub, err
		}
		hub.PrivateKey, hub.PublicKey = model.NewSecret(key.Reveal()), public.String()
	}
	if hub.Port != 0 || r.opts.Ports == (Ports{}) {
		return hub, nil
	}
	for p := r.opts.Ports.Low; p <= r.opts.Ports.High; p++ {
		if !used[p] {
			used[p], hub.Port = true, p
			return hub, nil
		}
	}
	return hub, &model.Error{
		Kind: model.Limited, Ref: model.Ref{Kind: model.KindNetwork, Name: network},
		Msg: fmt.Sprintf("no UDP port is left for its hub in %d-%d; start the server with a wider --wireguard range", r.opts.Ports.Low, r.opts.Ports.High),
	}
}
