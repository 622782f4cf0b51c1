// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"math/rand/v2"
	"sync"
	"time"

	"postern.dev/postern/configuration"
)

// state is what a gateway was assigned at one time. Its frames are encoded when
// they are first needed and kept for a moment: mostly many need the same ones.
type state struct {
	doc  *configuration.Document // without signature
	hash string
	at   time.Time // when it was assigned: the time of its signature
	sign func([]byte) ([]byte, error)
	now  func() time.Time

	mu     sync.Mutex
	sealed *configuration.Document
	frames map[string][]byte // by the hash they begin at, the whole at ""
	used   time.Time
}

// signed returns the Document with its signature; under mu.
func (s *state) signed() (*configuration.Document, error) {
	if s.sign == nil {
		return s.doc, nil
	}
	if s.sealed == nil {
		d, err := configuration.Sign(s.doc, s.at, s.sign)
		if err != nil {
			return nil, err
		}
		s.sealed = d
	}
	return s.sealed, nil
}

// frame returns the frame that leads to s from another state, or the whole if
// that is nil or no longer than the difference.
func (s *state) frame(from *state) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := ""
	if from != nil {
		base = from.hash
	}
	s.used = s.now()
	if b := s.frames[base]; b != nil {
		return b, nil
	}
	d, err := s.signed()
	if err != nil {
		return nil, err
	}
	f := &configuration.Frame{Type: configuration.TypeDocument, Document: d}
	if from != nil {
		if delta := configuration.Diff(from.doc, d); size(delta.Puts) < size(d.Resources) {
			f = &configuration.Frame{Type: configuration.TypeDelta, Delta: delta}
		}
	}
	b, err := configuration.EncodeFrame(f)
	if err != nil {
		return nil, err
	}
	s.keep(base, b)
	return b, nil
}

// alone is the key in frames of the whole without a frame around it.
const alone = "body"

// body returns the Document by itself.
func (s *state) body() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = s.now()
	if b := s.frames[alone]; b != nil {
		return b, nil
	}
	d, err := s.signed()
	if err != nil {
		return nil, err
	}
	b, err := d.Encode()
	if err != nil {
		return nil, err
	}
	s.keep(alone, b)
	return b, nil
}

func (s *state) keep(as string, b []byte) {
	if s.frames == nil {
		s.frames = map[string][]byte{}
	}
	s.frames[as] = b
}

func size(rs []configuration.Resource) int {
	n := 0
	for i := range rs {
		n += len(rs[i].Data)
	}
	return n
}

// forget drops encoded frames that nobody needed for a while.
func (s *state) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frames != nil && now.Sub(s.used) > keepEncoded {
		s.frames = nil
	}
}

// perSecond is how many gateways are asked to come back in one second.
const perSecond = 200

// Spread is after how many seconds one of n gateways is to come back, so that
// they do not come all at once.
func Spread(n int) int { return 1 + rand.IntN(2+n/perSecond) }
