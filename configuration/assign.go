// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"postern.dev/postern/model"
)

// Facts are what a Document tells beside resources.
type Facts struct {
	// Revision is that of the store.
	Revision int64
	// Base is the base domain.
	Base string
}

// Assign returns what one SelfHostedGateway is assigned. To ask for many of one
// Set, use Read.
func Assign(set *model.Set, name string, f Facts) (*Document, error) {
	return Read(set, f, nil).Document(name)
}

// Assignments tell what each SelfHostedGateway of a Set is assigned: its
// Gateway, APIs that Endpoints alone do not serve, their Stages, the Deployments
// that these serve, the Backends that these use, the Domains that map the APIs,
// and the Products and Subscriptions whose keys open them; of all that only what a gateway next to its backends needs. It is safe
// for concurrent use.
type Assignments struct {
	set         *model.Set
	facts       Facts
	stages      map[string][]*model.Stage // by API
	newest      map[string]*model.Deployment
	deployments map[string]*model.Deployment // by name
	domains     map[string][]*model.Domain   // by API
	keyed

	mu sync.Mutex
	// encoded are resources that are the same for all who are assigned them,
	// by what they were made of, which never changes; former are those of the
	// Assignments before.
	encoded, former map[model.Object]Resource
}

// Read prepares a Set. What it has in common with the one that before was made
// of is not encoded again; before may be nil.
func Read(set *model.Set, f Facts, before *Assignments) *Assignments {
	a := &Assignments{
		set: set, facts: f, stages: map[string][]*model.Stage{}, newest: map[string]*model.Deployment{},
		deployments: map[string]*model.Deployment{}, domains: map[string][]*model.Domain{}, encoded: map[model.Object]Resource{},
	}
	if before != nil {
		before.mu.Lock()
		a.former = before.encoded
		before.mu.Unlock()
	}
	if len(set.Names(model.KindSelfHosted)) == 0 {
		return a
	}
	for _, s := range model.All[*model.Stage](set) {
		api := model.APIName(s.Metadata.Name)
		a.stages[api] = append(a.stages[api], s)
	}
	for _, d := range model.All[*model.Deployment](set) {
		a.deployments[d.Metadata.Name] = d
		if n := a.newest[d.Spec.API]; n == nil || d.Spec.Number > n.Spec.Number {
			a.newest[d.Spec.API] = d
		}
	}
	a.keyed = readKeyed(set)
	for _, d := range model.All[*model.Domain](set) {
		for i, m := range d.Spec.Mappings {
			if !slices.ContainsFunc(d.Spec.Mappings[:i], func(x model.Mapping) bool { return x.API == m.API }) {
				a.domains[m.API] = append(a.domains[m.API], d)
			}
		}
	}
	return a
}

// Document returns what one SelfHostedGateway is assigned, unsigned.
func (a *Assignments) Document(name string) (*Document, error) {
	ref := model.Ref{Kind: model.KindSelfHosted, Name: name}
	o := a.set.Object(ref)
	if o == nil {
		return nil, &model.Error{Kind: model.NotFound, Ref: ref, Msg: "it does not exist"}
	}
	x, errs := model.Expand(o, a.set)
	if len(errs) > 0 {
		return nil, errs
	}
	g := x.(*model.SelfHostedGateway)
	d := &Document{Revision: a.facts.Revision, For: name, Gateway: g.Spec.Gateway, Base: a.facts.Base}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := collection{Assignments: a, doc: d, assigned: map[string]bool{}, seen: map[model.Ref]bool{}}
	if err := c.all(g); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", ref, err)
	}
	slices.SortFunc(d.Resources, compareResources)
	return d, d.check()
}

// collection gathers the resources of one Document.
type collection struct {
	*Assignments
	doc      *Document
	assigned map[string]bool // APIs
	seen     map[model.Ref]bool
}

