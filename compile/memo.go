// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"sync"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	compilesg "postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/iam"
)

// Compiler compiles sets of resources and remembers, from one compilation to
// the next, what was slow to read. The zero value is ready for use, from
// several goroutines in turn.
type Compiler struct {
	mu        sync.Mutex // one compilation at a time
	policies  memo[policyKey, *iam.Policy]
	documents memo[documentKey, *openapi.Document]
	groups    *compilesg.Builder
}

// memo remembers results by key for as long as each compilation asks for them.
type memo[K comparable, V any] struct {
	old, now map[K]result[V]
}

type result[V any] struct {
	v   V
	err error
}

// begin starts a compilation: what it does not ask for is forgotten at end.
func (m *memo[K, V]) begin() { m.now = make(map[K]result[V], len(m.old)) }

func (m *memo[K, V]) end() { m.old, m.now = m.now, nil }

func (m *memo[K, V]) get(k K, compute func() (V, error)) (V, error) {
	r, ok := m.now[k]
	if !ok {
		if r, ok = m.old[k]; !ok {
			r.v, r.err = compute()
		}
		m.now[k] = r
	}
	return r.v, r.err
}

// text identifies raw JSON without reading it: resources are immutable, and
// the memo holds on to what it points at.
type text struct {
	at *byte
	n  int
}

func textOf(raw json.RawMessage) text {
	if len(raw) == 0 {
		return text{}
	}
	return text{&raw[0], len(raw)}
}

type policyKey struct {
	text  text
	scope policyScope
}

// policyScope is what completes the short forms in a policy.
type policyScope struct{ region, api string }

type documentKey struct {
	text        text
	backend     string
	keyRequired bool
}

func (c *Compiler) begin() {
	if c.groups == nil {
		c.groups = compilesg.New()
	}
	c.policies.begin()
	c.documents.begin()
}

func (c *Compiler) end() {
	c.policies.end()
	c.documents.end()
	c.groups.Trim()
}

// policy compiles a policy, which is an object or a string that holds one. An
// absent one gives nil.
func (c *Compiler) policy(raw json.RawMessage, scope policyScope) (*iam.Policy, error) {
	if !hasPolicy(raw) {
		return nil, nil
	}
	return c.policies.get(policyKey{textOf(raw), scope}, func() (*iam.Policy, error) {
		doc := []byte(raw)
		var s string
		if json.Unmarshal(raw, &s) == nil {
			doc = []byte(s)
		}
		return compileiam.Parse(doc, compileiam.Options{Region: scope.region, Account: Account, API: scope.api})
	})
}

// document compiles an API's OpenAPI document.
func (c *Compiler) document(spec *model.APISpec) (*openapi.Document, error) {
	k := documentKey{textOf(spec.OpenAPI), spec.Backend, spec.KeyRequired}
	return c.documents.get(k, func() (*openapi.Document, error) {
		return openapi.Import(spec.OpenAPI, openapi.Options{Backend: spec.Backend, KeyRequired: spec.KeyRequired})
	})
}
