// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// ErrNoBackend is why an operation that should call a backend cannot.
var ErrNoBackend = errors.New("the operation leads to no backend")

// Destination is a place that an operation may be sent to.
type Destination struct {
	Scheme string // http, https, h2c, grpc, or grpcs for gRPC under TLS
	Host   string
	Port   uint16
	// Network is the one it is dialled in; nil: from the Gateway's own place.
	Network *snapshot.Network
	// Backend is the resource that names it, if one does.
	Backend *snapshot.Backend
	// Insecure says that its certificate is not verified.
	Insecure bool
}

// Secure tells whether it is called under TLS.
func (d *Destination) Secure() bool { return d.Scheme == "https" || d.Scheme == "grpcs" }

// ALPN is the protocol that a probe of it offers in a TLS handshake.
func (d *Destination) ALPN() []string {
	if d.Scheme == "grpcs" {
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

// Destinations returns where the operation of an allowed verdict may be sent:
// nowhere, if the gateway answers it by itself; the targets of a Backend; or
// the host in its URI. The error wraps ErrNoBackend; the answer is then
// ConfigurationError.
func (v *Verdict) Destinations(s *snapshot.Snapshot) ([]Destination, error) {
	in := &v.Operation().Integration
	switch in.Kind {
	case operation.Petstore, operation.Mock:
		return nil, nil
	case operation.None:
		return nil, ErrNoBackend
	}
	if in.Backend != "" {
		b := s.Backends[in.Backend]
		if b == nil || len(b.Targets) == 0 {
			return nil, fmt.Errorf("%w: there is no Backend/%s", ErrNoBackend, in.Backend)
		}
		out := make([]Destination, len(b.Targets))
		for i, t := range b.Targets {
			out[i] = Destination{Scheme: Scheme(b, &t), Host: t.Host, Port: t.Port, Network: b.Network, Backend: b, Insecure: in.Insecure}
		}
		return out, nil
	}
	uri, err := v.hostPart(in.URI.Pieces)
	if err != nil {
		return nil, err
	}
	d, _, err := SplitURL(uri)
	if err != nil {
		return nil, err
	}
	d.Insecure = in.Insecure
	return []Destination{d}, nil
}

// hostPart is a URI with its Stage variables, up to the first parameter, which
// never stands in the host.
func (v *Verdict) hostPart(ps []operation.Piece) (string, error) {
	var b strings.Builder
	for _, p := range ps {
		switch p.Kind {
		case operation.PieceText:
			b.WriteString(p.Value)
		case operation.PieceStageVariable:
			x, ok := v.Stage.Variables[p.Value]
			if !ok {
				return "", fmt.Errorf("%w: the Stage has no variable %s, which the URI needs", ErrNoBackend, p.Value)
			}
			b.WriteString(x)
		default:
			return b.String(), nil
		}
	}
	return b.String(), nil
}

// Onward is the path with which the operation of an allowed verdict is sent on to
// a backend. It is not known where that hangs on more of the request than its
// path.
func (v *Verdict) Onward() (path string, known bool) {
	in := &v.Operation().Integration
	var b strings.Builder
	for _, p := range in.URI.Pieces {
		text, ok := p.Value, p.Kind == operation.PieceText
		switch p.Kind {
		case operation.PieceStageVariable:
			text, ok = v.Stage.Variables[p.Value]
		case operation.PieceParam:
			text, ok = v.pathParam(p.Value, in.Request)
		}
		if !ok {
			return "", false
		}
		b.WriteString(text)
	}
	path = b.String()
	if in.Backend == "" {
		var err error
		if _, path, err = SplitURL(path); err != nil {
			return "", false
		}
	}
	path, _, _ = strings.Cut(path, "?")
	if in.AppendPath {
		if path = strings.TrimRight(path, "/"); path == "" || v.Path != "/" {
			path += v.Path
		}
	}
	if path == "" {
		path = "/"
	}
	return path, true
}

// pathParam is a parameter of a URI that comes from the path of the request.
func (v *Verdict) pathParam(name string, ms []operation.Mapping) (string, bool) {
	from := name
	for i := range ms {
		if m := &ms[i]; m.To == operation.PlacePath && m.Name == name {
			if m.From != operation.PlacePath {
				return "", false
			}
			from = m.Source
			break
		}
	}
	return v.Route.Param(v.Path, from)
}

// SplitURL takes a backend's URL apart into where it leads and what follows the
// host. It does not allocate.
func SplitURL(uri string) (d Destination, rest string, err error) {
	d = Destination{Scheme: "https", Port: 443}
	rest, ok := strings.CutPrefix(uri, "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(uri, "http://"); !ok {
			return d, "", ErrNoBackend
		}
		d.Scheme, d.Port = "http", 80
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if i := strings.IndexByte(path, '#'); i >= 0 {
		path = path[:i]
	}
	host, port := authority, ""
	if h, bracketed := strings.CutPrefix(authority, "["); bracketed {
		if host, port, ok = strings.Cut(h, "]"); !ok || port != "" && port[0] != ':' {
			return d, "", ErrNoBackend
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return d, "", ErrNoBackend
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		host, port, _ = strings.Cut(authority, ":")
	}
	if host == "" || strings.ContainsAny(host, "@\\ \t") {
		return d, "", ErrNoBackend
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return d, "", ErrNoBackend
		}
		d.Port = uint16(n)
	}
	d.Host = host
	return d, path, nil
}
