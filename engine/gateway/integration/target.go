// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// aim sets the call's target, path and query from the integration, unless the
// request goes round in a circle. Where the host is written out, as it nearly always is, this costs no allocation.
func (r *Runner) aim(j *Job, in *operation.Integration) error {
	if j.looping() {
		return request.ErrLoop
	}
	var path string
	var b *snapshot.Backend
	gateway := j.Arrival.Gateway.Name
	if in.Backend != "" {
		b = j.Snapshot.Backends[in.Backend]
		if b == nil || len(b.Targets) == 0 {
			return fmt.Errorf("%w: there is no Backend/%s", request.ErrNoBackend, in.Backend)
		}
		i := pick(b.Targets, r.health.Of(gateway, b))
		if i < 0 {
			return errUnhealthy
		}
		t := &b.Targets[i]
		j.Called.Backend, j.Called.Pick = b, i
		j.call.Target = upstream.Target{Scheme: request.Scheme(b, t), Host: t.Host, Port: t.Port}
		if b.Network != nil {
			j.call.Target.Zone = b.Network.Name
		}
		var err error
		if path, err = j.expandPath("", in.URI.Pieces, in.Request); err != nil {
			return err
		}
	} else if rest, pieces, err := j.authority(in); err != nil {
		return err
	} else if path, err = j.expandPath(rest, pieces, in.Request); err != nil {
		return err
	}
	j.call.Target.From = gateway
	if in.Insecure {
		j.call.Target.Zone += insecure
	}
	j.call.Timeout, j.call.Stream = request.CallTimeout(in, b), request.StreamTimeout(in, b)
	path, j.call.RawQuery, _ = strings.Cut(path, "?")
	if in.AppendPath {
		path = j.join(path, j.Verdict.Path)
	}
	if path == "" {
		path = "/"
	}
	j.call.Path = path
	return nil
}

// authority sets the target and returns what of the URI follows it.
func (j *Job) authority(in *operation.Integration) (rest string, pieces []operation.Piece, err error) {
	ps := in.URI.Pieces
	if len(ps) > 0 && ps[0].Kind == operation.PieceText {
		if i := strings.Index(ps[0].Value, "://"); len(ps) == 1 || i > 0 && strings.IndexByte(ps[0].Value[i+3:], '/') > 0 {
			j.call.Target, rest, err = split(ps[0].Value)
			return rest, ps[1:], err
		}
	}
	// A Stage variable names the host. The target outlives the request in the
	// pool, so it gets memory of its own.
	uri, err := j.expand(nil, ps, in.Request)
	if err != nil {
		return "", nil, err
	}
	j.call.Target, rest, err = split(string(uri))
	return rest, nil, err
}

// expandPath fills what follows the host.
func (j *Job) expandPath(rest string, ps []operation.Piece, ms []operation.Mapping) (string, error) {
	if len(ps) == 0 {
		return rest, nil
	}
	if len(ps) == 1 && rest == "" && ps[0].Kind == operation.PieceText {
		return ps[0].Value, nil
	}
	var err error
	j.text, err = j.expand(append(j.text[:0], rest...), ps, ms)
	return view(j.text), err
}

// join puts two paths together, without allocating where one of them is empty.
func (j *Job) join(a, b string) string {
	a = strings.TrimRight(a, "/")
	if a == "" || b == "/" && a != "" {
		if a == "" {
			return b
		}
		return a
	}
	j.path = append(append(j.path[:0], a...), b...)
	return view(j.path)
}

// pick takes a target by weight, of those that are not out, and returns its
// index; -1 if all are out.
func pick(ts []snapshot.Target, h *health.Set) int {
	sum := 0
	for i := range ts {
		if !h.Out(i) {
			sum += max(ts[i].Weight, 1)
		}
	}
	if sum == 0 {
		return -1
	}
	n := 0
	if len(ts) > 1 {
		n = rand.IntN(sum)
	}
	last := -1
	for i := range ts {
		if h.Out(i) {
			continue
		}
		if last = i; n < max(ts[i].Weight, 1) {
			break
		}
		n -= max(ts[i].Weight, 1)
	}
	return last // -1 if the last one went out meanwhile
}

// split takes a URL apart into a target and what follows it.
func split(uri string) (upstream.Target, string, error) {
	d, rest, err := request.SplitURL(uri)
	return upstream.Target{Scheme: d.Scheme, Host: d.Host, Port: d.Port}, rest, err
}
