// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"postern.dev/postern/model/tree"
)

// Reference is one mention of another resource.
type Reference struct {
	Ref   Ref
	Field string
	// Attribute is id, host or address for a ${Kind/NAME.attribute} within a
	// string; empty if the field names the resource.
	Attribute string
	// Weak references may point to nothing: such a resource is not served.
	Weak bool
}

// Referrer is who mentions a resource, and where.
type Referrer struct {
	Ref   Ref
	Field string
}

// Referrers lists what in s refers to r, in listing order.
func Referrers(s *Set, r Ref) []Referrer {
	var out []Referrer
	for _, k := range Kinds {
		from := len(out)
		for _, e := range s.byKind[k] {
			for _, x := range e.references() {
				if x.Ref == r {
					out = append(out, Referrer{RefOf(e), x.Field})
				}
			}
		}
		slices.SortStableFunc(out[from:], func(a, b Referrer) int { return strings.Compare(a.Ref.Name, b.Ref.Name) })
	}
	return out
}

// The attributes of ${Kind/NAME.attribute}.
const (
	AttributeID      = "id"
	AttributeHost    = "host"
	AttributeAddress = "address"
)

// References lists what o refers to, in the order of its fields: the resources
// that fields name first, then those within strings.
func References(o Object) []Reference {
	var out []Reference
	add := func(k Kind, name, field string) {
		if name != "" {
			out = append(out, Reference{Ref: Ref{k, name}, Field: field})
		}
	}
	list := func(k Kind, names []string, field string) {
		for i, n := range names {
			add(k, n, fmt.Sprintf("%s[%d]", field, i))
		}
	}
	weak := false
	switch o := o.(type) {
	case *Subnet:
		add(KindNetwork, o.Spec.Network, "spec.network")
		add(KindSecurityGroup, o.Spec.SecurityGroup, "spec.securityGroup")
		add(KindGateway, o.Spec.DelegatedTo, "spec.delegatedTo")
	case *SecurityGroup:
		add(KindNetwork, o.Spec.Network, "spec.network")
		for i, r := range o.Spec.Rules {
			for j, p := range append(slices.Clone(r.From), r.To...) {
				name, ok := strings.CutPrefix(p, "group:")
				if !ok {
					continue
				}
				field := fmt.Sprintf("spec.rules[%d].from[%d]", i, j)
				if j >= len(r.From) {
					field = fmt.Sprintf("spec.rules[%d].to[%d]", i, j-len(r.From))
				}
				if gw, managed := strings.CutSuffix(name, ManagedSuffix); managed {
					add(KindGateway, gw, field)
				} else {
					add(KindSecurityGroup, name, field)
				}
			}
		}
	case *Host:
		add(KindSubnet, o.Spec.Subnet, "spec.subnet")
		list(KindSecurityGroup, o.Spec.SecurityGroups, "spec.securityGroups")
	case *Link:
		add(KindNetwork, o.Spec.Network, "spec.network")
	case *Peering:
		list(KindNetwork, o.Spec.Networks, "spec.networks")
	case *Zone:
		list(KindNetwork, o.Spec.Networks, "spec.networks")
	case *Gateway:
		add(KindSubnet, o.Spec.Subnet, "spec.subnet")
		if o.Spec.Outbound != nil {
			add(KindSubnet, o.Spec.Outbound.Subnet, "spec.outbound.subnet")
		}
		list(KindSecurityGroup, o.Spec.SecurityGroups, "spec.securityGroups")
	case *Endpoint:
		add(KindGateway, o.Spec.Gateway, "spec.gateway")
		list(KindSubnet, o.Spec.Subnets, "spec.subnets")
		list(KindSecurityGroup, o.Spec.SecurityGroups, "spec.securityGroups")
	case *SecurityGroupAuthorization:
		add(KindGateway, o.Spec.Gateway, "spec.gateway")
		add(KindSecurityGroup, o.Spec.SecurityGroup, "spec.securityGroup")
	case *Backend:
		add(KindNetwork, o.Spec.Network, "spec.network")
	case *API:
		add(KindGateway, o.Spec.Gateway, "spec.gateway")
		list(KindEndpoint, o.Spec.Endpoints, "spec.endpoints")
		add(KindBackend, o.Spec.Backend, "spec.backend")
		// A Stage needs its API first, so the API may name one to come.
		if o.Spec.Stage != "" {
			out = append(out, Reference{Ref: Ref{KindStage, o.Metadata.Name + "." + o.Spec.Stage}, Field: "spec.stage", Weak: true})
		}
	case *Deployment:
		// What an old copy speaks of may be gone since.
		weak = true
		add(KindAPI, o.Spec.API, "spec.api")
	case *Stage:
		if strings.Contains(o.Metadata.Name, ".") {
			add(KindAPI, APIName(o.Metadata.Name), "metadata.name")
		}
		if n, ok := o.Spec.Deployment.Number(); ok {
			out = append(out, Reference{Ref: Ref{KindDeployment, fmt.Sprintf("%s.%d", APIName(o.Metadata.Name), n)}, Field: "spec.deployment", Weak: true})
		}
	case *Domain:
		for i, m := range o.Spec.Mappings {
			field := fmt.Sprintf("spec.mappings[%d]", i)
			add(KindAPI, m.API, field+".api")
			if m.Stage != "" && m.API != "" {
				add(KindStage, m.API+"."+m.Stage, field+".stage")
			}
		}
		list(KindEndpoint, o.Spec.Endpoints, "spec.endpoints")
	case *SelfHostedGateway:
		add(KindGateway, o.Spec.Gateway, "spec.gateway")
		if at, ok := o.Attached(); ok {
			add(at.Kind, at.Name, "spec.attach")
		}
		list(KindAPI, o.Spec.APIs, "spec.apis")
	case *Product:
		list(KindAPI, o.Spec.APIs, "spec.apis")
	case *Subscription:
		add(KindProduct, o.Spec.Product, "spec.product")
	}
	texts(reflect.ValueOf(specOf(o)).Elem(), "spec", func(field string, v reflect.Value) {
		var found []placeholder
		if v.Kind() == reflect.String {
			found = placeholders(v.String())
		} else if bytes.Contains(v.Bytes(), []byte("${")) {
			found = placeholders(string(v.Bytes()))
		}
		for _, p := range found {
			out = append(out, Reference{Ref: p.ref, Field: field, Attribute: p.attribute, Weak: weak})
		}
	})
	return out
}

// secretType is not searched: what is secret is taken literally.
var (
	secretType = reflect.TypeFor[Secret]()
	jsonType   = reflect.TypeFor[json.RawMessage]()
)

// texts calls f with each string and raw JSON within v, and its path.
func texts(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.String:
		f(path, v)
	case reflect.Pointer:
		if !v.IsNil() {
			texts(v.Elem(), path, f)
		}
	case reflect.Struct:
		if v.Type() == secretType {
			return
		}
		for i, name := range fieldNames(v.Type()) {
			switch v.Field(i).Kind() {
			case reflect.Bool, reflect.Int, reflect.Float64:
			default:
				texts(v.Field(i), path+"."+name, f)
			}
		}
	case reflect.Slice:
		if v.Type() == jsonType {
			f(path, v)
			return
		}
		for i := range v.Len() {
			texts(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Map:
		for _, k := range sortedKeys(v) {
			x := reflect.New(v.Type().Elem()).Elem()
			x.Set(v.MapIndex(k))
			texts(x, path+"."+k.String(), f)
			if v.CanSet() {
				v.SetMapIndex(k, x)
			}
		}
	}
}

func fieldNames(t reflect.Type) []string { return tree.Names(t) }
