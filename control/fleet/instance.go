// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

const (
	// missed is after how long without a sign of life an instance is offline.
	missed = 3 * configuration.HeartbeatEvery
	// remembered is for how long an instance that is offline is shown.
	remembered = 24 * time.Hour
	// Bounds of what instances tell of themselves.
	maxName, maxVersion, maxError = 128, 64, 512
)

// instance is one process of a gateway; under Fleet.mu.
type instance struct {
	model.Instance
	hash    string
	streams int
	beats   uint64 // heartbeats
	token   Credential
}

// shows notes by what an instance has called.
func (i *instance) shows(c Credential, protocol string) {
	i.Protocol, i.Endpoint, i.token = protocol, c.Endpoint, c
}

// shown is an instance as it is shown.
func (i *instance) shown(newest *state, now time.Time) model.Instance {
	x := i.Instance
	x.Seen = x.Seen.UTC().Truncate(time.Second)
	x.Offline = now.Sub(i.Seen) > missed
	x.Connected = i.streams > 0 || i.Protocol == "v1" && !x.Offline
	x.Current = newest != nil && i.hash == newest.hash
	x.ErrorSeen = x.ErrorSeen.UTC().Truncate(time.Second)
	if !x.Connected {
		x.Age += max(0, int64(now.Sub(i.Seen)/time.Second))
	}
	return x
}

// failed notes what an instance says went wrong.
func (i *instance) failed(text string, now time.Time) {
	text = clip(text, maxError)
	switch {
	case text == "":
		i.LastError, i.ErrorSeen, i.Recovered = "", time.Time{}, false
	case text != i.LastError:
		i.LastError, i.ErrorSeen, i.Recovered = text, now, false
	}
}

// has notes what an instance says that it serves. With what it is assigned it has
// got over what went wrong: gateways tell of that for a while after.
func (i *instance) has(hash string, newest *state) {
	i.hash = clip(hash, maxName)
	if newest != nil && i.hash == newest.hash && i.LastError != "" {
		i.Recovered = true
	}
}

// find finds or begins an instance; nil if there are too many. Under mu.
func (f *Fleet) find(g *gateway, name string, now time.Time) *instance {
	if i := g.instances[name]; i != nil {
		return i
	}
	if limit := 2 * f.opts.Max; f.instances >= limit || len(g.instances) >= limit/2 {
		f.evict(g, now)
		if f.instances >= limit || len(g.instances) >= limit/2 {
			return nil
		}
	}
	i := &instance{Instance: model.Instance{Name: name}}
	g.instances[name] = i
	f.instances++
	return i
}

// evict forgets the instance of g that was not heard of for longest, if it is
// offline.
func (f *Fleet) evict(g *gateway, now time.Time) {
	var oldest *instance
	for _, i := range g.instances {
		if i.streams == 0 && now.Sub(i.Seen) > missed && (oldest == nil || i.Seen.Before(oldest.Seen)) {
			oldest = i
		}
	}
	if oldest != nil {
		delete(g.instances, oldest.Name)
		f.instances--
	}
}

// forget forgets instances that are gone; under mu.
func (f *Fleet) forget(g *gateway, now time.Time) {
	for name, i := range g.instances {
		if i.streams == 0 && now.Sub(i.Seen) > remembered {
			delete(g.instances, name)
			f.instances--
		}
	}
}

// connected notes that a stream begins, 1, or ends, -1; under mu.
func (f *Fleet) connected(s *Stream, by int) {
	if f.gateways[s.gateway.name] != s.gateway {
		return // deleted meanwhile
	}
	now := f.opts.Now()
	i := s.gateway.instances[s.instance]
	if by > 0 {
		i = f.find(s.gateway, s.instance, now)
	}
	if i == nil {
		return
	}
	i.streams = max(i.streams+by, 0)
	if by > 0 {
		i.Seen = now
		i.shows(s.credential, "v2")
	}
}

// seen notes a sign of life.
func (f *Fleet) seen(s *Stream, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := s.gateway.instances[s.instance]; i != nil {
		i.Seen = now
	}
}

// served notes what an instance serves.
func (f *Fleet) served(s *Stream, a *configuration.Ack, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := s.gateway.instances[s.instance]
	if i == nil {
		return
	}
	i.Seen, i.Revision, i.Age = now, a.Revision, 0
	i.failed(a.Error, now)
	i.has(a.Hash, s.gateway.newest())
}

// Polled notes that an instance asked for its configuration and has what hash
// says.
func (f *Fleet) Polled(c Credential, name, hash string) {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.gateway(c.For)
	if err != nil {
		return // deleted meanwhile
	}
	i := f.find(g, Name(name, c.For), now)
	if i == nil {
		return
	}
	i.Seen = now
	i.shows(c, "v1")
	i.has(hash, g.newest())
	if n := g.newest(); n != nil && n.hash == hash {
		i.Revision, i.Age = n.doc.Revision, 0
	}
}

// Heard notes a heartbeat. An instance without a name is called as its gateway.
func (f *Fleet) Heard(c Credential, h configuration.Heartbeat, protocol string) {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.gateway(c.For)
	if err != nil {
		return // deleted meanwhile
	}
	i := f.find(g, Name(h.Instance, c.For), now)
	if i == nil {
		return
	}
	i.Seen = now
	i.beats++
	i.shows(c, protocol)
	i.Version, i.Source = clip(h.Version, maxVersion), clip(h.Source, maxVersion)
	i.Revision, i.Age = h.Revision, max(h.Age, 0)
	i.failed(h.LastError, now)
	i.has(h.Hash, g.newest())
}

// Name is an instance's name as it is noted: without what does not print, and
// not too long. Who has none is called as its gateway.
func Name(name, gateway string) string {
	name = clip(name, maxName)
	return cmp.Or(name, gateway)
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// Instances lists the processes of a gateway that were heard of, by name.
func (f *Fleet) Instances(name string) []model.Instance {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.gateways[name]
	if g == nil {
		return nil
	}
	newest := g.newest()
	out := make([]model.Instance, 0, len(g.instances))
	for _, i := range g.instances {
		out = append(out, i.shown(newest, now))
	}
	slices.SortFunc(out, func(a, b model.Instance) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Credentials lists what the processes of a gateway that are not offline have
// shown.
func (f *Fleet) Credentials(name string) []Credential {
	now := f.opts.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Credential
	if g := f.gateways[name]; g != nil {
		for _, i := range g.instances {
			if now.Sub(i.Seen) <= missed && !slices.ContainsFunc(out, func(c Credential) bool { return c.Token == i.token.Token }) {
				out = append(out, i.token)
			}
		}
	}
	return out
}

// Standing tells a gateway what it is assigned and how long its credential is
// good.
func (f *Fleet) Standing(c Credential) *configuration.Standing {
	cur, err := f.Current(c.For)
	if err != nil {
		cur.state = nil // what is wrong is told elsewhere
	}
	return f.standing(c, cur.state)
}

func (f *Fleet) standing(c Credential, newest *state) *configuration.Standing {
	out := &configuration.Standing{}
	out.Expires, out.Warning = f.opts.Standing(c)
	if newest != nil {
		out.Revision, out.Hash = newest.doc.Revision, newest.hash
	}
	return out
}
