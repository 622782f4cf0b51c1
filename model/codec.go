// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/model/near"
	"postern.dev/postern/model/tree"
)

// Decode reads one resource from JSON, as Encode and EncodeStored write it. It
// is strict, as manifests are, and keeps the whole status; whether that is
// believed is up to the caller.
func Decode(data []byte) (Object, error) {
	nodes, problems := tree.ParseJSON(data)
	if len(problems) == 0 && len(nodes) != 1 {
		problems = append(problems, &tree.Problem{Msg: fmt.Sprintf("want one resource, got %d", len(nodes))})
	}
	if len(problems) > 0 {
		return nil, fromProblems(problems, Ref{}, "")
	}
	o, errs := FromTree(nodes[0], "")
	if len(errs) > 0 {
		return nil, errs
	}
	// One line of a request is no place that anybody looks at.
	o.Base().Source, o.Base().Position = nil, Position{}
	return o, nil
}

// FromTree makes a resource of a document that was read from file and returns
// everything that is wrong with it, sorted by position. What could be read is
// returned even then, nil only if the kind is not known.
func FromTree(n *tree.Node, file string) (Object, Errors) {
	if n.Kind != tree.Map {
		return nil, fromProblems([]*tree.Problem{{Line: n.Line, Column: n.Column, Msg: fmt.Sprintf("want a resource, an object with apiVersion, kind, metadata and spec, got %s", n.Kind)}}, Ref{}, file)
	}
	var problems []*tree.Problem
	add := func(at *tree.Node, field, format string, args ...any) {
		if at == nil {
			at = n
		}
		problems = append(problems, &tree.Problem{Field: field, Line: at.Line, Column: at.Column, Msg: fmt.Sprintf(format, args...)})
	}
	if v := n.Get("apiVersion"); v == nil {
		add(nil, "apiVersion", "is missing; write apiVersion: %s", Version)
	} else if v.Kind != tree.String || v.Text != Version {
		add(v, "apiVersion", "unknown version %q; write %s", v.Text, Version)
	}
	k := n.Get("kind")
	var o Object
	switch {
	case k == nil:
		add(nil, "kind", "is missing; write one of %v", Kinds)
	case k.Kind != tree.String:
		add(k, "kind", "want text, got %s", k.Kind)
	default:
		if o = New(Kind(k.Text)); o == nil {
			h := near.Hint(k.Text, kindNames())
			if h == "" {
				h = "; this version has " + strings.Join(kindNames(), ", ")
			}
			add(k, "kind", "unknown kind %q%s", k.Text, h)
		}
	}
	if o == nil {
		return nil, fromProblems(problems, Ref{}, file)
	}
	h := o.Base()
	h.Position = Position{File: file, Line: n.Line, Column: n.Column}
	h.Source = n
	for i := range n.Fields {
		f := &n.Fields[i]
		switch f.Name {
		case "apiVersion", "kind":
		case "revision": // the server's, in what it shows
		case "metadata":
			problems = append(problems, tree.Decode(f.Value, &h.Metadata, "metadata")...)
		case "status":
			problems = append(problems, tree.Decode(f.Value, &h.Status, "status")...)
		case "spec":
			problems = append(problems, tree.Decode(f.Value, specOf(o), "spec")...)
		default:
			problems = append(problems, tree.Unknown(f.Name, f, []string{"apiVersion", "kind", "metadata", "spec", "status"}))
		}
	}
	if h.Metadata.Name == "" && !slices.ContainsFunc(problems, func(p *tree.Problem) bool { return p.Field == "metadata.name" }) {
		at := n.Get("metadata")
		add(at, "metadata.name", "is missing; give the %s a name", o.Kind())
	}
	return o, fromProblems(problems, RefOf(o), file)
}

func kindNames() []string {
	out := make([]string, len(Kinds))
	for i, k := range Kinds {
		out[i] = string(k)
	}
	return out
}

// fromProblems turns what is wrong with a document into Errors, sorted by
// position.
func fromProblems(problems []*tree.Problem, r Ref, file string) Errors {
	if len(problems) == 0 {
		return nil
	}
	if r.Name == "" {
		r = Ref{}
	}
	out := make(Errors, len(problems))
	for i, p := range problems {
		out[i] = &Error{Kind: Invalid, Ref: r, Field: p.Field, Msg: p.Msg}
		out[i].Position = Position{File: file, Line: p.Line, Column: p.Column}
	}
	out.Sort()
	return out
}

