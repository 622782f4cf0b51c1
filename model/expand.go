// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// placeholder is one ${Kind/NAME.attribute} in a string.
type placeholder struct {
	from, to  int // s[from:to] is all of it
	ref       Ref
	attribute string
}

// placeholders finds the ${Kind/NAME.attribute} in s. NAME ends at the last
// dot; any other ${...} belongs to somebody else and is passed over.
func placeholders(s string) []placeholder {
	var out []placeholder
	for from := 0; ; {
		i := strings.Index(s[from:], "${")
		if i < 0 {
			return out
		}
		i += from
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return out
		}
		end += i + 1
		kind, rest, ok := strings.Cut(s[i+2:end-1], "/")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot < 1 || !slices.Contains(Kinds, Kind(kind)) {
			// A ${ within belongs to the next one: ${a${Kind/x.id}.
			from = i + 2
			continue
		}
		switch attr := rest[dot+1:]; attr {
		case AttributeID, AttributeHost, AttributeAddress:
			out = append(out, placeholder{i, end, Ref{Kind(kind), rest[:dot]}, attr})
			from = end
		default:
			from = i + 2
		}
	}
}

// attributeKinds says which kinds have an attribute.
var attributeKinds = map[string][]Kind{
	AttributeID:      Kinds,
	AttributeHost:    {KindGateway, KindEndpoint, KindAPI, KindDomain},
	AttributeAddress: {KindHost, KindGateway, KindEndpoint},
}

// value returns what p stands for.
func (p placeholder) value(s *Set) (string, error) {
	if !slices.Contains(attributeKinds[p.attribute], p.ref.Kind) {
		return "", fmt.Errorf("${%s.%s}: %s has no %s; %v have", p.ref, p.attribute, p.ref.Kind, p.attribute, attributeKinds[p.attribute])
	}
	o := s.Object(p.ref)
	if o == nil {
		return "", fmt.Errorf("${%s.%s}: there is no %s %q%s", p.ref, p.attribute, p.ref.Kind, p.ref.Name, hint(p.ref.Name, s.Names(p.ref.Kind)))
	}
	st := &o.Base().Status
	v := st.ID
	switch p.attribute {
	case AttributeHost:
		v = st.Host
	case AttributeAddress:
		v = ""
		if len(st.Addresses) > 0 {
			v = st.Addresses[0]
		}
	}
	if v == "" {
		return "", fmt.Errorf("${%s.%s}: it has no %s yet", p.ref, p.attribute, p.attribute)
	}
	return v, nil
}

// ExpandString replaces each ${Kind/NAME.id}, .host and .address in text by
// that of the resource in s. Any other ${...} is left alone.
func ExpandString(text string, s *Set) (string, error) {
	found := placeholders(text)
	if len(found) == 0 {
		return text, nil
	}
	var b strings.Builder
	var errs []string
	from := 0
	for _, p := range found {
		v, err := p.value(s)
		if err != nil {
			errs = append(errs, err.Error())
			v = text[p.from:p.to]
		}
		b.WriteString(text[from:p.from])
		b.WriteString(v)
		from = p.to
	}
	b.WriteString(text[from:])
	if len(errs) > 0 {
		return b.String(), &Error{Kind: Invalid, Msg: strings.Join(errs, "; ")}
	}
	return b.String(), nil
}

// Expand returns o with the ${Kind/NAME.id}, .host and .address in its spec
// replaced by those of the resources in s: o itself if there are none, else a
// copy. What cannot be replaced is reported and stays as it was.
func Expand(o Object, s *Set) (Object, Errors) {
	if e := s.byKind[o.Kind()][o.Base().Metadata.Name]; e != nil && e.Object == o {
		// What a Set holds does not change: it need not be searched again.
		if !slices.ContainsFunc(e.references(), func(r Reference) bool { return r.Attribute != "" }) {
			return o, nil
		}
	} else if !hasPlaceholders(o) {
		return o, nil
	}
	c := Clone(o)
	var errs Errors
	texts(reflect.ValueOf(specOf(c)).Elem(), "spec", func(field string, v reflect.Value) {
		raw := v.Kind() != reflect.String
		text := ""
		if raw {
			if !bytes.Contains(v.Bytes(), []byte("${")) {
				return
			}
			text = string(v.Bytes())
		} else {
			text = v.String()
		}
		to, err := ExpandString(text, s)
		for _, e := range AsErrors(err) {
			e.Ref, e.Field, e.Position = RefOf(o), field, o.Base().Locate(field)
			errs = append(errs, e)
		}
		if to == text {
			return
		}
		if raw {
			// Ids, host names and addresses need no escaping in JSON.
			v.SetBytes([]byte(to))
		} else {
			v.SetString(to)
		}
	})
	return c, errs
}

func hasPlaceholders(o Object) bool {
	return slices.ContainsFunc(References(o), func(r Reference) bool { return r.Attribute != "" })
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
