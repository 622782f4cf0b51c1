// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"io"
	"net/netip"
	"sync"

	"postern.dev/postern/engine/gateway/exchange"
)

// The bounds of what all requests together hold in memory to be mapped, and of
// what those of one address do. A client may take its time over a body.
const (
	maxHeld     = 256 << 20
	maxHeldEach = maxHeld / 4
)

// errHeld is why a body is not read.
var errHeld = errors.New("too many bodies are held in memory to be mapped")

// ledger counts bytes by the address for which they are held.
type ledger struct {
	mu    sync.Mutex
	total int64
	by    map[netip.Addr]int64
}

// held is the process's, as its memory is.
var held = ledger{by: map[netip.Addr]int64{}}

func (l *ledger) take(who netip.Addr, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total+n > maxHeld || l.by[who]+n > maxHeldEach {
		return false
	}
	l.total += n
	l.by[who] += n
	return true
}

func (l *ledger) give(who netip.Addr, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= n
	if l.by[who] -= n; l.by[who] == 0 {
		delete(l.by, who)
	}
}

// hold counts n bytes until the exchange is done. It reports false if there may
// not be as many.
func (j *Job) hold(n int) bool {
	who := j.Arrival.Origin.Source.Addr().Unmap()
	if !held.take(who, int64(n)) {
		return false
	}
	j.Exchange.OnDone(func(*exchange.Exchange) { held.give(who, int64(n)) })
	return true
}

// readAll reads a body that is to be mapped. Memory is taken as it comes, whatever
// length was told.
func (j *Job) readAll(r io.Reader) ([]byte, error) {
	const first = 4 << 10
	var b []byte
	for {
		if len(b) == cap(b) {
			more := max(cap(b), first)
			if !j.hold(more) {
				return nil, errHeld
			}
			b = append(make([]byte, 0, cap(b)+more), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > maxBody:
			return nil, errTooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}
