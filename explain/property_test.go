// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// draw makes a small world of what explain crosses, much of it at odds.
func draw(t *rapid.T) []model.Object {
	var b strings.Builder
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	add := func(kind, name, spec string) {
		fmt.Fprintf(&b, "---\napiVersion: postern/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	}
	add("Network", "a", "{cidrs: ["+pick("cidr", "10.1.0.0/16", "10.1.0.0/16, 'fd01::/48'")+"], internetGateway: "+pick("igw", "true", "false")+"}")
	add("Network", "b", "{cidrs: [10.2.0.0/16], internetGateway: true}")
	add("Subnet", "a", "{network: a, cidr: 10.1.1.0/24, internetRoute: "+pick("route", "true", "false")+pick("nsg", "", ", securityGroup: nsg")+"}")
	add("Subnet", "b", "{network: b, cidr: 10.2.1.0/24, internetRoute: true}")
	rule := func(name string) string {
		return "{direction: " + pick(name+"dir", "inbound, from: ["+pick(name+"from", "10.1.1.0/24", "192.168.0.0/16", "tag:VirtualNetwork", "tag:Internet")+"]", "outbound") +
			", action: " + pick(name+"act", "allow", "allow", "deny") + ", protocol: " + pick(name+"proto", "tcp", "any") +
			pick(name+"ports", "", `, ports: ["443"]`, `, ports: ["80-500"]`) + pick(name+"prio", "", ", priority: 1", ", priority: 300") + "}"
	}
	group := func(name, net string) {
		rules := make([]string, rapid.IntRange(0, 3).Draw(t, name))
		for i := range rules {
			rules[i] = rule(fmt.Sprint(name, i))
		}
		add("SecurityGroup", name, "{network: "+net+", defaults: "+pick(name+"def", "strict", "azure", "basic", "enterprise")+", rules: ["+strings.Join(rules, ", ")+"]}")
	}
	group("nsg", "a")
	group("end", "a")
	group("host", "a")
	add("Host", "a", "{subnet: a, address: 10.1.1.10"+pick("hg", "", ", securityGroups: [host]")+"}")
	add("Host", "b", "{subnet: b, address: 10.2.1.10}")
	add("Link", "site", "{network: a, type: vpn, cidrs: ["+pick("link", "192.168.1.0/24", "10.2.1.0/24")+"]}")
	if rapid.Bool().Draw(t, "peering") {
		add("Peering", "ab", "{networks: [a, b]}")
	}
	add("Subnet", "c", "{network: a, cidr: 10.1.2.0/24"+pick("cnsg", "", ", securityGroup: nsg")+"}")
	add("Subnet", "d", "{network: a, cidr: 10.1.3.0/24, delegatedTo: main}")
	mode := pick("mode", "", "", ", networkMode: external, subnet: c, privateAddress: 10.1.2.20", ", networkMode: internal, subnet: c, privateAddress: 10.1.2.20", ", outbound: {subnet: d}")
	add("Gateway", "main", "{region: eu-1, http: "+pick("http", "off", "redirect", "serve")+", endpointApproval: "+pick("approval", "auto", "auto", "manual")+mode+"}")
	add("Host", "c", "{subnet: a, address: 10.1.1.11"+pick("cg", "", ", securityGroups: [host]", ", securityGroups: [host, end]")+"}")
	if mode != "" && rapid.Bool().Draw(t, "authorized") {
		add("SecurityGroupAuthorization", "z", "{gateway: main, securityGroup: "+pick("zg", "host", "end")+", ports: ["+pick("zp", "8080/8080", "80/9000")+"]}")
	}
	target := func(name string) string {
		return "{host: " + pick(name, "10.1.1.11", "10.1.1.11", "10.2.1.10", "192.168.1.7", "10.1.99.9", "main.postern.internal", "c.svc.example", "none.svc.example", "8.8.8.8", "10.77.0.1") +
			", port: " + pick(name+"port", "8080", "8080", "8081", "443") + "}"
	}
	targets := target("t0")
	if rapid.Bool().Draw(t, "two") {
		targets += ", " + target("t1")
	}
	add("Backend", "svc", "{targets: ["+targets+"]"+pick("bnet", ", network: a", ", network: a", ", network: b", "")+"}")
	add("Zone", "svc", "{networks: [a], domain: svc.example, records: [{name: c, type: A, values: [10.1.1.11]}]}")
	add("API", "back", "{gateway: main, type: regional, path: back, backend: svc, openapi: {openapi: 3.0.1, info: {title: t, version: '1'}, paths: {/pets: {get: {responses: {'200': {description: ok}}}}}}}")
	add("Stage", "back.dev", "{deployment: latest}")
	statement := func(name string) string {
		return `{Effect: ` + pick(name+"eff", "Allow", "Allow", "Deny") + `, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/` + pick(name+"res", "*", "*", "dev/GET/pets", "other/*") + `"` +
			pick(name+"cond", "", "", `, Condition: {StringNotEquals: {"aws:SourceVpce": vpce-0123456789abcdef0}}`, `, Condition: {StringEquals: {"aws:SourceVpce": "${Endpoint/e.id}"}}`, `, Condition: {NotIpAddress: {"aws:SourceIp": 10.1.0.0/16}}`) + "}"
	}
	policy := func(name string) string {
		return `{Version: "2012-10-17", Statement: [` + statement(name+"0") + ", " + statement(name+"1") + "]}"
	}
	add("Endpoint", "e", "{gateway: main, subnets: [a], privateDNS: "+pick("pdns", "true", "false")+pick("eg", "", ", securityGroups: [end]")+pick("ep", "", ", policy: "+policy("ep"))+"}")
	add("API", "inner", "{gateway: main, type: private, openapi: 'example:petstore'"+pick("ip", ", policy: "+policy("ip"), "")+pick("list", "", ", endpoints: [e]")+"}")
	add("Stage", "inner.dev", pick("is", "{deployment: latest}", "{}"))
	add("API", "front", "{gateway: main, type: regional, openapi: 'example:petstore', path: front"+pick("fp", "", ", policy: "+policy("fp"))+pick("off", "", ", disableExecuteApiEndpoint: true")+"}")
	add("Stage", "front.dev", "{deployment: latest}")
	if rapid.Bool().Draw(t, "domain") {
		add("Domain", "front.example", "{type: edge, mappings: [{path: '', api: front, stage: dev}]}")
		add("Domain", "inner.example", "{type: private, mappings: [{path: v1, api: inner, stage: dev}], endpoints: [e]"+pick("dp", "", ", policy: "+policy("dp"))+"}")
	}
	switch pick("zone", "", "cname", "hide") {
	case "cname":
		add("Zone", "z", "{networks: [a], domain: z.example, records: [{name: www, type: CNAME, values: ['${API/front.host}']}]}")
	case "hide":
		add("Zone", "z", "{networks: [a], domain: postern.internal}")
	}
	objects, err := manifest.Decode("drawn.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err, b.String())
	}
	return objects
}

func drawQuestion(t *rapid.T, w *explain.World) answer.Question {
	q := answer.Question{
		From:   rapid.SampledFrom([]string{"host/a", "host/b", "link/site", "link/site/172.16.0.1", "internet", "internet/198.51.100.7", "internet/198.18.0.1", "gateway/main"}).Draw(t, "from"),
		Method: rapid.SampledFrom([]string{"", "GET", "DELETE", "OPTIONS"}).Draw(t, "method"),
		URL: rapid.SampledFrom([]string{"https://", "https://", "https://", "http://"}).Draw(t, "scheme") +
			rapid.SampledFrom([]string{
				"${Endpoint/e.host}", "${Endpoint/e.host}", "${API/inner.host}", "${API/front.host}", "${Gateway/main.host}", "${Gateway/main.address}",
				"front.example", "inner.example", "www.z.example", "nobody.test", "10.1.1.4", "10.2.1.10", "[fd01::1]", "8.8.8.8",
				"${API/back.host}", "${API/back.host}", "${API/back.host}", "main.management.postern.internal:3443", "main.management.postern.internal",
				"main.configuration.postern.internal", "main.portal.postern.internal", "${Gateway/main.host}:3443", "10.1.2.20",
				"${API/front.host}:80", "${API/front.host}:443", "${Endpoint/e.host}:8443",
			}).Draw(t, "host") +
			rapid.SampledFrom([]string{"/dev/pets", "/dev/pets", "/dev/pets/7", "/pets", "/front/pets", "/v1/pets", "/back/pets", "/ServiceStatus", "/status-0123456789abcdef", "/", "", "/other/pets", "/dev/none", "/dev/../dev/%70ets"}).Draw(t, "path"),
		Insecure: rapid.Bool().Draw(t, "insecure"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "header") {
	case 0:
		q.Headers = []answer.Header{{Name: "X-Apigw-Api-Id", Value: "${API/inner.id}"}}
	case 1:
		q.Headers = []answer.Header{{Name: "x-apigw-api-id", Value: "${API/front.id}"}}
	}
	return q
}

func compiled(t *rapid.T, objects []model.Object) *explain.World {
	w, err := explain.Manifests(objects, "", now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestAnswersAreWhole is for any world and question: the first stop decides,
// there are blockers if and only if it is denied, and the engines, which stop at
// the first stop, decide the same.
func TestAnswersAreWhole(t *testing.T) {
	verdicts := map[string]int{}
	rapid.Check(t, func(r *rapid.T) {
		w := compiled(r, draw(r))
		q := drawQuestion(r, w)
		a, err := explain.Explain(context.Background(), w, q)
		if err != nil {
			r.Fatal(err)
		}
		before := t.Failed()
		judgeShape(t, a)
		if t.Failed() && !before {
			r.Fatalf("%+v", a)
		}
		verdicts[string(a.Verdict)]++
		code, allowed, asked := explain.Engines(w, q)
		if !asked {
			return
		}
		if allowed != (a.Verdict == answer.Allow) {
			r.Fatalf("the engines say %s %v, explain %s %s", code, allowed, a.Verdict, a.Code)
		}
		if !allowed && code != a.Code {
			r.Fatalf("the engines stop with %s, explain with %s", code, a.Code)
		}
	})
	if verdicts["allow"] == 0 || verdicts["deny"] == 0 {
		t.Errorf("the questions are one-sided: %v", verdicts)
	}
}

// TestOrderOfManifestsDoesNotMatter shuffles what is asked about.
func TestOrderOfManifestsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		objects := draw(r)
		w := compiled(r, objects)
		q := drawQuestion(r, w)
		shuffled := slices.Clone(objects)
		rand.New(rand.NewSource(rapid.Int64().Draw(r, "seed"))).Shuffle(len(shuffled), func(i, j int) { //nolint:gosec // a test's order
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		var texts [2]string
		for i, x := range []*explain.World{w, compiled(r, shuffled)} {
			a, err := explain.Explain(context.Background(), x, q)
			if err != nil {
				r.Fatal(err)
			}
			body, err := json.Marshal(a)
			if err != nil {
				r.Fatal(err)
			}
			texts[i] = string(body)
		}
		if texts[0] != texts[1] {
			r.Fatalf("%s\n%s", texts[0], texts[1])
		}
	})
}

// TestReachAgreesWithExplain asks every pair of Reach one by one.
func TestReachAgreesWithExplain(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := compiled(r, draw(r))
		reach := explain.Reach(w)
		from, urls, ids := reach.Places()
		if len(from) == 0 || len(urls) == 0 {
			r.Fatal("nothing is asked")
		}
		for _, f := range from {
			for _, u := range urls {
				url, _, _ := strings.Cut(u, " ")
				q := answer.Question{From: f, URL: url}
				if id := ids[u]; id != "" {
					q.Headers = []answer.Header{{Name: "x-apigw-api-id", Value: id}}
				}
				code, allowed, asked := explain.Engines(w, q)
				if strings.HasPrefix(url, "tcp:") {
					a, err := explain.Explain(context.Background(), w, q)
					if err != nil {
						r.Fatal(err)
					}
					code, allowed, asked = a.Code, a.Verdict == answer.Allow, true
				}
				if !asked && reach.Allowed(f, u) {
					// Of several targets one is reached, or another resolver knows where
					// the backend is.
					a, err := explain.Explain(t.Context(), w, q)
					if err != nil {
						r.Fatal(err)
					}
					if a.Verdict != answer.Deny {
						continue
					}
				}
				if got := reach.Allowed(f, u); asked && got != allowed || !asked && got {
					r.Fatalf("%s to %s: %v, but asked alone %v %s", f, u, got, allowed, code)
				}
			}
		}
	})
}

// TestDifferenceIsWhatChanged compares two drawn worlds with each other.
func TestDifferenceIsWhatChanged(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		before, after := explain.Reach(compiled(r, draw(r))), explain.Reach(compiled(r, draw(r)))
		gained, lost := explain.Difference(before, after)
		back, forth := explain.Difference(after, before)
		if !slices.Equal(gained, forth) || !slices.Equal(lost, back) {
			r.Fatal("the other way round it is not the reverse")
		}
		order := func(a, b answer.Opening) int {
			return strings.Compare(a.From+"\x00"+a.To, b.From+"\x00"+b.To)
		}
		for _, list := range [][]answer.Opening{gained, lost} {
			if !slices.IsSortedFunc(list, order) || len(slices.Compact(slices.Clone(list))) != len(list) {
				r.Fatalf("not sorted, or twice: %v", list)
			}
		}
		for _, o := range gained {
			if !after.Allowed(o.From, o.To) || before.Allowed(o.From, o.To) {
				r.Fatalf("%v is not gained", o)
			}
		}
		from, urls, _ := after.Places()
		for _, f := range from {
			for _, u := range urls {
				o := answer.Opening{From: f, To: u}
				if after.Allowed(f, u) && !before.Allowed(f, u) != slices.Contains(gained, o) && !strings.HasPrefix(u, "tcp:") {
					r.Fatalf("%v is gained: %v", o, slices.Contains(gained, o))
				}
			}
		}
	})
}

// TestFixesOfDrawnWorldsHelp does what is offered for any world, and asks again.
func TestFixesOfDrawnWorldsHelp(t *testing.T) {
	fixes := 0
	rapid.Check(t, func(r *rapid.T) {
		w := compiled(r, draw(r))
		q := drawQuestion(r, w)
		a, err := explain.Explain(context.Background(), w, q)
		if err != nil {
			r.Fatal(err)
		}
		for i := range a.Fixes[:min(len(a.Fixes), 3)] {
			fixes++
			f, next, asked := a.Fixes[i], w, q
			for range 24 {
				next, asked = follow(t, &scenario{}, &f, next, asked)
				a, err := explain.Explain(context.Background(), next, asked)
				if err != nil {
					r.Fatal(err)
				}
				if a.Verdict == answer.Allow {
					f.Summary = ""
					break
				}
				if len(a.Fixes) == 0 {
					break
				}
				f = a.Fixes[0]
			}
			if f.Summary != "" || t.Failed() {
				r.Fatalf("%+v does not help", a.Fixes[i])
			}
		}
	})
	if fixes < 50 {
		t.Errorf("only %d fixes were offered", fixes)
	}
}
