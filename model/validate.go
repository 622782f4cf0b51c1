// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Validate judges a whole Set, whose resources have been through Default, and
// returns everything that is wrong with it, sorted by position, resource and
// field; nil if nothing is.
func Validate(s *Set) Errors {
	all := map[Ref]bool{}
	for k, m := range s.byKind {
		for n := range m {
			all[Ref{k, n}] = true
		}
	}
	return validate(s, all, nil, nil)
}

// validate judges the resources in these, alone and with all others. Of two
// that clash the one in fresh is at fault. A reference to something deleted is
// left to the caller.
func validate(s *Set, these, fresh, deleted map[Ref]bool) Errors {
	c := &check{s: s, fresh: fresh, deleted: deleted}
	for r := range these {
		if e := s.byKind[r.Kind][r.Name]; e != nil {
			c.resource(e)
		}
	}
	c.claims(these)
	c.networks(these)
	c.records(these)
	c.errs.Sort()
	return c.errs
}

// check gathers what is wrong.
type check struct {
	s              *Set
	fresh, deleted map[Ref]bool
	errs           Errors
	o              Object // what is being judged
}

// seniority orders resources that clash: what was there before comes first,
// then what is listed first.
func (c *check) seniority(a, b Object) int {
	if x, y := c.fresh[RefOf(a)], c.fresh[RefOf(b)]; x != y {
		if y {
			return -1
		}
		return 1
	}
	return compareObjects(a, b)
}

// fail adds an error about a field of what is being judged.
func (c *check) fail(field, format string, args ...any) {
	c.failAt(c.o, field, format, args...)
}

func (c *check) failAt(o Object, field, format string, args ...any) {
	c.errs = append(c.errs, &Error{
		Kind: Invalid, Ref: RefOf(o), Field: field,
		Position: o.Base().Locate(field), Msg: fmt.Sprintf(format, args...),
	})
}

// try adds err, if there is one.
func (c *check) try(field string, err error) bool {
	if err != nil {
		c.fail(field, "%s", err)
	}
	return err == nil
}

// required fails if v is empty.
func (c *check) required(field, v, what string) bool {
	if v == "" {
		c.fail(field, "is missing; %s", what)
	}
	return v != ""
}

// oneOf fails unless v is one of options.
func (c *check) oneOf(field, v string, options ...string) {
	if slices.Contains(options, v) {
		return
	}
	if v == "" {
		c.fail(field, "is missing; write %s", strings.Join(options, ", "))
		return
	}
	c.fail(field, "unknown value %q%s", v, hint(v, options))
}

// open reports whether v holds a placeholder without value: what it will be is
// not known yet, so it is not judged.
func open(v string) bool { return strings.Contains(v, "${") && len(placeholders(v)) > 0 }

// resource judges one resource by itself and by what it refers to.
func (c *check) resource(e *entry) {
	c.o = e.Object
	h := c.o.Base()
	c.try("metadata.name", checkName(c.o.Kind(), h.Metadata.Name))
	c.labels(h.Metadata.Labels)
	if h.Status.ID != "" {
		c.try("status.id", checkID(c.o.Kind(), h.Status.ID))
	}
	expand := false
	for _, r := range e.references() {
		expand = expand || r.Attribute != ""
		c.reference(r)
	}
	o := c.o
	if expand {
		o, _ = Expand(o, c.s)
	}
	switch o := o.(type) {
	case *Network:
		c.network(o)
	case *Subnet:
		c.subnet(o)
	case *SecurityGroup:
		c.securityGroup(o)
	case *Host:
		c.host(o)
	case *Link:
		c.link(o)
	case *Peering:
		c.peering(o)
	case *Zone:
		c.zone(o)
	case *Gateway:
		c.gateway(o)
	case *Endpoint:
		c.endpoint(o)
	case *SecurityGroupAuthorization:
		c.authorization(o)
	case *API:
		c.api(&o.Spec, "spec")
	case *Deployment:
		c.deployment(o)
	case *Stage:
		c.stage(o)
	case *Domain:
		c.domain(o)
	case *Backend:
		c.backend(o)
	case *SelfHostedGateway:
		c.selfHosted(o)
	case *Product:
		c.product(o)
	case *Subscription:
		c.subscription(o)
	}
}

func (c *check) labels(labels map[string]string) {
	for k, v := range labels {
		if k == "" || len(k) > 253 || len(v) > 253 {
			c.fail("metadata.labels", "the label %q needs 1 to 253 characters in its key and at most 253 in its value", k)
		}
	}
}

// reference fails if what r names has to be there and is not.
func (c *check) reference(r Reference) {
	if r.Attribute != "" && !slices.Contains(attributeKinds[r.Attribute], r.Ref.Kind) {
		c.fail(r.Field, "${%s.%s}: a %s has no %s; %s have one", r.Ref, r.Attribute, r.Ref.Kind, r.Attribute, join(attributeKinds[r.Attribute]))
		return
	}
	if r.Weak || c.deleted[r.Ref] || c.s.Has(r.Ref) {
		return
	}
	if r.Attribute != "" {
		c.fail(r.Field, "${%s.%s}: there is no %s %q%s", r.Ref, r.Attribute, r.Ref.Kind, r.Ref.Name, c.near(r.Ref))
		return
	}
	if api := (Ref{KindAPI, APIName(r.Ref.Name)}); r.Ref.Kind == KindStage && !c.deleted[api] && !c.s.Has(api) {
		return // whoever names a Stage names its API too, which is told of
	}
	c.fail(r.Field, "there is no %s %q%s", r.Ref.Kind, r.Ref.Name, c.near(r.Ref))
}

// near hints at what was meant by a reference to nothing.
func (c *check) near(r Ref) string {
	names := c.s.Names(r.Kind)
	if r.Kind == KindStage {
		names = slices.DeleteFunc(names, func(n string) bool { return APIName(n) != APIName(r.Name) })
	}
	if h := hint(r.Name, names); h != "" {
		return h
	}
	if len(names) == 0 {
		return "; create it in the same apply or before"
	}
	return ""
}

func join(kinds []Kind) string {
	s := make([]string, len(kinds))
	for i, k := range kinds {
		s[i] = string(k)
	}
	return strings.Join(s, ", ")
}

// unique fails for each value of a list that stood in it before.
func (c *check) unique(field string, values []string) {
	seen := map[string]int{}
	for i, v := range values {
		if first, ok := seen[v]; ok {
			c.fail(fmt.Sprintf("%s[%d]", field, i), "%q stands in the list already, at [%d]; remove one", v, first)
			continue
		}
		seen[v] = i
	}
}

// sortedNames returns the names of the resources of kind k among these.
func sortedNames(these map[Ref]bool, k Kind) []string {
	var out []string
	for r := range these {
		if r.Kind == k {
			out = append(out, r.Name)
		}
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}
