// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"postern.dev/postern/store"
)

func samples() [][]byte {
	p := payload{
		docs:    []store.Document{{Key: store.Key{Kind: "K", Name: "n"}, Revision: 3, Created: 2, Data: []byte("{}")}, {Key: store.Key{Kind: "K", Name: "o"}, Revision: 300}},
		deletes: []store.Key{{Kind: "K", Name: "m"}},
	}
	return [][]byte{
		p.encode(),
		entry{id: newID(), revision: 9, inline: p.encode()}.encode(),
		entry{id: newID(), revision: 9, older: 4, chunks: 3, size: 1 << 20}.encode(),
	}
}

// decodes checks that what decodes encodes to the same meaning again.
func decodes(t *testing.T, b []byte) (payloads, entries int) {
	t.Helper()
	if p, err := decodePayload(b); err == nil {
		payloads++
		again, err := decodePayload(p.encode())
		if err != nil || !bytes.Equal(again.encode(), p.encode()) {
			t.Errorf("payload %x: %v, %v", b, again, err)
		}
	}
	if e, err := decodeEntry(b); err == nil {
		entries++
		again, err := decodeEntry(e.encode())
		if err != nil || !bytes.Equal(again.encode(), e.encode()) {
			t.Errorf("entry %x: %+v, %v", b, again, err)
		}
	}
	return payloads, entries
}

func TestDamagedRecordsAreErrorsNotPanics(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var payloads, entries, tried int
	for _, sample := range samples() {
		for n := range sample {
			decodes(t, sample[:n])
		}
		for range 50_000 {
			b := bytes.Clone(sample)
			for range 1 + rnd.IntN(3) {
				b[rnd.IntN(len(b))] = byte(rnd.Uint32() >> rnd.IntN(25))
			}
			p, e := decodes(t, b)
			payloads, entries, tried = payloads+p, entries+e, tried+1
		}
	}
	if payloads == 0 || entries == 0 || payloads == tried {
		t.Errorf("of %d damaged records %d decoded as payloads, %d as entries", tried, payloads, entries)
	}
}

func FuzzRecordsDecode(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { decodes(t, b) })
}
