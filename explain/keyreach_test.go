// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"strings"
	"testing"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
)

const keyed = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: gw}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: gw, type: regional, openapi: "example:petstore", path: pets, keyRequired: true}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.dev}
spec: {deployment: latest}
---
apiVersion: postern/v1
kind: Product
metadata: {name: basic}
spec: {apis: [pets]}
---
apiVersion: postern/v1
kind: Subscription
metadata: {name: checkout}
spec: {product: basic, consumer: the checkout team}
`

// TestWhoHasAKeyGainsAndLosesAccessToo has changes that those without a key do not
// notice, and one that those with a key do not.
func TestWhoHasAKeyGainsAndLosesAccessToo(t *testing.T) {
	reach := func(old, is string) *explain.Reachability {
		text := strings.Replace(keyed, old, is, 1)
		if old != "" && text == keyed {
			t.Fatalf("%q is nowhere", old)
		}
		docs := documents{}
		docs.read(t, "keyed.yaml", []byte(text))
		return explain.Reach(docs.world(t, false, nil))
	}
	// sorts counts what is asked for with a key, and without.
	sorts := func(list []answer.Opening) (with, without int) {
		for _, o := range list {
			if strings.HasSuffix(o.To, " (x-api-key)") {
				with++
			} else {
				without++
			}
		}
		return with, without
	}
	now := reach("", "")
	for _, c := range []struct {
		what, old, is string
		with, without bool
	}{
		{"its policy denies everything", "path: pets,", `path: pets, policy: {Version: "2012-10-17", Statement: [{Effect: Deny, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*"}]},`, true, false},
		{"it is not served", "{deployment: latest}", "{}", true, false},
		{"no key opens it any more", "kind: Subscription\nmetadata: {name: checkout}\nspec: {product: basic, consumer: the checkout team}", "kind: Network\nmetadata: {name: n}\nspec: {cidrs: [10.9.0.0/16]}", true, false},
	} {
		gained, lost := explain.Difference(now, reach(c.old, c.is))
		with, without := sorts(lost)
		if len(gained) > 0 || (with > 0) != c.with || (without > 0) != c.without {
			t.Errorf("%s: gained %v, lost %v", c.what, gained, lost)
		}
	}
	open := reach("keyRequired: true", "keyRequired: false")
	gained, lost := explain.Difference(open, now)
	if with, without := sorts(lost); len(gained) > 0 || with > 0 || without == 0 {
		t.Errorf("it needs a key now: gained %v, lost %v", gained, lost)
	}
	gained, lost = explain.Difference(now, open)
	if with, without := sorts(gained); len(lost) > 0 || with > 0 || without == 0 {
		t.Errorf("it needs none any more: gained %v, lost %v", gained, lost)
	}
}
