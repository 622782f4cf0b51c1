// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

type policyType = snapshot.Policy

const (
	region  = "eu-west-1"
	account = "000000000000"
	api     = "a1b2c3d4e5"
	ours    = "111111111111"
)

// generator draws from small pools, so that what a policy says and what a request
// has often meet.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, 0x706f737465726e))}
}

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }
func (g *generator) one(in int) bool            { return g.IntN(in) == 0 }

// list writes one to three values, a lone one sometimes without brackets.
func (g *generator) list(f func() string) any {
	n := 1 + g.IntN(3)
	if n == 1 && g.one(2) {
		return f()
	}
	out := make([]string, n)
	for i := range out {
		out[i] = f()
	}
	return out
}

// The condition keys by the kind of value they have.
var (
	textKeys = []string{"aws:SourceVpce", "aws:sourceVpc", "aws:Referer", "AWS:UserAgent", "aws:PrincipalTag/team", "aws:username", "aws:PrincipalOrgID"}
	addrKeys = []string{"aws:SourceIp", "aws:VpcSourceIp"}
	dateKeys = []string{"aws:CurrentTime", "aws:CurrentTime", "aws:CurrentTime", "aws:EpochTime", "aws:TokenIssueTime"}
	numKeys  = []string{"aws:EpochTime", "aws:MultiFactorAuthAge"}
	boolKeys = []string{"aws:SecureTransport", "aws:MultiFactorAuthPresent"}
	arnKeys  = []string{"aws:SourceArn", "aws:PrincipalArn"}
	manyKeys = []string{"aws:PrincipalOrgPaths", "aws:CalledVia"}
)

func (g *generator) word() string {
	return g.pick("a", "b", "ab", "abc", "a.b", "A", "vpce-1", "x*y", "(")
}

func (g *generator) address() string {
	return g.pick("10.0.0.5", "10.0.1.5", "192.168.7.9", "203.0.113.9", "2001:db8::1", "2001:db8:1::2")
}

func (g *generator) instant() time.Time {
	return time.Unix(1_700_000_000+int64(g.IntN(4))*86_400, 0).UTC()
}

func (g *generator) arn() string {
	return g.pick("arn:aws:iam::111111111111:user/bob", "arn:aws:sns:eu-west-1:111111111111:topic", "arn:aws:sns:eu-west-1:111111111111:topic:a",
		"arn:aws:sns:us-east-1:222222222222:topic", "arn:aws:iam::111111111111:role/r")
}

// variable writes a policy variable, or a literal.
func (g *generator) variable() string {
	return g.pick("${aws:Referer}", "${aws:username}", "${aws:SourceVpce}", "${aws:PrincipalTag/team}", "${aws:Referer, 'a'}", "${aws:PrincipalTag/none, 'b'}")
}

func (g *generator) pattern() string {
	return g.pick("*", "a*", "*b", "a?", "?", "?*?", "*b*", "a*c", "vpce-*", "a.*", "(*", "**", "a${*}b", "x${*}y", "${?}", "*${$}*")
}

func (g *generator) value(family snapshot.Family, test snapshot.Test) string {
	switch family {
	case snapshot.FamilyNumeric:
		return g.pick("0", "5", "5.0", "4.99", "3600", "-1", "1700000000", "1700086400")
	case snapshot.FamilyDate:
		t := g.instant()
		if g.one(8) {
			return strconv.FormatInt(t.Unix(), 10)
		}
		return g.pick(t.Format(time.RFC3339), t.Format("2006-01-02"), t.Format("2006-01"),
			t.Add(time.Hour).In(time.FixedZone("", 3600)).Format(time.RFC3339), t.Format("2006-01-02T15:04Z07:00"))
	case snapshot.FamilyBool, snapshot.FamilyNull:
		return g.pick("true", "false")
	case snapshot.FamilyBinary:
		return g.pick("cG9zdGVybg==", "YQ==")
	case snapshot.FamilyIP:
		return g.pick("10.0.0.0/8", "10.0.0.0/24", "10.0.0.5", g.pick("0.0.0.0/0", "10.0.0.4/31", "203.0.0.0/8"), "203.0.113.77/24", "2001:db8::/32", "2001:db8::1", "::/0")
	case snapshot.FamilyARN:
		return g.pick("arn:aws:sns:*:*:*", "arn:aws:sns:eu-west-?:111111111111:topic", "arn:aws:sns:*:*:topic", "arn:aws:iam::*:user/*",
			"arn:*:iam::111111111111:role/r", "arn:aws:iam::111111111111:user/${aws:username}", "arn:aws:sns:*:*:t*:?", g.arn())
	}
	switch {
	case g.one(8):
		return g.variable()
	case g.one(12):
		return g.pick("a", "x", "") + g.variable() + g.pick("", "b", "*")
	case test == snapshot.TestLike && g.one(2):
		return g.pattern()
	case g.one(6):
		return g.pick(g.address(), g.instant().Format(time.RFC3339), "true", g.arn(), "1700000000", g.pattern())
	}
	return g.word()
}

