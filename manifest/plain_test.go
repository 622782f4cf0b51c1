// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// What rules name holds colons; a colon with text behind it is no key's.
func TestColonsWithinTextAreText(t *testing.T) {
	const form = "apiVersion: postern/v1\nkind: SecurityGroup\nmetadata: {name: n}\nspec:\n  network: n\n  rules:\n  - {direction: inbound, from: [%s]}\n"
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"group:app", []string{"group:app"}},
		{"group:app, 10.0.0.0/8, tag:Internet", []string{"group:app", "10.0.0.0/8", "tag:Internet"}},
		{"::1, fd00::/8, ::/0, fd00:20:0:1::/64", []string{"::1", "fd00::/8", "::/0", "fd00:20:0:1::/64"}},
		{"10:20, \"a\", 'group:b'", []string{"10:20", "a", "group:b"}},
	} {
		t.Run(tt.in, func(t *testing.T) {
			os, err := manifest.Decode("f.yaml", fmt.Appendf(nil, form, tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, os[0].(*model.SecurityGroup).Spec.Rules[0].From); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, in := range []string{"group: app", `"group":app`, "{group: app}"} {
		_, err := manifest.Decode("f.yaml", fmt.Appendf(nil, form, in))
		if err == nil {
			t.Errorf("[%s] is taken for text", in)
		}
	}
}
