// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"net/netip"
	"sort"

	"postern.dev/postern/model"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Account is the account in every ARN.
const Account = "000000000000"

// Options are the facts that are not in any manifest.
type Options struct {
	// Revision is noted in the snapshot.
	Revision int64
	// Base is the base domain, such as postern.internal.
	Base string
	// Segment is the internet segment.
	Segment []netip.Prefix
	// Egress lists what may be dialled beyond the segment although it is not
	// public.
	Egress []netip.Prefix
	// Own holds the server's own addresses, which are never dialled for others.
	Own []netip.Addr
	// Management holds the management plane's own source addresses: the tag
	// ApiManagement. If empty, it is the first address of each Segment, after
	// the base.
	Management []netip.Addr
	// Probes holds the source addresses of health probes: the tag
	// AzureLoadBalancer. If empty, it is the second address of each Segment.
	Probes []netip.Addr
	// Hub gives a Network's WireGuard key and port; nil when there is none to
	// give, as for manifests alone.
	Hub func(network string) snapshot.Hub
	// AsWritten makes a Stage that follows the newest Deployment, or deploys by
	// itself, serve the API as it is written: there is no server to deploy it.
	AsWritten bool
}

// Result is what came out of a compilation.
type Result struct {
	Snapshot *snapshot.Snapshot
	// Conditions holds what there is to say of a resource beyond that it is
	// ready: a resource without a condition of type Ready is ready.
	Conditions map[model.Ref][]model.Condition
	// Assumptions are sentences about what manifests alone cannot know.
	Assumptions []string
}

// Ready tells whether the resource compiled, and if not, why.
func (r *Result) Ready(ref model.Ref) (bool, model.Condition) {
	for _, c := range r.Conditions[ref] {
		if c.Type == ConditionReady && !c.Status {
			return false, c
		}
	}
	return true, model.Condition{Type: ConditionReady, Status: true, Reason: "Compiled"}
}

// Types of conditions.
const (
	ConditionReady    = "Ready"
	ConditionStale    = "Stale"    // a Stage serves another state than the API's
	ConditionAdvice   = "Advice"   // works, but probably not as meant
	ConditionDeployed = "Deployed" // a Stage has a Deployment
)

// ReasonNoPolicy is the reason of advice that an API cannot be deployed yet.
const ReasonNoPolicy = "NoPolicy"

// build is one compilation in progress.
type build struct {
	opts   Options
	memo   *Compiler
	set    *model.Set          // read by all and get, which replace every ${Kind/NAME.id}
	refer  map[model.Kind]bool // kinds with a resource that holds such a reference
	out    *snapshot.Snapshot
	conds  map[model.Ref][]model.Condition
	assume map[string]bool
	// domainHosts are the names of Domains, in the order of their names.
	domainHosts []domainHost
	// subnets are by name.
	subnets map[string]*snapshot.Subnet
	// carried are the groups of each interface, members the reverse.
	carried map[*snapshot.Interface][]string
	members map[string][]*snapshot.Interface
	// waits are the Stages of each API that do not serve it as it is saved.
	waits map[string][]waiting
	// broken are the groups that cannot be read; sets the merges made so far.
	broken map[string]bool
	sets   map[string]*sg.Set
	// stages counts the Stages so far, and formats are those of access logs.
	stages  int
	formats map[string]*accesslog.Format
}

// Compile compiles set. It changes neither set nor what is in it.
func (c *Compiler) Compile(set *model.Set, opts Options) *Result {
	opts.Management = orReserved(opts.Management, opts.Segment, 1)
	opts.Probes = orReserved(opts.Probes, opts.Segment, 2)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	b := &build{
		opts: opts, memo: c,
		conds:   map[model.Ref][]model.Condition{},
		refer:   map[model.Kind]bool{},
		assume:  map[string]bool{},
		subnets: map[string]*snapshot.Subnet{},
		carried: map[*snapshot.Interface][]string{},
		members: map[string][]*snapshot.Interface{},
		waits:   map[string][]waiting{},
		broken:  map[string]bool{},
		sets:    map[string]*sg.Set{},
		formats: map[string]*accesslog.Format{},
		out: &snapshot.Snapshot{
			Revision:  opts.Revision,
			Base:      opts.Base,
			Networks:  map[string]*snapshot.Network{},
			Gateways:  map[string]*snapshot.Gateway{},
			Endpoints: map[string]*snapshot.Endpoint{},
			Hosts:     map[string]*snapshot.Interface{},
			Links:     map[string]*snapshot.Link{},
			APIs:      map[string]*snapshot.API{},
			Backends:  map[string]*snapshot.Backend{},
			Public:    &snapshot.View{Zones: map[string]*snapshot.Zone{}},
			Internet: snapshot.Internet{
				Prefixes:   opts.Segment,
				Gateways:   map[netip.Addr]*snapshot.Gateway{},
				NAT:        map[netip.Addr]*snapshot.Network{},
				Egress:     opts.Egress,
				Own:        opts.Own,
				Management: opts.Management,
			},
		},
	}
	b.expand(set)
	b.networks()
	b.backends()
	b.gateways()
	b.nodes()
	b.interfaces()
	b.groups()
	b.authorizations()
	b.routes()
	b.placed()
	b.apis()
	b.subscriptions()
	b.unreached()
	b.domains()
	b.selfHosted()
	b.names()
	c.end()
	return &Result{Snapshot: b.out, Conditions: b.conds, Assumptions: b.assumptions()}
}

// orReserved is as, or else the n-th address of each prefix of the segment, of
// those that are kept for Postern itself.
func orReserved(as []netip.Addr, segment []netip.Prefix, n int) []netip.Addr {
	if len(as) > 0 {
		return as
	}
	for _, p := range segment {
		a := p.Masked().Addr()
		for range n {
			a = a.Next()
		}
		as = append(as, a)
	}
	return as
}

// fail notes that o is not ready.
func (b *build) fail(o model.Object, reason string, err error) {
	b.note(model.RefOf(o), model.Condition{Type: ConditionReady, Reason: reason, Message: err.Error()})
}

// failf notes that o is not ready, with a sentence.
func (b *build) failf(o model.Object, reason, format string, args ...any) {
	b.fail(o, reason, fmt.Errorf(format, args...))
}

func (b *build) note(ref model.Ref, c model.Condition) {
	b.conds[ref] = append(b.conds[ref], c)
}

// absent notes that o needs something that is not there or not ready.
func (b *build) absent(o model.Object, field string, kind model.Kind, name string) {
	b.failf(o, "NotReady", "%s: %s is absent or not ready; look at its conditions", field, model.Ref{Kind: kind, Name: name})
}

func (b *build) assumptions() []string {
	out := make([]string, 0, len(b.assume))
	for s := range b.assume {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

// addrs parses the addresses that the server assigned; they were checked when
// they were assigned.
func addrs(texts []string) []netip.Addr {
	out := make([]netip.Addr, 0, len(texts))
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}
