// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// settle gives everything that is touched its id, addresses, host name and
// first state, in listing order: explicit addresses and those held already
// first, so that no allocation takes them.
func (a *admission) settle() {
	p := &places{a: a, used: map[string]map[netip.Addr]bool{}, from: map[string]netip.Addr{}}
	var list []Object
	for _, k := range Kinds {
		for _, n := range sortedNames(a.touched, k) {
			if o := a.next.Object(Ref{k, n}); o != nil && !p.settled(o) {
				list = append(list, a.own(o))
			}
		}
	}
	a.ids(list)
	a.explicit(p, list)
	for _, o := range list {
		p.keep(o)
	}
	for _, o := range list {
		if told, ok := a.told[RefOf(o)]; ok {
			p.restore(o, told)
		}
	}
	for _, o := range list {
		p.allocate(o)
	}
	for _, o := range list {
		h := o.Base()
		h.Status.Host = hostOf(o, a.next, a.opts.Base)
		if e, ok := o.(*Endpoint); ok {
			a.connection(e)
		}
	}
	// What came out as it was stays the same resource.
	for _, o := range list {
		if prev := a.current.Object(RefOf(o)); prev != nil && Equal(prev, o) {
			a.next.Put(prev)
		}
	}
}

// settled reports whether o has all it needs already: many resources depend on
// what changed, but few of them change with it.
func (p *places) settled(o Object) bool {
	st := &o.Base().Status
	if st.ID == "" || st.Host != hostOf(o, p.a.next, p.a.opts.Base) {
		return false
	}
	switch o := o.(type) {
	case *Host:
		return o.Spec.Address == "" && len(st.Addresses) == 1 && p.fits(st.Addresses[0], o.Spec.Subnet)
	case *Network:
		return o.Spec.InternetGateway == (st.PublicAddress != "") && (st.PublicAddress == "" || p.public(st.PublicAddress))
	case *Endpoint, *Gateway:
		return false
	}
	return true
}

// own returns the copy of o in next that may be written to.
func (a *admission) own(o Object) Object {
	if a.current.Object(RefOf(o)) == o {
		o = Clone(o)
		a.next.Put(o)
	}
	return o
}

// connection gives a new Endpoint, or one that leads to another Gateway, the
// state that its Gateway starts with; one that moves to another Network too, for
// whoever is let in there is not who was approved.
func (a *admission) connection(e *Endpoint) {
	if p, ok := Get[*Endpoint](a.current, e.Metadata.Name); ok && !a.opts.Server {
		to := networkOf(e, a.next)
		moved := to != "" && to != networkOf(p, a.current)
		if p.Spec.Gateway != e.Spec.Gateway || moved && e.Status.Connection == Approved {
			e.Status.Connection = ""
			// Its Subnet may have moved, which alone does not touch the Gateway.
			a.touched[Ref{KindGateway, e.Spec.Gateway}] = true
		}
	}
	g, ok := Get[*Gateway](a.next, e.Spec.Gateway)
	if !ok || e.Status.Connection != "" {
		return
	}
	e.Status.Connection = Approved
	if g.Spec.EndpointApproval == ApprovalManual {
		e.Status.Connection = Pending
	}
}

// ids makes the ids that are missing.
func (a *admission) ids(list []Object) {
	var missing []Object
	for _, o := range list {
		if o.Base().Status.ID == "" {
			missing = append(missing, o)
		}
	}
	if len(missing) == 0 {
		return
	}
	taken := a.takenIDs(missing)
	const attempts = 100
	for _, o := range missing {
		h := o.Base()
		for i := range attempts {
			id, err := a.opts.IDs.NewID(RefOf(o), i)
			if err != nil {
				a.fail(Internal, o, "status.id", "no id can be made: %s", err)
				break
			}
			if !taken(id) {
				h.Status.ID = id
				break
			}
		}
		if h.Status.ID == "" {
			a.fail(Internal, o, "status.id", "no free id was found; try again")
		}
	}
}

