// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"sync"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	compilesg "postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/iam"
)

// Compiler compiles sets of resources and remembers, from one compilation to
// the next, what was slow to read. The zero value is ready for use, from
// several goroutines in turn.
type Compiler struct {
	mu sync.Mutex // one compilation at a time
	// deployments, findings and lints are by the place of a spec or policy; what
	// they are made of is asked for only where these do not know.
	deployments memo[deploymentKey, *snapshot.Deployment]
	stale       memo[specPair, []string]
	findings    memo[*model.APISpec, findings]
	lints       memo[lintKey, []compileiam.Finding]
	expansions  memo[model.Object, expansion]
	policies    memo[policyKey, *iam.Policy]
	documents   memo[documentKey, *openapi.Document]
	// contents finds documents of equal content: an API and its Deployments
	// are read once.
	contents memo[contentKey, *openapi.Document]
	// pools are the authorities of callers' certificates, by their bundle.
	pools memo[string, *x509.CertPool]
	// leaves are the certificates that Domains were given, by their chain.
	leaves memo[string, *x509.Certificate]
	groups *compilesg.Builder
}

// memo remembers results by key for as long as each compilation asks for them.
type memo[K comparable, V any] struct {
	run   uint64
	slots map[K]*slot[V]
}

type slot[V any] struct {
	v   V
	err error
	run uint64 // the last compilation that asked
}

// begin starts a compilation: what it does not ask for is forgotten at end.
func (m *memo[K, V]) begin() {
	m.run++
	if m.slots == nil {
		m.slots = map[K]*slot[V]{}
	}
}

func (m *memo[K, V]) end() {
	for k, s := range m.slots {
		if s.run != m.run {
			delete(m.slots, k)
		}
	}
}

func (m *memo[K, V]) get(k K, compute func() (V, error)) (V, error) {
	s := m.slots[k]
	if s == nil {
		s = &slot[V]{}
		s.v, s.err = compute()
		m.slots[k] = s
	}
	s.run = m.run
	return s.v, s.err
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

// lintKey is a policy and how what it protects is used.
type lintKey struct {
	policy *iam.Policy
	use    compileiam.Use
}

type documentKey struct {
	text        text
	backend     string
	keyRequired bool
}

type contentKey struct {
	sum         [sha256.Size]byte
	backend     string
	keyRequired bool
}

func (c *Compiler) begin() {
	if c.groups == nil {
		c.groups = compilesg.New()
	}
	c.deployments.begin()
	c.stale.begin()
	c.expansions.begin()
	c.findings.begin()
	c.lints.begin()
	c.policies.begin()
	c.documents.begin()
	c.contents.begin()
	c.pools.begin()
	c.leaves.begin()
}

func (c *Compiler) end() {
	c.deployments.end()
	c.stale.end()
	c.expansions.end()
	c.findings.end()
	c.lints.end()
	c.policies.end()
	c.documents.end()
	c.pools.end()
	c.leaves.end()
	if len(c.contents.slots) > 2*len(c.documents.slots) {
		// A document that is found by its place is not looked for here, so what
		// was not asked for lately is kept until there is too much of it.
		c.contents.end()
	}
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
		k := contentKey{sha256.Sum256(spec.OpenAPI), spec.Backend, spec.KeyRequired}
		return c.contents.get(k, func() (*openapi.Document, error) {
			return openapi.Import(spec.OpenAPI, openapi.Options{Backend: spec.Backend, KeyRequired: spec.KeyRequired})
		})
	})
}

// pool reads a bundle of authorities.
func (c *Compiler) pool(bundle string) (*x509.CertPool, error) {
	return c.pools.get(bundle, func() (*x509.CertPool, error) { return authorities(bundle) })
}

// leaf reads the first certificate of a chain.
func (c *Compiler) leaf(chain string) (*x509.Certificate, error) {
	return c.leaves.get(chain, func() (*x509.Certificate, error) {
		list, err := certificates(chain)
		if err != nil {
			return nil, err
		}
		return list[0], nil
	})
}
