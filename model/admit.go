// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Change is what one call writes: all of it or none.
type Change struct {
	Puts    []Object
	Deletes []Ref
	// Cascade deletes, with the SecurityGroupAuthorizations among Deletes, the
	// rules that they granted.
	Cascade bool
}

// Options says how a Change is admitted. The zero value makes ids of names,
// under the default base domain and internet segment.
type Options struct {
	// IDs makes ids; NamedIDs if nil.
	IDs IDs
	// Base is the base domain; DefaultBase if empty.
	Base string
	// Internet is the segment of public addresses; DefaultInternet if zero.
	Internet netip.Prefix
	// Deployments allows Deployments to be put, and gives what is new the
	// addresses that its status tells where they are free: the call is postern
	// deploy, or a backup is read back.
	Deployments bool
	// Server says that the call is the server's own: the status of the Puts is
	// taken as it stands, but for what is missing.
	Server bool
}

// DefaultInternet is the internet segment unless another is configured.
var DefaultInternet = netip.MustParsePrefix("198.18.0.0/15")

func (o Options) withDefaults() Options {
	if o.IDs == nil {
		o.IDs = NamedIDs()
	}
	set(&o.Base, DefaultBase)
	set(&o.Internet, DefaultInternet)
	return o
}

// Admit applies a Change to a Set that was admitted before: it fills in
// defaults, ids, addresses and host names, carries what the server owns over
// from current, and judges the whole result. It returns the new Set and what
// differs in it, in listing order. If anything is wrong the error is Errors,
// all of it, and nothing is admitted. Neither current nor the Puts are changed.
//
// The judgement covers what changed and what depends on it. As current was
// admitted before, that finds what judging the whole Set would.
func Admit(current *Set, change Change, opts Options) (next *Set, changed []Ref, err error) {
	a := &admission{
		current: current, next: current.Clone(), opts: opts.withDefaults(),
		touched: map[Ref]bool{}, seeds: map[Ref]bool{}, deleted: map[Ref]bool{}, cascade: change.Cascade,
	}
	a.puts(change.Puts)
	a.deletes(change.Deletes)
	a.spread()
	a.settle()
	a.grants()
	a.errs = append(a.errs, validate(a.next, a.touched, a.seeds, a.deleted)...)
	a.referrers()
	a.segment()
	if len(a.errs) > 0 {
		a.errs.Sort()
		return nil, nil, a.errs
	}
	return a.next, a.changes(), nil
}

type admission struct {
	current, next *Set
	opts          Options
	// touched is what is put or depends on what changes; seeds, of these, is
	// what is put and differs from before.
	touched, seeds, deleted map[Ref]bool
	// cascade says that what is deleted takes the rules along that it granted.
	cascade bool
	// told is the status of what is new in a backup.
	told map[Ref]Status
	errs Errors
}

func (a *admission) fail(kind ErrorKind, o Object, field, format string, args ...any) {
	a.errs = append(a.errs, &Error{
		Kind: kind, Ref: RefOf(o), Field: field, Position: o.Base().Locate(field), Msg: fmt.Sprintf(format, args...),
	})
}

// puts takes copies of objects into next.
func (a *admission) puts(objects []Object) {
	for _, o := range objects {
		r := RefOf(o)
		if a.touched[r] {
			a.fail(Invalid, o, "metadata.name", "stands twice in one change; keep one")
			continue
		}
		a.touched[r] = true
		prev := a.current.Object(r)
		c := Clone(o)
		Default(c)
		a.status(c, prev)
		a.secrets(c, prev)
		if d, ok := c.(*Deployment); ok && !a.deployment(d, prev) {
			continue
		}
		if prev != nil && Equal(prev, c) {
			continue
		}
		a.next.Put(c)
		a.seeds[r] = true
	}
}

// status gives c what the server owns. Of the input nothing counts but the id
// of what is new and, in a backup, its addresses, that it was shut out, and what
// was granted.
func (a *admission) status(c, prev Object) {
	h := c.Base()
	given := h.Status
	if prev == nil {
		if !a.opts.Server {
			h.Status = Status{ID: given.ID}
			if a.opts.Deployments {
				if a.told == nil {
					a.told = map[Ref]Status{}
				}
				a.told[RefOf(c)] = given
				if given.Connection == Pending || given.Connection == Rejected {
					h.Status.Connection = given.Connection
				}
				h.Status.GrantedRules, h.Status.GrantedPorts = given.GrantedRules, given.GrantedPorts
			}
		}
		return
	}
	p := Clone(prev).Base()
	h.Revision = p.Revision
	if !a.opts.Server {
		h.Status = p.Status
	}
	if given.ID != "" && given.ID != p.Status.ID {
		a.fail(Conflict, c, "status.id", "is %s, but the resource has %s, which stays; remove status.id, or delete the resource first", given.ID, p.Status.ID)
	}
	h.Status.ID = p.Status.ID
}