// takenIDs returns a function that reports whether an id is taken, and takes
// it.
func (a *admission) takenIDs(missing []Object) func(id string) bool {
	kinds := map[Kind]bool{}
	for _, o := range missing {
		kinds[o.Kind()] = true
	}
	all := func(yield func(id string) bool) {
		for k := range kinds {
			for _, s := range []*Set{a.current, a.next} {
				for _, e := range s.byKind[k] {
					if !yield(e.Base().Status.ID) {
						return
					}
				}
			}
		}
	}
	const few = 4
	if len(missing) <= few {
		// Looking through all is cheaper than an index that is used once.
		return func(id string) bool {
			for x := range all {
				if x == id {
					return true
				}
			}
			return false
		}
	}
	taken := map[string]bool{}
	for x := range all {
		taken[x] = true
	}
	return func(id string) bool {
		was := taken[id]
		taken[id] = true
		return was
	}
}

// explicit takes over the addresses that specs ask for. One may be given as
// that of another resource, which may be given so itself; those that wait for
// each other are reported.
func (a *admission) explicit(p *places, list []Object) {
	waiting := map[Ref]wish{}
	for _, o := range list {
		switch o := o.(type) {
		case *Host:
			if v := o.Spec.Address; v != "" {
				waiting[RefOf(o)] = wish{o, "spec.address", v}
			}
		case *Gateway:
			if v := o.Spec.PrivateAddress; v != "" && o.Spec.Subnet != "" {
				waiting[RefOf(o)] = wish{o, "spec.privateAddress", v}
			}
			if v := o.Spec.PublicAddress; v != "" {
				// Nothing else can lead to it but the address of a Gateway
				// without a Network, so it is not waited for.
				if v, err := ExpandString(v, a.next); err == nil {
					o.Status.PublicAddress = canonical(v)
				}
			}
		}
	}
	for _, r := range sortedRefs(waiting) {
		a.wait(p, r, waiting, nil)
	}
}

// wish is an address that a spec asks for.
type wish struct {
	o            Object
	field, value string
}

// wait takes over the address of r, after those it leads to.
func (a *admission) wait(p *places, r Ref, waiting map[Ref]wish, chain []Ref) {
	w, ok := waiting[r]
	if !ok {
		return
	}
	if i := slices.Index(chain, r); i >= 0 {
		var names []string
		for _, x := range append(chain[i:], r) {
			names = append(names, x.String())
			delete(waiting, x)
		}
		a.fail(Invalid, w.o, w.field, "the address leads back to itself: %s; write one of them out", strings.Join(names, " -> "))
		return
	}
	for _, x := range placeholders(w.value) {
		if x.attribute != AttributeAddress {
			continue
		}
		a.wait(p, x.ref, waiting, append(chain, r))
		// One that is allocated has to be known first.
		if _, asked := waiting[x.ref]; !asked {
			if o := a.next.Object(x.ref); o != nil && len(o.Base().Status.Addresses) == 0 && a.touched[x.ref] {
				p.keep(o)
				p.allocate(o)
			}
		}
	}
	if _, ok := waiting[r]; !ok {
		return
	}
	delete(waiting, r)
	if v, err := ExpandString(w.value, a.next); err == nil {
		w.o.Base().Status.Addresses = []string{canonical(v)}
	}
}