// keyFor draws a key that suits the family, or now and then one that does not.
func (g *generator) keyFor(family snapshot.Family, set snapshot.Set) string {
	if set != snapshot.SetNone && g.one(2) || g.one(60) {
		return g.pick(manyKeys...)
	}
	if !g.one(12) {
		switch family {
		case snapshot.FamilyNumeric:
			return g.pick(numKeys...)
		case snapshot.FamilyDate:
			return g.pick(dateKeys...)
		case snapshot.FamilyBool:
			return g.pick(boolKeys...)
		case snapshot.FamilyIP:
			return g.pick(addrKeys...)
		case snapshot.FamilyARN:
			return g.pick(arnKeys...)
		case snapshot.FamilyString:
			return g.pick(textKeys...)
		}
	}
	all := [][]string{textKeys, addrKeys, dateKeys, numKeys, boolKeys, arnKeys}
	return g.pick(all[g.IntN(len(all))]...)
}

func (g *generator) condition() map[string]any {
	operators := snapshot.Operators()
	out := map[string]any{}
	for range g.IntN(3) {
		o := operators[g.IntN(len(operators))]
		name := o.Name
		set := snapshot.SetNone
		if o.Family != snapshot.FamilyNull {
			if g.one(5) {
				name += "IfExists"
			}
			if g.one(5) {
				set = snapshot.SetForAll
				name = "ForAllValues:" + name
			} else if g.one(5) {
				set = snapshot.SetForAny
				name = "ForAnyValue:" + name
			}
		}
		keys := map[string]any{}
		folded := map[string]bool{}
		for range 1 + g.IntN(4)/3 {
			k := g.keyFor(o.Family, set)
			if fold := strings.ToLower(k); !folded[fold] {
				folded[fold] = true
				keys[k] = g.list(func() string { return g.value(o.Family, o.Test) })
			}
		}
		out[name] = keys
	}
	return out
}

func (g *generator) principal() any {
	switch g.IntN(4) {
	case 0:
		return map[string]any{"AWS": g.list(func() string {
			return g.pick(ours, "arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:user/bob", "arn:aws:iam::111111111111:role/r",
				"arn:aws:sts::111111111111:assumed-role/r/s", "222222222222")
		})}
	case 1:
		if g.one(3) {
			return map[string]any{"Service": "sns.amazonaws.com", "AWS": ours}
		}
		return map[string]any{"AWS": "*"}
	}
	return "*"
}

// resource writes a resource, always as a short form or a full ARN.
func (g *generator) resource() string {
	full := "arn:aws:execute-api:" + region + ":" + account + ":" + api
	switch g.IntN(8) {
	case 0:
		return "*"
	case 1:
		return g.pick("arn:aws:execute-api:*:*:*", full+"/*", "arn:aws:execute-api:us-east-1:*:*", "arn:aws:execute-api:eu-*:00000000000?:"+api+"/*",
			"arn:aws:execute-api:*/pets:*:*", g.pick("arn:aws:execute-api:"+region+":"+account+":*/GET/*", full+"/*/GET/*", full+"/*"), full+"/${aws:PrincipalTag/team, 'test'}/*")
	}
	return "execute-api:/" + g.pick("*", "*/*/*", "test/*", "test/GET/*", "*/GET/*", "*/*/pets", "test/GET/pets", "te?t/*/p?ts", "*/pets/*",
		"prod/*", "test/GET/${aws:username}", "*/GET/*${*}*", "*/*/${aws:Referer, 'pets'}")
}

func (g *generator) statement() map[string]any {
	s := map[string]any{"Effect": g.pick("Allow", "Allow", "Deny")}
	if g.one(15) {
		s["NotPrincipal"] = map[string]any{"AWS": g.list(func() string {
			return g.pick(ours, "arn:aws:iam::111111111111:user/bob", "arn:aws:iam::111111111111:role/r", "222222222222")
		})}
	} else {
		s["Principal"] = g.principal()
	}
	if g.one(10) {
		s["NotAction"] = g.pick("execute-api:ManageConnections", "execute-api:Inv*", "execute-api:InvalidateCache")
	} else {
		s["Action"] = g.pick("*", "execute-api:Invoke", "EXECUTE-API:invoke", "execute-api:*", "execute-api:In?oke", "execute-api:ManageConnections")
	}
	if g.one(8) {
		s["NotResource"] = g.list(g.resource)
	} else {
		s["Resource"] = g.list(g.resource)
	}
	if c := g.condition(); len(c) > 0 || g.one(5) {
		s["Condition"] = c
	}
	return s
}

