// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operation decides which operation of an API serves a method and path.
//
// A fixed segment is preferred to {param}, and that to {proxy+}, segment by
// segment from the left; a place without operations is passed over. The place
// is found first and the method in it afterwards: an exact method before ANY.
// Trailing slashes do not count, and no parameter is ever empty.
package operation

import (
	"strings"

	"postern.dev/postern/snapshot/operation"
)

// The codes of the method layer.
const (
	CodeFound   = "method/found"
	CodeUnknown = "method/unknown"
)

// Span is a part of a path.
type Span struct{ Start, End int32 }

// Verdict is the operation that serves a request, if any does.
type Verdict struct {
	// Operation is nil if none does.
	Operation *operation.Operation
	// Place tells whether the path, if not the method, is served.
	Place bool
	// Params are the parts of the path that the operation's Params stand for.
	Params [operation.MaxParams]Span
}

// Code returns the code of the verdict.
func (v *Verdict) Code() string {
	if v.Operation == nil {
		return CodeUnknown
	}
	return CodeFound
}

// Param returns the value of a path parameter in path, which must be the path
// that was matched.
func (v *Verdict) Param(path, name string) (string, bool) {
	if v.Operation == nil {
		return "", false
	}
	for i, p := range v.Operation.Params {
		if p == name {
			return path[v.Params[i].Start:v.Params[i].End], true
		}
	}
	return "", false
}

// Match finds the operation of t for method and path. It does not allocate.
func Match(t *operation.Table, method, path string) Verdict {
	var v Verdict
	if t == nil || len(t.Nodes) == 0 {
		return v
	}
	end := len(path)
	for end > 0 && path[end-1] == '/' {
		end--
	}
	start := 0
	if end > 0 && path[0] == '/' {
		start = 1
	}
	w := walk{nodes: t.Nodes, path: path[:end], params: &v.Params}
	place := int32(0)
	if start < end {
		place = w.find(0, start, 0)
	} else if !t.Nodes[0].Serves() {
		place = -1
	}
	if place < 0 {
		return v
	}
	v.Place = true
	n := &t.Nodes[place]
	for i := range n.Methods {
		if n.Methods[i].Name == method {
			v.Operation = &t.Operations[n.Methods[i].Operation]
			return v
		}
	}
	if n.AnyMethod >= 0 && !apart(method) {
		v.Operation = &t.Operations[n.AnyMethod]
	}
	return v
}

// apart reports whether an operation for any method does not stand for this one.
// TRACE would show the caller what the backend gets, credentials of the
// integration's included: it has to be written. CONNECT asks for a tunnel, which
// no backend is.
func apart(method string) bool {
	return len(method) == len("TRACE") && strings.EqualFold(method, "TRACE") || len(method) == len("CONNECT") && strings.EqualFold(method, "CONNECT")
}

type walk struct {
	nodes  []operation.Node
	path   string // without trailing slashes
	params *[operation.MaxParams]Span
}

// find returns the best place for the path from offset start on, seen from
// node at with n parameters taken so far; -1 if there is none. Every node is
// entered at most once, so the work is bounded by the size of the tree.
func (w *walk) find(at int32, start, n int) int32 {
	node := &w.nodes[at]
	end := len(w.path)
	if i := strings.IndexByte(w.path[start:], '/'); i >= 0 {
		end = start + i
	}
	if start == end {
		return -1 // an empty segment names nothing
	}
	if child, ok := static(node.Static, w.path[start:end]); ok {
		if p := w.enter(child, end, n); p >= 0 {
			return p
		}
	}
	if node.Param != 0 {
		w.params[n] = Span{int32(start), int32(end)}
		if p := w.enter(node.Param, end, n+1); p >= 0 {
			return p
		}
	}
	if node.Greedy != 0 && w.nodes[node.Greedy].Serves() {
		w.params[n] = Span{int32(start), int32(len(w.path))}
		return node.Greedy
	}
	return -1
}

// enter goes on from a node whose segment ended at end.
func (w *walk) enter(at int32, end, n int) int32 {
	if end < len(w.path) {
		return w.find(at, end+1, n)
	}
	if w.nodes[at].Serves() {
		return at
	}
	return -1
}

// static finds a fixed segment. The loop is cheaper than closures for the few
// children that most nodes have.
func static(children []operation.Child, segment string) (int32, bool) {
	lo, hi := 0, len(children)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := &children[mid]; {
		case c.Segment == segment:
			return c.Node, true
		case c.Segment < segment:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}