func sortedRefs[V any](m map[Ref]V) []Ref {
	out := make([]Ref, 0, len(m))
	for r := range m {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Ref) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// places knows which addresses are taken.
type places struct {
	a *admission
	// used holds the addresses taken, by Network; under the empty name those
	// of the internet segment.
	used map[string]map[netip.Addr]bool
	// from is where the search in a Subnet goes on.
	from map[string]netip.Addr
}

// keep drops from o's status the addresses that no longer fit.
func (p *places) keep(o Object) {
	st := &o.Base().Status
	switch o := o.(type) {
	case *Host:
		if !p.fits(first(st.Addresses), o.Spec.Subnet) && o.Spec.Address == "" {
			st.Addresses = nil
		}
	case *Endpoint:
		old := st.Addresses
		st.Addresses = make([]string, len(o.Spec.Subnets))
		for i, sub := range o.Spec.Subnets {
			for _, x := range old {
				if p.fits(x, sub) {
					st.Addresses[i] = x
				}
			}
		}
	case *Gateway:
		switch {
		case o.Spec.Subnet == "":
			st.Addresses = nil
		case o.Spec.PrivateAddress == "" && !p.fits(first(st.Addresses), o.Spec.Subnet):
			st.Addresses = nil
		}
		if o.Spec.Outbound == nil || !p.fits(st.OutboundAddress, o.Spec.Outbound.Subnet) {
			st.OutboundAddress = ""
		}
		if o.Spec.PublicAddress == "" && !p.public(st.PublicAddress) {
			st.PublicAddress = ""
		}
		if !p.public(st.ConfigurationAddress) {
			st.ConfigurationAddress = ""
		}
	case *Network:
		if !o.Spec.InternetGateway || !p.public(st.PublicAddress) {
			st.PublicAddress = ""
		}
	}
}

// fits reports whether a may be allocated in a Subnet.
func (p *places) fits(a, subnet string) bool {
	x, err := netip.ParseAddr(a)
	if err != nil {
		return false
	}
	_, prefix, ok := p.subnet(subnet)
	return ok && prefix.Contains(x) && !Reserved(prefix, x)
}

func (p *places) public(a string) bool {
	x, err := netip.ParseAddr(a)
	return err == nil && p.a.opts.Internet.Contains(x)
}

func (p *places) subnet(name string) (*Subnet, netip.Prefix, bool) {
	s, ok := Get[*Subnet](p.a.next, name)
	if !ok {
		return nil, netip.Prefix{}, false
	}
	prefix, err := ParsePrefix(s.Spec.CIDR)
	return s, prefix, err == nil
}

// restore gives o what it lacks of the addresses that a backup tells, where
// they fit and are free.
func (p *places) restore(o Object, told Status) {
	in := func(subnet, addr string) string {
		s, _, ok := p.subnet(subnet)
		if !ok || !p.fits(addr, subnet) {
			return ""
		}
		return p.take(s.Spec.Network, addr)
	}
	public := func(addr string) string {
		if x, err := netip.ParseAddr(addr); err != nil || !p.public(addr) || x.Less(p.firstPublic()) || x == lastAddress(p.a.opts.Internet) {
			return ""
		}
		return p.take("", addr)
	}
	fill := func(to *string, find func() string) {
		if *to == "" {
			*to = find()
		}
	}
	st := &o.Base().Status
	switch o := o.(type) {
	case *Host:
		if x := first(told.Addresses); o.Spec.Address == "" && len(st.Addresses) == 0 && x != "" {
			if x = in(o.Spec.Subnet, x); x != "" {
				st.Addresses = []string{x}
			}
		}
	case *Endpoint:
		for i, sub := range o.Spec.Subnets {
			for _, x := range told.Addresses {
				fill(&st.Addresses[i], func() string { return in(sub, x) })
			}
		}
	case *Gateway:
		if o.Spec.PublicAddress == "" {
			fill(&st.PublicAddress, func() string { return public(told.PublicAddress) })
		}
		fill(&st.ConfigurationAddress, func() string { return public(told.ConfigurationAddress) })
		if x := first(told.Addresses); o.Spec.Subnet != "" && o.Spec.PrivateAddress == "" && len(st.Addresses) == 0 && x != "" {
			if x = in(o.Spec.Subnet, x); x != "" {
				st.Addresses = []string{x}
			}
		}
		if o.Spec.Outbound != nil {
			fill(&st.OutboundAddress, func() string { return in(o.Spec.Outbound.Subnet, told.OutboundAddress) })
		}
	case *Network:
		if o.Spec.InternetGateway {
			fill(&st.PublicAddress, func() string { return public(told.PublicAddress) })
		}
	}
}

// take takes an address, and returns it, or nothing if it is taken.
func (p *places) take(network, addr string) string {
	x, err := netip.ParseAddr(addr)
	used := p.taken(network)
	if err != nil || used[x] {
		return ""
	}
	used[x] = true
	return x.String()
}

// allocate gives o the addresses that it lacks.
func (p *places) allocate(o Object) {
	st := &o.Base().Status
	switch o := o.(type) {
	case *Host:
		if len(st.Addresses) == 0 && o.Spec.Address == "" {
			if x := p.free(o, "spec.subnet", o.Spec.Subnet); x != "" {
				st.Addresses = []string{x}
			}
		}
	case *Endpoint:
		for i, sub := range o.Spec.Subnets {
			if st.Addresses[i] == "" {
				st.Addresses[i] = p.free(o, fmt.Sprintf("spec.subnets[%d]", i), sub)
			}
		}
	case *Gateway:
		if st.PublicAddress == "" && o.Spec.PublicAddress == "" {
			st.PublicAddress = p.freePublic(o)
		}
		if st.ConfigurationAddress == "" {
			st.ConfigurationAddress = p.freePublic(o)
		}
		if o.Spec.Subnet == "" {
			st.Addresses = nil
			if st.PublicAddress != "" {
				st.Addresses = []string{st.PublicAddress}
			}
		} else if len(st.Addresses) == 0 && o.Spec.PrivateAddress == "" {
			if x := p.free(o, "spec.subnet", o.Spec.Subnet); x != "" {
				st.Addresses = []string{x}
			}
		}
		if o.Spec.Outbound != nil && st.OutboundAddress == "" {
			st.OutboundAddress = p.free(o, "spec.outbound.subnet", o.Spec.Outbound.Subnet)
		}
	case *Network:
		if o.Spec.InternetGateway && st.PublicAddress == "" {
			st.PublicAddress = p.freePublic(o)
		}
	}
}

// free returns the lowest free address of a Subnet, taken from then on; empty
// if the Subnet is not there or full.
func (p *places) free(o Object, field, subnet string) string {
	s, prefix, ok := p.subnet(subnet)
	if !ok {
		return "" // an error of its own
	}
	used := p.taken(s.Spec.Network)
	x, ok := p.from[subnet]
	if !ok {
		x = prefix.Addr()
		for range reservedAtStart {
			x = x.Next()
		}
	}
	last := lastAddress(prefix)
	for ; x.IsValid() && x.Less(last); x = x.Next() {
		if !used[x] {
			used[x] = true
			p.from[subnet] = x.Next()
			return x.String()
		}
	}
	p.from[subnet] = last
	p.a.fail(Invalid, o, field, "no address is free in Subnet %q (%s); use another Subnet or a larger one", subnet, prefix)
	return ""
}

// reservedOfInternet is how many addresses at the start of the internet segment
// are kept for Postern and for callers on the internet.
const reservedOfInternet = 16

// firstPublic is the first address of the internet segment that is allocated.
func (p *places) firstPublic() netip.Addr {
	x := p.a.opts.Internet.Masked().Addr()
	for range reservedOfInternet {
		x = x.Next()
	}
	return x
}

// freePublic returns the lowest free address of the internet segment.
func (p *places) freePublic(o Object) string {
	prefix := p.a.opts.Internet
	used := p.taken("")
	x, ok := p.from[""]
	if !ok {
		x = p.firstPublic()
	}
	last := lastAddress(prefix)
	for ; x.IsValid() && x.Less(last); x = x.Next() {
		if !used[x] {
			used[x] = true
			p.from[""] = x.Next()
			return x.String()
		}
	}
	p.a.fail(Invalid, o, "status.publicAddress", "no address is free in the internet segment %s; configure a larger one", prefix)
	return ""
}

// taken returns the addresses in use in a Network, or on the internet segment:
// those of next and, as they are held until the change is done, of current.
func (p *places) taken(network string) map[netip.Addr]bool {
	if m := p.used[network]; m != nil {
		return m
	}
	m := map[netip.Addr]bool{}
	p.used[network] = m
	add := func(list ...string) {
		for _, s := range list {
			if x, err := netip.ParseAddr(s); err == nil {
				m[x] = true
			}
		}
	}
	for _, s := range []*Set{p.a.next, p.a.current} {
		if network == "" {
			for g := range each[*Gateway](s) {
				add(g.Status.PublicAddress, g.Status.ConfigurationAddress)
			}
			for n := range each[*Network](s) {
				add(n.Status.PublicAddress)
			}
			continue
		}
		in := map[string]bool{}
		for x := range each[*Subnet](s) {
			if x.Spec.Network == network {
				in[x.Metadata.Name] = true
			}
		}
		for h := range each[*Host](s) {
			if in[h.Spec.Subnet] && (s == p.a.next || p.a.next.Object(RefOf(h)) != h) {
				add(h.Status.Addresses...)
			}
		}
		for e := range each[*Endpoint](s) {
			if slices.ContainsFunc(e.Spec.Subnets, func(n string) bool { return in[n] }) {
				add(e.Status.Addresses...)
			}
		}
		for g := range each[*Gateway](s) {
			if in[g.Spec.Subnet] {
				add(g.Status.Addresses...)
			}
			if g.Spec.Outbound != nil && in[g.Spec.Outbound.Subnet] {
				add(g.Status.OutboundAddress)
			}
		}
	}
	return m
}
