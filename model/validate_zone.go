// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// recordTypes are those that a Zone may hold.
var recordTypes = []string{"A", "AAAA", "CNAME", "TXT", "SRV", "MX", "PTR", "NS"}

const maxTTL = 1<<31 - 1

func (c *check) zone(z *Zone) {
	if len(z.Spec.Networks) == 0 {
		c.fail("spec.networks", "is missing; name the Networks that see the Zone")
	}
	c.unique("spec.networks", z.Spec.Networks)
	if c.required("spec.domain", z.Spec.Domain, "write the Zone's domain, such as corp.example") {
		c.try("spec.domain", checkHostName(z.Spec.Domain, false, true))
	}
	type key struct{ name, typ string }
	seen, cname := map[key]int{}, map[string]int{}
	for i, r := range z.Spec.Records {
		at := fmt.Sprintf("spec.records[%d]", i)
		name := recordName(r.Name)
		c.record(r, name, at)
		k := key{name, r.Type}
		if j, ok := seen[k]; ok {
			c.fail(at, "records of type %s for %q stand at [%d] already; write all values there", r.Type, name, j)
			continue
		}
		seen[k] = i
		if r.Type == "CNAME" {
			cname[name] = i
		}
	}
	for i, r := range z.Spec.Records {
		if j, ok := cname[recordName(r.Name)]; ok && r.Type != "CNAME" {
			c.fail(fmt.Sprintf("spec.records[%d]", i), "%q has a CNAME at [%d], beside which nothing else may stand; remove one", recordName(r.Name), j)
		}
	}
}

// recordName brings a Record's name into one form: lower case, empty for the
// zone's own domain.
func recordName(s string) string {
	if s == "@" {
		return ""
	}
	return strings.ToLower(s)
}

func (c *check) record(r Record, name, at string) {
	if name != "" && name != "*" {
		c.try(at+".name", checkHostName(name, true, true))
	}
	c.oneOf(at+".type", r.Type, recordTypes...)
	if r.TTL < 0 || r.TTL > maxTTL {
		c.fail(at+".ttl", "%d is out of range; write seconds, 1 to %d", r.TTL, maxTTL)
	}
	if len(r.Values) == 0 {
		c.fail(at+".values", "is missing; write at least one value")
	}
	if r.Type == "CNAME" {
		if name == "" {
			c.fail(at, "the Zone's own domain cannot be a CNAME; use A or AAAA records")
		}
		if len(r.Values) > 1 {
			c.fail(at+".values", "a CNAME has one value, got %d", len(r.Values))
		}
	}
	for i, v := range r.Values {
		if !open(v) {
			c.try(fmt.Sprintf("%s.values[%d]", at, i), checkRecordValue(r.Type, v))
		}
	}
	c.unique(at+".values", r.Values)
}

// checkRecordValue says what is wrong with a value of a record of type typ.
func checkRecordValue(typ, v string) error {
	target := func(s string) error { return checkHostName(strings.ToLower(strings.TrimSuffix(s, ".")), false, true) }
	numbers := func(fields []string) bool {
		return !slices.ContainsFunc(fields, func(s string) bool {
			_, err := strconv.ParseUint(s, 10, 16)
			return err != nil
		})
	}
	switch typ {
	case "A", "AAAA":
		a, err := netip.ParseAddr(v)
		if err != nil || a.Is4() != (typ == "A") || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("%q is no address for a record of type %s", v, typ)
		}
	case "CNAME", "NS", "PTR":
		return target(v)
	case "MX":
		f := strings.Fields(v)
		if len(f) != 2 || !numbers(f[:1]) || target(f[1]) != nil {
			return fmt.Errorf(`%q is no MX value; write "10 mail.example.com"`, v)
		}
	case "SRV":
		f := strings.Fields(v)
		if len(f) != 4 || !numbers(f[:3]) || target(f[3]) != nil {
			return fmt.Errorf(`%q is no SRV value; write priority, weight, port and target: "10 5 443 app.example.com"`, v)
		}
	case "TXT":
		if len(v) > 65000 {
			return fmt.Errorf("is longer than a TXT record can be")
		}
	}
	return nil
}

// records fails for each CNAME that leads back to itself within what one
// Network sees.
func (c *check) records(these map[Ref]bool) {
	networks := map[string]bool{}
	for _, n := range sortedNames(these, KindZone) {
		if z, ok := Get[*Zone](c.s, n); ok {
			for _, n := range z.Spec.Networks {
				networks[n] = true
			}
		}
	}
	if len(networks) == 0 {
		return
	}
	type place struct {
		zone   *Zone
		at     int
		target string
	}
	reported := map[string]bool{}
	zones := All[*Zone](c.s)
	for _, n := range slices.Sorted(maps.Keys(networks)) {
		cnames := map[string]place{}
		for _, z := range zones {
			if !slices.Contains(z.Spec.Networks, n) {
				continue
			}
			for i, r := range z.Spec.Records {
				if r.Type == "CNAME" && len(r.Values) == 1 {
					t, err := ExpandString(r.Values[0], c.s)
					if err != nil {
						continue
					}
					cnames[fullName(r.Name, z.Spec.Domain)] = place{z, i, strings.ToLower(strings.TrimSuffix(t, "."))}
				}
			}
		}
		done := map[string]bool{}
		for _, start := range slices.Sorted(maps.Keys(cnames)) {
			var chain []string
			for name := start; ; {
				p, ok := cnames[name]
				if i := slices.Index(chain, name); i >= 0 {
					loop := append(chain[i:], name)
					first := cnames[slices.Min(loop)]
					if text := strings.Join(loop, " -> "); !reported[text] {
						reported[text] = true
						c.failAt(first.zone, fmt.Sprintf("spec.records[%d]", first.at), "the CNAME leads back to itself: %s; break the circle", text)
					}
					break
				}
				if !ok || done[name] {
					break
				}
				chain = append(chain, name)
				name = p.target
			}
			for _, name := range chain {
				done[name] = true
			}
		}
	}
}

// fullName joins a Record's name and its zone's domain.
func fullName(name, domain string) string {
	if n := recordName(name); n != "" {
		return n + "." + strings.ToLower(domain)
	}
	return strings.ToLower(domain)
}
