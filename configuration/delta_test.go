// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

// drawn is a Document of a few of many resources, some with characters that
// JSON encoders like to escape.
func drawn(r *mathrand.Rand, revision int64) *configuration.Document {
	d := &configuration.Document{Revision: revision, For: "shop", Gateway: "corp", Base: "postern.internal"}
	for i := range 12 {
		if r.IntN(3) > 0 {
			d.Resources = append(d.Resources, configuration.Resource{
				Kind: model.KindBackend, Name: fmt.Sprintf("b%02d", i), Data: fmt.Appendf(nil, `{"n":%d,"t":"<&>\u2028é"}`, r.IntN(3)),
			})
		}
	}
	return d
}

func TestADeltaLeadsToWhatItSays(t *testing.T) {
	r := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range 300 {
		from, to := drawn(r, 1), drawn(r, 2)
		frame, err := configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypeDelta, Delta: configuration.Diff(from, to)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := configuration.ReadFrame(bytes.NewReader(frame), configuration.MaxFrame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := configuration.Apply(from, f.Delta)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if got.Hash() != to.Hash() || got.Revision != 2 {
			t.Fatalf("case %d: another document came out", i)
		}
		if other := drawn(r, 3); other.Hash() != from.Hash() {
			if _, err := configuration.Apply(other, f.Delta); err == nil {
				t.Fatalf("case %d: it was applied to what it does not begin at", i)
			}
		}
	}
}

func TestADeltaThatLeadsElsewhereIsRefused(t *testing.T) {
	r := mathrand.New(mathrand.NewPCG(3, 4))
	from, to := drawn(r, 1), drawn(r, 2)
	d := configuration.Diff(from, to)
	d.Puts = append(d.Puts, configuration.Resource{Kind: model.KindBackend, Name: "extra", Data: []byte("{}")})
	if _, err := configuration.Apply(from, d); err == nil || !strings.Contains(err.Error(), "ask for the whole document") {
		t.Errorf("got %v", err)
	}
	d = configuration.Diff(from, to)
	d.Deletes = append(d.Deletes, model.Ref{Kind: model.KindZone, Name: "absent"})
	if _, err := configuration.Apply(from, d); err == nil {
		t.Error("a deletion of what is not there was applied")
	}
}

func authority(t *testing.T) (*x509.Certificate, func([]byte) ([]byte, error)) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{PublicKey: &key.PublicKey}, func(digest []byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, key, digest)
	}
}

func TestASignedDocumentStandsForItself(t *testing.T) {
	root, sign := authority(t)
	other, _ := authority(t)
	d := assign(t, world(t), "shop", 7)
	if err := d.Verify(root); !errors.Is(err, configuration.ErrSignature) {
		t.Errorf("unsigned: %v", err)
	}
	d, err := configuration.Sign(d, time.Unix(1700000000, 5), sign)
	if err != nil {
		t.Fatal(err)
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := configuration.DecodeDocument(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Verify(root); err != nil {
		t.Errorf("as sent: %v", err)
	}
	if err := back.Verify(other); !errors.Is(err, configuration.ErrSignature) {
		t.Errorf("by another authority: %v", err)
	}
	for what, change := range map[string]func(*configuration.Document){
		"for":       func(d *configuration.Document) { d.For = "bank" },
		"gateway":   func(d *configuration.Document) { d.Gateway = "other" },
		"base":      func(d *configuration.Document) { d.Base = "example.com" },
		"revision":  func(d *configuration.Document) { d.Revision++ },
		"time":      func(d *configuration.Document) { d.Signature.Time = d.Signature.Time.Add(time.Second) },
		"resources": func(d *configuration.Document) { d.Resources = d.Resources[1:] },
		"data":      func(d *configuration.Document) { d.Resources[0].Data = []byte("{}") },
		"name":      func(d *configuration.Document) { d.Resources[0].Name = "x" },
	} {
		changed, err := configuration.DecodeDocument(data)
		if err != nil {
			t.Fatal(err)
		}
		change(changed)
		if err := changed.Verify(root); !errors.Is(err, configuration.ErrSignature) {
			t.Errorf("%s was changed: %v", what, err)
		}
	}
}

func TestADeltaCarriesTheSignatureOfWhatItLeadsTo(t *testing.T) {
	root, sign := authority(t)
	r := mathrand.New(mathrand.NewPCG(5, 6))
	from := drawn(r, 1)
	to, err := configuration.Sign(drawn(r, 2), time.Now(), sign)
	if err != nil {
		t.Fatal(err)
	}
	got, err := configuration.Apply(from, configuration.Diff(from, to))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(root); err != nil {
		t.Error(err)
	}
}

func TestFramesAreBoundedAndWhole(t *testing.T) {
	ack, err := configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypeAck, Ack: &configuration.Ack{Revision: 3, Hash: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(append(bytes.Clone(ack), ack...))
	for range 2 {
		if f, err := configuration.ReadFrame(r, configuration.MaxReply); err != nil || f.Ack.Revision != 3 {
			t.Fatalf("%+v %v", f, err)
		}
	}
	if _, err := configuration.ReadFrame(r, configuration.MaxReply); err != io.EOF {
		t.Errorf("between frames: %v", err)
	}
	for cut := 1; cut < len(ack); cut++ {
		if _, err := configuration.ReadFrame(bytes.NewReader(ack[:cut]), configuration.MaxReply); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	var tooLarge *configuration.TooLargeError
	if _, err := configuration.ReadFrame(bytes.NewReader(ack), len(ack)-5); !errors.As(err, &tooLarge) {
		t.Errorf("larger than the limit: %v", err)
	}
	empty := binary.BigEndian.AppendUint32(nil, 16)
	if _, err := configuration.ReadFrame(bytes.NewReader(append(empty, `{"type":"delta"}`...)), 1000); err == nil {
		t.Error("a delta without a delta was taken")
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x02{}", "\x00\x00\x00\x10" + `{"type":"delta"}`, "\xff\xff\xff\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := configuration.ReadFrame(bytes.NewReader(data), configuration.MaxReply)
		if err != nil {
			return
		}
		if _, err := configuration.EncodeFrame(frame); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

func TestResourcesDoNotPrintTheirContent(t *testing.T) {
	d := assign(t, world(t), "shop", 7)
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		if text := fmt.Sprintf(format, d); strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s shows a key", format)
		}
	}
}
