// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package configuration is what travels from the management plane to a
// self-hosted gateway: the resources that it is assigned, as a signed document
// or as the difference from one, and the frames of the protocol that carry
// them. It is resources, not a format of its own: the gateway compiles them
// itself, with the compiler that everybody uses.
package configuration

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"postern.dev/postern/model"
)

// Document is all that one SelfHostedGateway is assigned, at one revision.
// Documents are immutable. They are written by Encode alone: another encoder
// may change bytes that the hash covers.
type Document struct {
	// Revision is that of the store at which the management plane made it.
	Revision int64 `json:"revision"`
	// For is the name of the SelfHostedGateway, Gateway that of its Gateway.
	For     string `json:"for"`
	Gateway string `json:"gateway"`
	// Base is the base domain of host names.
	Base string `json:"base"`
	// Resources are sorted by kind and name.
	Resources []Resource `json:"resources"`
	// Signature is the management plane's.
	Signature *Signature `json:"signature,omitempty"`
}

// Resource is one resource, encoded as a store keeps it: secrets are in clear.
type Resource struct {
	Kind model.Kind      `json:"kind"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data"`

	// sum is the SHA-256 of Data, if summed.
	sum    [sha256.Size]byte
	summed bool
}

// Ref names the resource.
func (r Resource) Ref() model.Ref { return model.Ref{Kind: r.Kind, Name: r.Name} }

// String names the resource and shows nothing of it.
func (r Resource) String() string { return r.Ref().String() }

// GoString is String.
func (r Resource) GoString() string { return r.String() }

func newResource(o model.Object) (Resource, error) {
	data, err := model.EncodeStored(o)
	if err != nil {
		return Resource{}, err
	}
	return Resource{Kind: o.Kind(), Name: o.Base().Metadata.Name, Data: data, sum: sha256.Sum256(data), summed: true}, nil
}

func (r *Resource) digest() [sha256.Size]byte {
	if r.summed {
		return r.sum
	}
	return sha256.Sum256(r.Data)
}

func compareResources(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// Hash identifies what is assigned, whatever the revision: hexadecimal SHA-256.
func (d *Document) Hash() string {
	h := sha256.New()
	text := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	text("postern configuration 1")
	text(d.For)
	text(d.Gateway)
	text(d.Base)
	for i := range d.Resources {
		r := &d.Resources[i]
		text(string(r.Kind))
		text(r.Name)
		sum := r.digest()
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Set decodes the resources.
func (d *Document) Set() (*model.Set, error) {
	s := model.NewSet()
	for _, r := range d.Resources {
		o, err := model.Decode(r.Data)
		if err == nil && model.RefOf(o) != r.Ref() {
			err = fmt.Errorf("it holds %s", model.RefOf(o))
		}
		if err != nil {
			return nil, fmt.Errorf("configuration: %s: %w; this version may be older than the management plane", r.Ref(), err)
		}
		s.Put(o)
	}
	return s, nil
}

// Encode writes d.
func (d *Document) Encode() ([]byte, error) { return encode(d) }

// DecodeDocument reads what Encode wrote. It checks the form and not the
// signature.
func DecodeDocument(data []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("configuration: the document does not parse: %w", err)
	}
	return d, d.check()
}

// check fails unless d could be one that Assign made.
func (d *Document) check() error {
	if d.For == "" || d.Gateway == "" {
		return fmt.Errorf("configuration: the document does not tell whom it is for")
	}
	for i := 1; i < len(d.Resources); i++ {
		if compareResources(d.Resources[i-1], d.Resources[i]) >= 0 {
			return fmt.Errorf("configuration: the document is not sorted, at %s", d.Resources[i].Ref())
		}
	}
	return nil
}

// encode writes v as JSON that leaves the bytes of resources alone.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// find returns where a resource stands in a sorted list.
func find(rs []Resource, r model.Ref) (int, bool) {
	return slices.BinarySearchFunc(rs, Resource{Kind: r.Kind, Name: r.Name}, compareResources)
}
