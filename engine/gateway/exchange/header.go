// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exchange

import "iter"

// Field is one header or trailer field. Names keep the spelling they arrived with.
type Field struct {
	Name  string
	Value string
}

// Header is an ordered list of fields. Names compare without regard to ASCII case, order and repetition are kept, and
// neither looking up nor (once warm) adding allocates. The zero value is an empty list.
type Header struct {
	fields []Field
}

// Len reports the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// At returns field i, counted from 0 in the order of arrival.
func (h *Header) At(i int) Field { return h.fields[i] }

// Get returns the value of the first field called name, or the empty string.
func (h *Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup returns the value of the first field called name and whether there is one.
func (h *Header) Lookup(name string) (string, bool) {
	for i := range h.fields {
		if EqualFold(h.fields[i].Name, name) {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

// Has reports whether a field is called name.
func (h *Header) Has(name string) bool {
	_, ok := h.Lookup(name)
	return ok
}

// Count reports how many fields are called name.
func (h *Header) Count(name string) int {
	n := 0
	for i := range h.fields {
		if EqualFold(h.fields[i].Name, name) {
			n++
		}
	}
	return n
}

// Values iterates over the values of all fields called name.
func (h *Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h.fields {
			if EqualFold(h.fields[i].Name, name) && !yield(h.fields[i].Value) {
				return
			}
		}
	}
}

// All iterates over every field in order.
func (h *Header) All() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range h.fields {
			if !yield(h.fields[i]) {
				return
			}
		}
	}
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	h.fields = append(h.fields, Field{name, value})
}

// Set gives the first field called name this value and removes its repetitions; it appends the field where none exists.
func (h *Header) Set(name, value string) {
	for i := range h.fields {
		if EqualFold(h.fields[i].Name, name) {
			h.fields[i] = Field{name, value}
			h.delFrom(i+1, name)
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field called name.
func (h *Header) Del(name string) { h.delFrom(0, name) }

func (h *Header) delFrom(i int, name string) {
	kept := i
	for ; i < len(h.fields); i++ {
		if !EqualFold(h.fields[i].Name, name) {
			h.fields[kept] = h.fields[i]
			kept++
		}
	}
	clear(h.fields[kept:])
	h.fields = h.fields[:kept]
}

// CopyFrom makes h a copy of o; the strings are shared.
func (h *Header) CopyFrom(o *Header) {
	h.Reset()
	h.fields = append(h.fields, o.fields...)
}

// maxKept bounds the memory that an emptied list keeps for the next use.
const maxKept = 256

// Reset empties the list and keeps its memory, within bounds.
func (h *Header) Reset() {
	if cap(h.fields) > maxKept {
		h.fields = nil
		return
	}
	clear(h.fields)
	h.fields = h.fields[:0]
}

// EqualFold reports whether a and b are equal but for the case of ASCII letters. No other folding is done: in HTTP
// nothing but ASCII is case-insensitive.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
