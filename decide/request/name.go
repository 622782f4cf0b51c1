// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// Find returns what a host name, with or without port, means at a Gateway: the
// name itself or the Domain's wildcard over it; nil if nothing.
func Find(g *snapshot.Gateway, name string) *snapshot.Host {
	if h := g.Hosts[name]; h != nil && name[0] != '*' {
		return h // as it nearly always is, the name is in plain form
	}
	name = plain(name)
	if h := g.Hosts[name]; h != nil && name[0] != '*' {
		return h
	}
	dot := strings.IndexByte(name, '.')
	if dot <= 0 || len(name)-dot > 254 {
		return nil
	}
	var wild [256]byte // a key made here costs no allocation
	wild[0] = '*'
	n := 1 + copy(wild[1:], name[dot:])
	h := g.Hosts[string(wild[:n])]
	if h == nil || h.Kind != snapshot.HostDomain {
		return nil
	}
	return h
}

// plain takes port and final dot off a host and makes it lower case.
func plain(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return strings.ToLower(host) // the same string where nothing changes
}

// executeAPI says whether name, in plain form, is one label below the
// execute-api names of a region, and whether below those of Endpoints.
func executeAPI(name, region, base string) (label string, vpce, ok bool) {
	label, rest, _ := strings.Cut(name, ".")
	rest, ok = strings.CutPrefix(rest, "execute-api.")
	if !ok || label == "" {
		return "", false, false
	}
	if rest, ok = strings.CutPrefix(rest, region); !ok {
		return "", false, false
	}
	rest, vpce = strings.CutPrefix(rest, ".vpce")
	rest, ok = strings.CutPrefix(rest, ".")
	return label, vpce, ok && rest == base
}

// Certificate returns the name whose certificate a Gateway shows a caller that
// asks for server name sni, at an Endpoint or, if e is nil, on its public
// address; and whether that certificate is good for sni. The name is a host
// name, or a wildcard as it stands in certificates: the execute-api names all
// share one, so that callers cannot have certificates made at will.
func Certificate(s *snapshot.Snapshot, g *snapshot.Gateway, e *snapshot.Endpoint, sni string) (name string, ok bool) {
	h := Find(g, sni)
	if covered(s, g, e, sni, h) {
		switch _, vpce, under := executeAPI(plain(sni), g.Region, s.Base); {
		case h != nil && h.Kind == snapshot.HostOwn:
			return g.Host, true
		case h != nil && h.Kind == snapshot.HostDomain:
			return h.Domain.Name, true
		case h != nil && h.Kind == snapshot.HostComponent:
			return h.Name, true
		case under && vpce:
			return "*.execute-api." + g.Region + ".vpce." + s.Base, true
		}
		ok = true
	}
	return "*.execute-api." + g.Region + "." + s.Base, ok
}

// covered reports whether the certificate shown for sni is good for it. h is
// what Find finds for sni.
func covered(s *snapshot.Snapshot, g *snapshot.Gateway, e *snapshot.Endpoint, sni string, h *snapshot.Host) bool {
	if h != nil && h.Kind == snapshot.HostDomain {
		return domainNote(h.Domain, e) == ""
	}
	if h != nil {
		return true // the others are the Gateway's own or execute-api names
	}
	_, _, ok := executeAPI(plain(sni), g.Region, s.Base)
	return ok
}

// domainNote says why a Domain is not served at e (nil: the public address);
// empty if it is.
func domainNote(d *snapshot.Domain, e *snapshot.Endpoint) string {
	switch {
	case e == nil && d.Type == model.Private:
		return NoteHostElsewhere
	case e == nil:
		return ""
	case d.Type != model.Private:
		return NotePublicDomain
	}
	for _, x := range d.Endpoints {
		if x == e {
			return ""
		}
	}
	return NoteNotAssociated
}

// mapping finds the mapping with the longest path that path begins with, by
// whole segments, and what follows it. ms are sorted by falling number of
// segments, then by path, the empty one last; path is canonical.
func mapping(ms []snapshot.PathMapping, path string) (m *snapshot.PathMapping, base, rest string) {
	if len(ms) == 0 {
		return nil, "", ""
	}
	for end, left := cut(path, ms[0].Segments()); left > 0; left-- {
		if i := search(ms, path[1:end], left); i >= 0 {
			return &ms[i], path[:end], path[end:]
		}
		end = strings.LastIndexByte(path[:end], '/')
	}
	if last := &ms[len(ms)-1]; last.Path == "" {
		return last, "", path
	}
	return nil, "", ""
}

// cut returns where the first n segments of path end, and how many there are.
func cut(path string, n int) (end, left int) {
	for left < n && end < len(path) {
		i := strings.IndexByte(path[end+1:], '/')
		left++
		if i < 0 {
			return len(path), left
		}
		end += 1 + i
	}
	return end, left
}

// search finds path, which has n segments; -1 if it is not there.
func search(ms []snapshot.PathMapping, path string, n int) int {
	lo, hi := 0, len(ms)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		m := &ms[mid]
		order := m.Segments() - n
		if order == 0 {
			order = strings.Compare(path, m.Path)
		}
		switch {
		case order == 0:
			return mid
		case order > 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}
