// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/network/packet"
)

// fate is what became of a packet at a router.
type fate uint8

const (
	sent    fate = iota
	tooBig       // for the MTU of the way out
	expired      // its time to live is over
	lost         // it cannot be translated
)

// report tells the sender of a packet that came from a peer why it went no
// further, as a router does (RFC 792, RFC 4443): that it is too big for the
// tunnel it would leave by, with the largest size that fits (RFC 1191, RFC 8201),
// or that its time to live is over. The hub speaks with the address of its
// resolver. A packet of IPv4 that could be cut to pieces is answered as one that
// must not be: the hub makes no fragments, nor does it forward any.
func (h *hub) report(p []byte, i *packet.Info, why fate, mtu int) {
	if why != tooBig && why != expired {
		return
	}
	from := h.address(i.V6())
	if !from.IsValid() || !h.errors.allow(i.Src.Addr(), h.f.opts.Now()) {
		return
	}
	var out []byte
	if why == tooBig {
		out = packet.AppendTooBig(nil, p, i, mtu, from)
	} else {
		out = packet.AppendUnreachable(nil, p, i, packet.TTL, from)
	}
	if out != nil {
		h.stack.Inject([][]byte{out}, 0)
	}
}

// address is the hub's own of a family; zero if its Network has none.
func (h *hub) address(v6 bool) netip.Addr {
	for _, a := range h.net.Load().Resolver {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// A hub sends one sender errorBurst ICMP errors at once, and one every errorEvery
// from then on (RFC 4443 section 2.4(f) wants a bound). Senders share errorSlots
// counts.
const (
	errorBurst = 10
	errorEvery = 100 * time.Millisecond
	errorSlots = 256
)

// errorLimit bounds ICMP errors. It holds, for the senders of each slot, the time
// at which all that they were sent is paid for.
type errorLimit struct {
	seed  maphash.Seed
	start time.Time
	slots [errorSlots]atomic.Int64
}

func newErrorLimit(now time.Time) *errorLimit {
	return &errorLimit{seed: maphash.MakeSeed(), start: now}
}

// allow reports whether to may be sent one more, and counts it.
func (l *errorLimit) allow(to netip.Addr, now time.Time) bool {
	slot := &l.slots[maphash.Comparable(l.seed, to)%errorSlots]
	n, old := int64(now.Sub(l.start)), slot.Load()
	paid := max(old, n) + int64(errorEvery)
	return paid-n <= errorBurst*int64(errorEvery) && slot.CompareAndSwap(old, paid)
}