// Encode returns o as canonical JSON: apiVersion, kind, metadata, spec, status,
// no white space, secrets redacted.
func Encode(o Object) ([]byte, error) { return encode(o, false) }

// EncodeStored is Encode with secrets in clear, for a store that encrypts.
func EncodeStored(o Object) ([]byte, error) { return encode(o, true) }

func encode(o Object, reveal bool) ([]byte, error) {
	n, err := ToTree(o, reveal)
	if err != nil {
		return nil, err
	}
	return n.AppendJSON(nil), nil
}

// ToTree returns o as the document that Encode writes; reveal puts secrets
// there in clear.
func ToTree(o Object, reveal bool) (*tree.Node, error) {
	text := func(s string) *tree.Node { return &tree.Node{Kind: tree.String, Text: s} }
	n := &tree.Node{Kind: tree.Map, Fields: []tree.Field{
		{Name: "apiVersion", Value: text(Version)},
		{Name: "kind", Value: text(string(o.Kind()))},
	}}
	for _, part := range []struct {
		name string
		v    any
	}{{"metadata", &o.Base().Metadata}, {"spec", specOf(o)}, {"status", &o.Base().Status}} {
		x, err := tree.Encode(part.v, reveal)
		if err != nil {
			return nil, &Error{Kind: Invalid, Ref: RefOf(o), Field: part.name, Msg: "cannot be written", Err: err}
		}
		if part.name == "status" && len(x.Fields) == 0 {
			continue
		}
		n.Fields = append(n.Fields, tree.Field{Name: part.name, Value: x})
	}
	return n, nil
}

// specOf returns a pointer to the spec of o.
func specOf(o Object) any {
	switch o := o.(type) {
	case *Network:
		return &o.Spec
	case *SecurityGroup:
		return &o.Spec
	case *Subnet:
		return &o.Spec
	case *Host:
		return &o.Spec
	case *Link:
		return &o.Spec
	case *Peering:
		return &o.Spec
	case *Gateway:
		return &o.Spec
	case *Endpoint:
		return &o.Spec
	case *SecurityGroupAuthorization:
		return &o.Spec
	case *Backend:
		return &o.Spec
	case *API:
		return &o.Spec
	case *Deployment:
		return &o.Spec
	case *Stage:
		return &o.Spec
	case *Domain:
		return &o.Spec
	case *Zone:
		return &o.Spec
	case *SelfHostedGateway:
		return &o.Spec
	case *Product:
		return &o.Spec
	case *Subscription:
		return &o.Spec
	}
	panic(fmt.Sprintf("model: %T is no resource", o))
}

// Sort sorts by position, then by resource and field.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
			cmp.Compare(slices.Index(Kinds, a.Ref.Kind), slices.Index(Kinds, b.Ref.Kind)),
			cmp.Compare(a.Ref.Name, b.Ref.Name),
			comparePaths(a.Field, b.Field),
			cmp.Compare(a.Msg, b.Msg),
		)
	})
}

// comparePaths orders spec.rules[2] before spec.rules[10].
func comparePaths(a, b string) int {
	for a != "" && b != "" {
		na, ra, da := number(a)
		nb, rb, db := number(b)
		if da && db {
			if c := cmp.Compare(na, nb); c != 0 {
				return c
			}
			a, b = ra, rb
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(a, b)
}

// number cuts the digits off the front of s.
func number(s string) (n int, rest string, ok bool) {
	i := 0
	for i < len(s) && i < 9 && s[i] >= '0' && s[i] <= '9' {
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, s[i:], i > 0
}

// AsErrors returns what is in err as Errors: itself, one Error, or any other
// error as an internal one.
func AsErrors(err error) Errors {
	if err == nil {
		return nil
	}
	if es, ok := errors.AsType[Errors](err); ok {
		return es
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return Errors{e}
	}
	return Errors{{Kind: Internal, Msg: err.Error()}}
}