// secrets gives back to c what a print had redacted.
func (a *admission) secrets(c, prev Object) {
	d, ok := c.(*Domain)
	if !ok || d.Spec.TLS == nil || !d.Spec.TLS.Key.Redacted() {
		return
	}
	if p, ok := prev.(*Domain); ok && p.Spec.TLS != nil {
		d.Spec.TLS.Key = p.Spec.TLS.Key
		return
	}
	a.fail(Invalid, c, "spec.tls.key", "is redacted and the server has none; give the key itself")
}

// deployment reports whether d may be put.
func (a *admission) deployment(d *Deployment, prev Object) bool {
	switch {
	case prev != nil:
		p := prev.(*Deployment)
		if e := Clone(p); !Equal(&Deployment{Spec: e.Spec}, &Deployment{Spec: d.Spec}) {
			a.fail(Conflict, d, "", "a Deployment never changes; make a new one with postern deploy %s", APIName(d.Metadata.Name))
			return false
		}
		return a.opts.Server || a.opts.Deployments
	case !a.opts.Deployments:
		a.fail(Denied, d, "", "Deployments are made by the server; run postern deploy %s", APIName(d.Metadata.Name))
		return false
	}
	return true
}

// deletes takes what refs name out of next, an API's Deployments with it.
func (a *admission) deletes(refs []Ref) {
	for _, r := range refs {
		o := a.current.Object(r)
		switch {
		case a.touched[r]:
			a.errs = append(a.errs, &Error{Kind: Invalid, Ref: r, Msg: "is both written and deleted in one change; do one of them"})
			continue
		case o == nil && !a.deleted[r]:
			a.errs = append(a.errs, &Error{Kind: NotFound, Ref: r, Msg: "there is no such resource" + hint(r.Name, a.current.Names(r.Kind))})
			continue
		}
		a.delete(r)
		if r.Kind == KindAPI {
			for d := range each[*Deployment](a.current) {
				if APIName(d.Metadata.Name) == r.Name {
					a.delete(RefOf(d))
				}
			}
		}
	}
}

func (a *admission) delete(r Ref) {
	a.deleted[r] = true
	a.next.Delete(r)
}

// spread adds to touched what depends on what changed. References lead to
// kinds that are listed before, but for a few; if one of those was met, what
// was passed already is looked at again.
func (a *admission) spread() {
	seeds := map[Ref]bool{}
	kinds := map[Kind]bool{}
	mark := func(r Ref) {
		seeds[r] = true
		kinds[r.Kind] = true
	}
	for r := range a.seeds {
		mark(r)
	}
	for r := range a.deleted {
		mark(r)
	}
	if kinds[KindPeering] {
		// Which groups a group or an authorization may name depends on the Peerings.
		for _, k := range []Kind{KindSecurityGroup, KindAuthorization} {
			for n := range a.next.byKind[k] {
				a.touched[Ref{k, n}] = true
			}
		}
	}
	for r := range seeds {
		// Whether a Gateway may be closed to the public depends on Endpoints.
		for _, s := range []*Set{a.current, a.next} {
			if e, ok := s.Object(r).(*Endpoint); ok && a.next.Has(Ref{KindGateway, e.Spec.Gateway}) {
				a.touched[Ref{KindGateway, e.Spec.Gateway}] = true
			}
		}
	}
	for again := true; again; {
		again = false
		for _, k := range Kinds {
			if !a.mayDepend(k, kinds) {
				continue
			}
			for name, e := range a.next.byKind[k] {
				r := Ref{k, name}
				if seeds[r] || !a.depends(e, kinds, seeds) {
					continue
				}
				mark(r)
				a.touched[r] = true
				switch k {
				case KindSecurityGroup, KindGateway, KindHost, KindEndpoint:
					again = true
				}
			}
		}
	}
}

// refersTo lists the kinds that the fields of a kind name.
var refersTo = map[Kind][]Kind{
	KindSecurityGroup: {KindNetwork, KindSecurityGroup, KindGateway},
	KindSubnet:        {KindNetwork, KindSecurityGroup, KindGateway},
	KindHost:          {KindSubnet, KindSecurityGroup},
	KindLink:          {KindNetwork},
	KindPeering:       {KindNetwork},
	KindGateway:       {KindSubnet, KindSecurityGroup},
	KindEndpoint:      {KindGateway, KindSubnet, KindSecurityGroup},
	KindAuthorization: {KindGateway, KindSecurityGroup},
	KindBackend:       {KindNetwork},
	KindAPI:           {KindGateway, KindEndpoint, KindBackend, KindStage},
	KindDeployment:    {KindAPI},
	KindStage:         {KindAPI, KindDeployment},
	KindDomain:        {KindAPI, KindStage, KindEndpoint},
	KindZone:          {KindNetwork},
	KindSelfHosted:    {KindGateway, KindHost, KindLink, KindAPI},
	KindProduct:       {KindAPI},
	KindSubscription:  {KindProduct},
}

