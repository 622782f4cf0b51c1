// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"errors"
	"fmt"
	"time"
)

// Step is what taking a Document in place of another means.
type Step int

// The steps.
const (
	// Onward is what mostly happens: a later revision.
	Onward Step = iota
	// Keep says that the Document is older and says the same: there is nothing to
	// take.
	Keep
	// Back is to an earlier revision that was signed later: the store of the
	// management plane was put back to an earlier state, and it serves again.
	Back
)

// Skew is how far the clocks of those who sign may be apart. A later revision
// may have been signed by so much earlier.
const Skew = 5 * time.Minute

// ErrOlder says that a Document is older than the one that is held: somebody
// plays back what was sent long ago, or lags behind.
var ErrOlder = errors.New("the configuration is older than the one that is held")

// Follow judges whether next may take the place of held. Both are of the same
// SelfHostedGateway and their signatures were verified; same tells whether it was
// the same authority that signed them: the revisions of two stores have nothing
// to do with each other. now is this machine's time.
//
// Revisions alone do not do: a management plane whose store was put back counts
// on from an earlier one. What it signs then it signs later than anything before,
// which nobody can who plays back what was signed once.
func Follow(held, next *Document, same bool, now time.Time) (Step, error) {
	was, is := held.signedAt(), next.signedAt()
	later := is.After(was)
	switch {
	case same && next.Revision > held.Revision && !is.Before(was.Add(-Skew)):
		return Onward, nil
	case same && next.Revision > held.Revision && was.After(now.Add(Skew)):
		// What is held was signed by a clock that was wrong: it is not to lock out
		// everything until then.
		return Onward, nil
	case same && next.Revision == held.Revision && (later || is.Equal(was) && next.Hash() == held.Hash()):
		return Onward, nil
	case later:
		return Back, nil
	case next.Hash() == held.Hash():
		return Keep, nil
	}
	return Keep, fmt.Errorf("%w: revision %d, signed at %s, in place of revision %d, signed at %s", ErrOlder,
		next.Revision, is.Format(time.RFC3339), held.Revision, was.Format(time.RFC3339))
}

// signedAt is when d was signed; the zero time if it was not.
func (d *Document) signedAt() time.Time {
	if d.Signature == nil {
		return time.Time{}
	}
	return d.Signature.Time.UTC()
}