func (c *collection) all(g *model.SelfHostedGateway) error {
	gateway, ok := model.Get[*model.Gateway](c.set, g.Spec.Gateway)
	if !ok {
		return fmt.Errorf("there is no Gateway %q", g.Spec.Gateway)
	}
	for _, name := range g.Spec.APIs {
		api, ok := model.Get[*model.API](c.set, name)
		if !ok || api.Spec.Type == model.Private || api.Spec.Gateway != g.Spec.Gateway {
			continue // a condition says so
		}
		c.assigned[name] = true
		if err := c.api(api); err != nil {
			return err
		}
	}
	for _, name := range g.Spec.APIs {
		for _, d := range c.domains[name] {
			if err := c.domain(d); err != nil {
				return err
			}
		}
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	return c.gateway(gateway, keys)
}

// api adds an API with what serves it. Its own document is left out: Stages
// serve those of Deployments, and what was saved since is nobody's but the
// publisher's.
func (c *collection) api(a *model.API) error {
	if err := c.add(a, undrafted); err != nil {
		return err
	}
	for _, s := range c.stages[a.Metadata.Name] {
		if err := c.add(s, bare); err != nil {
			return err
		}
		d := c.served(s)
		if d == nil {
			continue
		}
		if err := c.add(d, bare); err != nil {
			return err
		}
		for _, name := range backendsOf(&d.Spec.Spec) {
			if b, ok := model.Get[*model.Backend](c.set, name); ok {
				if err := c.add(b, nearby); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// served finds the Deployment that a Stage serves.
func (c *collection) served(s *model.Stage) *model.Deployment {
	api := model.APIName(s.Metadata.Name)
	if s.Spec.AutoDeploy || s.Spec.Deployment == model.Latest {
		return c.newest[api]
	}
	if n, ok := s.Spec.Deployment.Number(); ok {
		return c.deployments[fmt.Sprintf("%s.%d", api, n)]
	}
	return nil
}

// domain adds a Domain with the mappings of what is assigned. It is different
// for each gateway, so it is not remembered.
func (c *collection) domain(d *model.Domain) error {
	if d.Spec.Type == model.Private || c.seen[model.RefOf(d)] {
		return nil
	}
	c.seen[model.RefOf(d)] = true
	x, errs := model.Expand(d, c.set)
	if len(errs) > 0 {
		return nil // it is not served anywhere; a condition says so
	}
	n := model.Clone(x.(*model.Domain))
	n.Spec.Mappings = slices.DeleteFunc(n.Spec.Mappings, func(m model.Mapping) bool { return !c.assigned[m.API] })
	if len(n.Spec.Mappings) == 0 {
		return nil
	}
	if n.Spec.TLS != nil && n.Spec.TLS.ACME != nil {
		n.Spec.TLS = nil // the managed gateway keeps that certificate
	}
	bare(n)
	r, err := newResource(n)
	if err != nil {
		return err
	}
	c.doc.Resources = append(c.doc.Resources, r)
	return nil
}

// add adds a resource, stripped, once. One with a reference that leads nowhere
// is left out: it is not served anywhere, and a condition says so.
func (c *collection) add(o model.Object, strip func(model.Object)) error {
	ref := model.RefOf(o)
	if c.seen[ref] {
		return nil
	}
	c.seen[ref] = true
	r, ok := c.encoded[o]
	if !ok {
		r, ok = c.former[o]
	}
	if !ok {
		x, errs := model.Expand(o, c.set)
		if len(errs) > 0 {
			return nil
		}
		n := model.Clone(x)
		strip(n)
		var err error
		if r, err = newResource(n); err != nil {
			return err
		}
		ok = x == o // else it depends on others, which may change
	}
	if ok {
		c.encoded[o] = r
	}
	c.doc.Resources = append(c.doc.Resources, r)
	return nil
}

// bare takes away what is for people and for the management plane. Its id and
// host name a resource keeps: callers use them.
func bare(o model.Object) {
	h := o.Base()
	h.Metadata.Labels = nil
	h.Status = model.Status{ID: h.Status.ID, Host: h.Status.Host}
}

// placeless takes a Gateway out of its Network: a self-hosted gateway is where
// it runs.
func placeless(o model.Object) {
	bare(o)
	g := o.(*model.Gateway)
	g.Spec = model.GatewaySpec{Region: g.Spec.Region, HTTP: g.Spec.HTTP, NetworkMode: model.ModeNone, AccessLog: g.Spec.AccessLog, TrustedProxies: g.Spec.TrustedProxies}
	model.Default(g)
}

// nothing is the document of an API that shows nothing.
var nothing = json.RawMessage(`{"openapi":"3.0.3","info":{"title":"","version":""},"paths":{}}`)

// undrafted takes from an API all that takes effect by a Deployment only.
func undrafted(o model.Object) {
	bare(o)
	a := o.(*model.API)
	a.Spec = model.APISpec{Gateway: a.Spec.Gateway, Type: a.Spec.Type, OpenAPI: nothing, Path: a.Spec.Path, Stage: a.Spec.Stage}
}

// nearby takes a Backend out of its Network: the gateway stands next to it.
func nearby(o model.Object) {
	bare(o)
	o.(*model.Backend).Spec.Network = ""
}

var backendURI = regexp.MustCompile(`backend://([a-z0-9-]+)`)

// backendsOf lists the Backends that an API uses: its own, and those that its
// document names.
func backendsOf(a *model.APISpec) []string {
	var out []string
	if a.Backend != "" {
		out = append(out, a.Backend)
	}
	text := string(a.OpenAPI)
	var inner string
	if json.Unmarshal(a.OpenAPI, &inner) == nil {
		text = inner
	}
	// A slash may be escaped in JSON.
	for _, m := range backendURI.FindAllStringSubmatch(strings.ReplaceAll(text, `\/`, "/"), -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}