// takesValues lists the kinds whose own addresses, prefixes or names may be
// written as ${Kind/NAME.attribute} and are judged.
var takesValues = []Kind{KindNetwork, KindSubnet, KindSecurityGroup, KindHost, KindLink, KindGateway, KindBackend, KindZone}

// mayDepend reports whether anything of kind k can depend on something of one
// of kinds.
func (a *admission) mayDepend(k Kind, kinds map[Kind]bool) bool {
	return len(a.deleted) > 0 || slices.Contains(takesValues, k) ||
		slices.ContainsFunc(refersTo[k], func(r Kind) bool { return kinds[r] })
}

// depends reports whether what e is or is allowed to be depends on one of
// seeds, whose kinds are given.
func (a *admission) depends(e *entry, kinds map[Kind]bool, seeds map[Ref]bool) bool {
	for _, r := range e.references() {
		if !kinds[r.Ref.Kind] || !seeds[r.Ref] {
			continue
		}
		switch {
		case r.Weak:
		case r.Attribute == "", a.deleted[r.Ref]:
			return true
		case slices.Contains(takesValues, e.Kind()):
			// Elsewhere it stands within a document and changes no judgement.
			return true
		}
	}
	return false
}

// referrers fails for each deleted resource that another still refers to.
func (a *admission) referrers() {
	if len(a.deleted) == 0 {
		return
	}
	by := map[Ref][]string{}
	for _, k := range Kinds {
		for _, e := range a.next.byKind[k] {
			for _, r := range e.references() {
				if a.deleted[r.Ref] && (!r.Weak || r.Ref.Kind == KindDeployment) && !a.next.Has(r.Ref) {
					by[r.Ref] = append(by[r.Ref], fmt.Sprintf("%s (%s)", RefOf(e), r.Field))
				}
			}
			if s, ok := e.Object.(*Stage); ok && s.Status.Deployment > 0 {
				if r := (Ref{KindDeployment, fmt.Sprintf("%s.%d", APIName(s.Metadata.Name), s.Status.Deployment)}); a.deleted[r] {
					by[r] = append(by[r], fmt.Sprintf("%s (status.deployment)", RefOf(s)))
				}
			}
		}
	}
	for r, who := range by {
		slices.Sort(who)
		who = slices.Compact(who)
		a.errs = append(a.errs, &Error{
			Kind: Conflict, Ref: r, Field: "",
			Msg: "cannot be deleted, as others refer to it: " + enumerate(who) + "; delete or change these too",
		})
	}
}

// enumerate joins the first ten of who and counts the rest.
func enumerate(who []string) string {
	const most = 10
	if len(who) <= most {
		return strings.Join(who, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(who[:most], ", "), len(who)-most)
}

// segment fails for what overlaps the internet segment or the base domain.
func (a *admission) segment() {
	for _, name := range sortedNames(a.touched, KindNetwork) {
		n, ok := Get[*Network](a.next, name)
		if !ok {
			continue
		}
		for i, s := range n.Spec.CIDRs {
			if p, err := ParsePrefix(s); err == nil && p.Bits() > 0 && p.Overlaps(a.opts.Internet) {
				a.fail(Invalid, n, fmt.Sprintf("spec.cidrs[%d]", i), "%s overlaps the internet segment %s; choose another prefix", p, a.opts.Internet)
			}
		}
	}
	for _, name := range sortedNames(a.touched, KindDomain) {
		if d, ok := Get[*Domain](a.next, name); ok && (name == a.opts.Base || strings.HasSuffix(name, "."+a.opts.Base)) {
			a.fail(Invalid, d, "metadata.name", "lies in the base domain %s, whose names are Postern's own; choose a name outside", a.opts.Base)
		}
	}
}

// changes lists what differs between current and next.
func (a *admission) changes() []Ref {
	var out []Ref
	for r := range a.deleted {
		if !a.next.Has(r) {
			out = append(out, r)
		}
	}
	for r := range a.touched {
		if o := a.next.Object(r); o != nil && o != a.current.Object(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y Ref) int {
		if d := slices.Index(Kinds, x.Kind) - slices.Index(Kinds, y.Kind); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	return out
}
