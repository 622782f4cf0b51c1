// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/model"
)

// figures are what one process of a gateway is shown by; there are no more of
// them than instances are remembered, and no text of theirs but their name and
// version.
type figures struct {
	gateway string
	model.Instance
	beats   uint64
	expires time.Time
}

func (x *figures) labels() []string { return []string{"gateway", x.gateway, "instance", x.Name} }

// Metrics writes what is known of all gateways and their processes.
func (f *Fleet) Metrics(t *exposition.Text) {
	assigned, streams, all := f.figures()
	names := slices.Sorted(maps.Keys(assigned))
	t.Family("postern_selfhosted_assigned_revision", exposition.Gauge, "Revision of what the gateway is assigned; 0 if nothing asked for it yet.")
	for _, n := range names {
		t.Sample(float64(assigned[n]), "gateway", n)
	}
	t.Family("postern_selfhosted_streams", exposition.Gauge, "Streams of protocol v2 that are open.")
	for _, n := range names {
		t.Sample(float64(streams[n]), "gateway", n)
	}
	flag := func(name, help string, of func(*figures) bool) {
		t.Family(name, exposition.Gauge, help)
		for i := range all {
			t.Flag(of(&all[i]), all[i].labels()...)
		}
	}
	number := func(name, kind, help string, of func(*figures) (float64, bool)) {
		t.Family(name, kind, help)
		for i := range all {
			if v, ok := of(&all[i]); ok {
				t.Sample(v, all[i].labels()...)
			}
		}
	}
	flag("postern_selfhosted_connected", "1 if a stream to the instance is open or, by protocol v1, it was heard of within three heartbeats.", func(x *figures) bool { return x.Connected })
	flag("postern_selfhosted_offline", "1 if three heartbeats of the instance were missed.", func(x *figures) bool { return x.Offline })
	flag("postern_selfhosted_configuration_current", "1 if the instance serves what it is assigned.", func(x *figures) bool { return x.Current })
	flag("postern_selfhosted_failing", "1 if the instance told of an error, and does not serve what it is assigned since; postern get selfhosted shows it.", func(x *figures) bool { return x.LastError != "" && !x.Recovered })
	t.Family("postern_selfhosted_instance_info", exposition.Gauge, "Version of the instance, and the protocol and endpoint by which it called last.")
	for i := range all {
		x := &all[i]
		t.Sample(1, append(x.labels(), "version", x.Version, "protocol", x.Protocol, "endpoint", x.Endpoint)...)
	}
	number("postern_selfhosted_heartbeats_total", exposition.Counter, "Heartbeats received from the instance.", func(x *figures) (float64, bool) { return float64(x.beats), true })
	number("postern_selfhosted_last_seen_timestamp_seconds", exposition.Gauge, "When the instance was last heard of.", func(x *figures) (float64, bool) { return float64(x.Seen.Unix()), true })
	number("postern_selfhosted_configuration_revision", exposition.Gauge, "Revision of what the instance serves.", func(x *figures) (float64, bool) { return float64(x.Revision), true })
	number("postern_selfhosted_configuration_age_seconds", exposition.Gauge, "For how long what the instance serves was not confirmed.", func(x *figures) (float64, bool) { return float64(x.Age), true })
	number("postern_selfhosted_credential_expiry_timestamp_seconds", exposition.Gauge, "When the token or the certificate ends that the instance has shown.", func(x *figures) (float64, bool) {
		return float64(x.expires.Unix()), !x.expires.IsZero()
	})
}

// figures are those of all processes, sorted, and what each gateway is assigned.
func (f *Fleet) figures() (assigned map[string]int64, streams map[string]int, all []figures) {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	assigned, streams = map[string]int64{}, map[string]int{}
	if f.set != nil {
		for _, n := range f.set.Names(model.KindSelfHosted) {
			assigned[n] = 0
		}
	}
	for name, g := range f.gateways {
		streams[name] = len(g.streams)
		newest := g.newest()
		if newest != nil {
			assigned[name] = newest.doc.Revision
		}
		for _, i := range g.instances {
			all = append(all, figures{gateway: name, Instance: i.shown(newest, now), beats: i.beats, expires: i.token.Expires})
		}
	}
	slices.SortFunc(all, func(a, b figures) int {
		return cmp.Or(cmp.Compare(a.gateway, b.gateway), cmp.Compare(a.Name, b.Name))
	})
	return assigned, streams, all
}