// expand writes the short forms in full, for the simulator.
func expand(v any) any {
	full := func(s string) string {
		if rest, ok := strings.CutPrefix(s, "execute-api:/"); ok {
			return "arn:aws:execute-api:" + region + ":" + account + ":" + api + "/" + rest
		}
		return s
	}
	if list, ok := v.([]string); ok {
		out := make([]string, len(list))
		for i := range list {
			out[i] = full(list[i])
		}
		return out
	}
	return full(v.(string))
}

func (g *generator) pair() (pair, error) {
	version := "2012-10-17"
	if g.one(20) {
		version = "2008-10-17"
	}
	n := 1 + g.IntN(3)
	short, full := make([]map[string]any, n), make([]map[string]any, n)
	for i := range short {
		short[i] = g.statement()
		full[i] = map[string]any{}
		for k, v := range short[i] {
			if k == "Resource" || k == "NotResource" {
				v = expand(v)
			}
			full[i][k] = v
		}
	}
	write := func(statements []map[string]any) string {
		b, err := json.Marshal(map[string]any{"Version": version, "Statement": statements})
		if err != nil {
			panic(err) // maps of strings always marshal
		}
		return string(b)
	}
	c := pair{doc: write(short), full: write(full)}
	var err error
	if c.policy, err = compilePair(c.doc); err != nil {
		return c, fmt.Errorf("the generator writes what the compiler refuses: %s\n%w", c.doc, err)
	}
	g.request(&c)
	return c, nil
}

func (g *generator) request(c *pair) {
	r := &c.request
	r.Action = "execute-api:Invoke"
	r.Resource = iam.Resource{
		Region: region, Account: account, API: api,
		Stage: g.pick("test", "test", "prod"), Method: g.pick("GET", "GET", "POST"), Path: g.pick("/pets", "/pets", "/pets/1", "/bob", "/a/b", "/x:y"),
	}
	c.context = map[string]any{}
	set := func(key string, field *string, value string) {
		c.context[key] = value
		if field != nil {
			*field = value
			return
		}
		r.Context.Extra = append(r.Context.Extra, iam.Attribute{Key: key, Values: []string{value}})
	}
	g.caller(c, set)
	x := &r.Context
	if g.one(2) {
		set("aws:SourceVpce", &x.SourceVpce, g.word())
		set("aws:SourceVpc", &x.SourceVpc, g.word())
		a := g.address()
		c.context["aws:VpcSourceIp"], x.VpcSourceIP = a, netip.MustParseAddr(a)
	} else {
		a := g.address()
		c.context["aws:SourceIp"], x.SourceIP = a, netip.MustParseAddr(a)
	}
	if g.one(2) {
		set("aws:Referer", &x.Referer, g.word())
	}
	if g.one(2) {
		set("aws:UserAgent", &x.UserAgent, g.word())
	}
	if g.one(3) {
		set("aws:SourceArn", &x.SourceArn, g.arn())
	}
	if !g.one(8) {
		x.Time = g.instant()
		c.context["aws:CurrentTime"] = x.Time.Format("2006-01-02T15:04:05Z")
		c.context["aws:EpochTime"] = strconv.FormatInt(x.Time.Unix(), 10)
	}
	x.SecureTransport = g.one(2)
	c.context["aws:SecureTransport"] = strconv.FormatBool(x.SecureTransport)
}

func (g *generator) caller(c *pair, set func(key string, field *string, value string)) {
	p := &c.request.Principal
	switch g.IntN(8) {
	case 0:
		*p = iam.Principal{Kind: iam.Identity, Account: ours, ARN: "arn:aws:iam::111111111111:user/bob"}
		set("aws:username", &p.UserName, "bob")
	case 1:
		*p = iam.Principal{Kind: iam.Identity, Account: ours, ARN: "arn:aws:sts::111111111111:assumed-role/r/s", Role: "arn:aws:iam::111111111111:role/r"}
	case 2:
		*p = iam.Principal{Kind: iam.Service, Name: "sns.amazonaws.com"}
		return
	default:
		return
	}
	c.context["aws:PrincipalArn"] = p.ARN
	if p.Role != "" {
		c.context["aws:PrincipalArn"] = p.Role
	}
	c.context["aws:PrincipalAccount"] = p.Account
	if g.one(2) {
		set("aws:PrincipalTag/team", nil, g.word())
	}
	if g.one(2) {
		set("aws:PrincipalOrgID", nil, g.word())
	}
	if g.one(2) {
		set("aws:MultiFactorAuthAge", nil, g.pick("0", "5", "4.5", "3600"))
		set("aws:MultiFactorAuthPresent", nil, g.pick("true", "false"))
	}
	if g.one(2) {
		set("aws:TokenIssueTime", nil, g.instant().Format(time.RFC3339))
	}
	for _, key := range manyKeys {
		if g.one(2) {
			values := make([]string, g.IntN(4))
			for i := range values {
				values[i] = g.word()
			}
			c.context[key] = values
			c.request.Context.Extra = append(c.request.Context.Extra, iam.Attribute{Key: key, Values: values})
		}
	}
}
