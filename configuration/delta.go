// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"bytes"
	"fmt"
	"slices"

	"postern.dev/postern/model"
)

// Delta leads from one Document to another.
type Delta struct {
	// From and To are the hashes of the two.
	From string `json:"from"`
	To   string `json:"to"`
	// Revision is that of the second.
	Revision int64 `json:"revision"`
	// Gateway and Base are those of the second.
	Gateway string      `json:"gateway"`
	Base    string      `json:"base"`
	Puts    []Resource  `json:"puts,omitempty"`
	Deletes []model.Ref `json:"deletes,omitempty"`
	// Signature is that of the second.
	Signature *Signature `json:"signature,omitempty"`
}

// Diff returns what leads from one Document to another of the same
// SelfHostedGateway.
func Diff(from, to *Document) *Delta {
	d := &Delta{
		From: from.Hash(), To: to.Hash(), Revision: to.Revision,
		Gateway: to.Gateway, Base: to.Base, Signature: to.Signature,
	}
	a, b := from.Resources, to.Resources
	for len(a) > 0 || len(b) > 0 {
		switch c := side(a, b); {
		case c < 0:
			d.Deletes = append(d.Deletes, a[0].Ref())
			a = a[1:]
		case c > 0:
			d.Puts = append(d.Puts, b[0])
			b = b[1:]
		default:
			if !bytes.Equal(a[0].Data, b[0].Data) {
				d.Puts = append(d.Puts, b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return d
}

// side tells which list's first comes first.
func side(a, b []Resource) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return compareResources(a[0], b[0])
}

// Apply returns the Document that d leads to. It fails unless d begins where
// doc is and leads where it says: then a whole Document is needed.
func Apply(doc *Document, d *Delta) (*Document, error) {
	if h := doc.Hash(); h != d.From {
		return nil, fmt.Errorf("configuration: the delta to revision %d begins at %.12s, but %.12s is here; ask for the whole document", d.Revision, d.From, h)
	}
	out := &Document{
		Revision: d.Revision, For: doc.For, Gateway: d.Gateway, Base: d.Base,
		Resources: slices.Clone(doc.Resources), Signature: d.Signature,
	}
	for _, r := range d.Deletes {
		i, ok := find(out.Resources, r)
		if !ok {
			return nil, fmt.Errorf("configuration: the delta to revision %d deletes %s, which is not here; ask for the whole document", d.Revision, r)
		}
		out.Resources = slices.Delete(out.Resources, i, i+1)
	}
	for _, r := range d.Puts {
		if i, ok := find(out.Resources, r.Ref()); ok {
			out.Resources[i] = r
		} else {
			out.Resources = slices.Insert(out.Resources, i, r)
		}
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	if h := out.Hash(); h != d.To {
		return nil, fmt.Errorf("configuration: the delta to revision %d leads to %.12s instead of %.12s; ask for the whole document", d.Revision, h, d.To)
	}
	return out, nil
}
