// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/key"
)

// A generation is a configuration by its number. Everything in it follows from
// the number: where calls go, which routes there are, what the policy denies,
// which keys open, and a Stage variable with the number, which the backend is
// told and tells back.
const (
	sides  = 3 // the backends take turns
	routes = 4 // of which one is there
	denied = 3 // every so many generations /guarded is denied
	keys   = 5 // of which two open at a time
)

func side(n int) int                { return n % sides }
func hasRoute(n, route int) bool    { return n%routes == route }
func guards(n int) bool             { return n%denied == 0 }
func opens(n, k int) bool           { return k == n%keys || k == (n+1)%keys }
func secretOf(k int) string         { return fmt.Sprintf("keyNumber%dOfThoseThatTakeTurns", k) }
func protocolOf(backend int) string { return [sides]string{"http", "h2c", "https"}[backend] }

// compiler makes generations.
type compiler struct {
	compile.Compiler
	to     [sides]netip.AddrPort
	dying  netip.AddrPort // of the backend that comes and goes
	secret string
}

func newCompiler(t testing.TB, bs *backends) *compiler {
	t.Helper()
	_, text, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return &compiler{to: bs.at, dying: bs.at[0], secret: text}
}

func target(at netip.AddrPort) []any {
	return []any{map[string]any{"host": at.Addr().String(), "port": at.Port()}}
}

// generation compiles a generation.
func (c *compiler) generation(n int) (*snapshot.Snapshot, error) {
	type object = map[string]any
	to := func(backend, path string) object {
		return object{
			"responses": object{"default": object{"description": "as the backend answers"}},
			"x-amazon-apigateway-integration": object{
				"type": "http_proxy", "httpMethod": "ANY", "uri": "backend://" + backend + path,
				"requestParameters": object{"integration.request.header.x-generation": "stageVariables.generation"},
			},
		}
	}
	call := func(path string) object { return to("turns", path) }
	const method = "x-amazon-apigateway-any-method"
	keyed := call("/keyed")
	keyed["security"] = []any{object{"key": []any{}}}
	paths := object{
		"/echo": object{method: call("/echo")}, "/guarded": object{method: call("/guarded")}, "/keyed": object{method: keyed},
		"/odd/{what}":    object{method: call("/odd/{what}")},
		"/steady/{what}": object{method: to("steady", "/odd/{what}")}, "/grpc/{what}": object{method: to("grpc", "/odd/{what}")},
		"/dying": object{method: to("dying", "/dying")},
		"/mapped": object{"post": object{
			"responses": object{"200": object{"description": "as the backend answers"}},
			"x-amazon-apigateway-integration": object{
				"type": "http", "httpMethod": "POST", "uri": "backend://turns/odd/endless", "requestTemplates": object{"application/json": "$input.body"},
				"responses": object{"default": object{"statusCode": 200, "responseTemplates": object{"application/json": "$input.body"}}},
			},
		}},
	}
	for r := range routes {
		if hasRoute(n, r) {
			paths["/route"+strconv.Itoa(r)] = object{method: call("/route" + strconv.Itoa(r))}
		}
	}
	statements := []any{object{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*/*/*"}}
	if guards(n) {
		statements = append(statements, object{"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*/*/guarded"})
	}
	var text []byte
	for _, r := range []struct {
		kind, name string
		spec       object
	}{
		{"Gateway", "main", object{"region": "eu-1", "http": "serve"}},
		{"Backend", "turns", object{"protocol": protocolOf(side(n)), "timeout": "5m", "targets": target(c.to[side(n)])}},
		{"Backend", "steady", object{"protocol": "http", "timeout": "5m", "targets": target(c.to[0])}},
		{"Backend", "grpc", object{"protocol": "grpc", "timeout": "5m", "targets": target(c.to[1])}},
		{"Backend", "dying", object{"protocol": "http", "timeout": "5m", "targets": target(c.dying)}},
		{"API", "turns", object{
			"gateway": "main", "type": "regional", "path": "turns", "policy": object{"Version": "2012-10-17", "Statement": statements},
			"openapi": object{
				"openapi": "3.0.3", "info": object{"title": "Turns", "version": strconv.Itoa(n)}, "paths": paths,
				"components": object{"securitySchemes": object{"key": object{"type": "apiKey", "in": "header", "name": "x-api-key"}}},
			},
		}},
		{"Stage", "turns.live", object{"autoDeploy": true, "variables": object{"generation": strconv.Itoa(n)}}},
		{"Product", "turns", object{"apis": []any{"turns"}, "throttle": object{"rate": 1000000, "burst": 1000000 - n}}},
		{"Subscription", "callers", object{"product": "turns", "consumer": "the callers"}},
	} {
		b, err := json.Marshal(object{"apiVersion": "postern/v1", "kind": r.kind, "metadata": object{"name": r.name}, "spec": r.spec})
		if err != nil {
			return nil, err
		}
		text = append(append(text, b...), "\n---\n"...)
	}
	objects, err := manifest.Decode("generation.yaml", text)
	if err != nil {
		return nil, err
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{Deployments: true})
	if err != nil {
		return nil, err
	}
	if set, err = c.issue(set, n); err != nil {
		return nil, err
	}
	result := c.Compile(set, compile.Options{
		Revision: int64(n), AsWritten: true, Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet},
		Egress: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	for _, o := range set.Objects() {
		ref := model.Ref{Kind: o.Kind(), Name: o.Base().Metadata.Name}
		if ok, why := result.Ready(ref); !ok {
			return nil, fmt.Errorf("%s is not ready: %s", ref, why.Message)
		}
	}
	return result.Snapshot, nil
}

// issue gives the Subscription the keys of a generation.
func (c *compiler) issue(set *model.Set, n int) (*model.Set, error) {
	secret, err := key.ParseSecret(c.secret)
	if err != nil {
		return nil, err
	}
	g, _ := model.Get[*model.Gateway](set, "main")
	g = model.Clone(g)
	g.Status.KeySecret = model.NewSecret(c.secret)
	s, _ := model.Get[*model.Subscription](set, "callers")
	s = model.Clone(s)
	for k := range keys {
		if !opens(n, k) {
			continue
		}
		sum, ok := secret.Hash(secretOf(k))
		if !ok {
			return nil, fmt.Errorf("key %d is too long", k)
		}
		s.Status.Keys = append(s.Status.Keys, model.IssuedKey{ID: "key" + strconv.Itoa(k), Gateway: g.Status.ID, Hash: model.NewSecret(sum.String())})
	}
	next, _, err := model.Admit(set, model.Change{Puts: []model.Object{g, s}}, model.Options{Deployments: true, Server: true})
	return next, err
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
