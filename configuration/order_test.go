// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"postern.dev/postern/configuration"
)

func TestAnOlderDocumentTakesNobodysPlace(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	doc := func(revision int64, at time.Duration, text string) *configuration.Document {
		return &configuration.Document{
			Revision: revision, For: "edge", Gateway: "corp", Signature: &configuration.Signature{Time: noon.Add(at)},
			Resources: []configuration.Resource{{Kind: "Stage", Name: "s", Data: []byte(fmt.Sprintf("%q", text))}},
		}
	}
	const older = -1
	f := func(why string, held, next *configuration.Document, same bool, want configuration.Step) {
		t.Helper()
		got, err := configuration.Follow(held, next, same, noon)
		switch {
		case want == older && !errors.Is(err, configuration.ErrOlder):
			t.Errorf("%s: it is taken: %d, %v", why, got, err)
		case want != older && (err != nil || got != want):
			t.Errorf("%s: %d, %v, want %d", why, got, err, want)
		}
	}
	ten := doc(10, 0, "ten")
	f("the next", ten, doc(11, time.Second, "x"), true, configuration.Onward)
	f("the next in the same second", ten, doc(11, 0, "x"), true, configuration.Onward)
	f("the next, of a server whose clock is behind", ten, doc(11, -configuration.Skew, "x"), true, configuration.Onward)
	f("signed again", ten, doc(10, time.Hour, "ten"), true, configuration.Onward)
	f("itself", ten, ten, true, configuration.Onward)
	f("the same revision, of another base domain", ten, doc(10, time.Second, "x"), true, configuration.Onward)
	f("played back", ten, doc(9, -time.Hour, "x"), true, older)
	f("played back in the same second", ten, doc(9, 0, "x"), true, older)
	f("played back, saying the same", ten, doc(8, -time.Hour, "ten"), true, configuration.Keep)
	f("the same revision, signed earlier", ten, doc(10, -time.Second, "x"), true, older)
	f("put back", ten, doc(4, time.Hour, "x"), true, configuration.Back)
	f("played back from before the store was put back", doc(5, 0, "x"), doc(10, -time.Hour, "ten"), true, older)

	future := doc(10, 24*time.Hour, "ten")
	f("after a clock that was ahead", future, doc(11, time.Second, "x"), true, configuration.Onward)
	f("played back after a clock that was ahead", future, doc(9, time.Second, "x"), true, older)

	f("another store", ten, doc(3, time.Second, "x"), false, configuration.Back)
	f("another store, signed earlier", ten, doc(99, -time.Second, "x"), false, older)

	bare := func(revision int64, text string) *configuration.Document {
		d := doc(revision, 0, text)
		d.Signature = nil
		return d
	}
	f("without signatures", bare(1, "x"), bare(2, "y"), true, configuration.Onward)
	f("without signatures, back", bare(2, "x"), bare(1, "y"), true, older)
	f("without a signature after one with", ten, bare(11, "y"), true, older)
}
