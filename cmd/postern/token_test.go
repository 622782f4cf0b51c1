// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
)

func TestAllTokensOfASelfHostedGatewayAreRevokedAtOnce(t *testing.T) {
	sh := newShell(t)
	sh.answer = answer.Answer{Verdict: answer.Allow}
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	for _, key := range []string{"primary", "secondary"} {
		sh.ok("token", "create", "--role", "selfhosted", "--for", "shop", "--key", key)
	}
	sh.fails([]string{"token", "revoke"}, "--for selfhosted/NAME")
	sh.fails([]string{"token", "revoke", "some", "--for", "shop"}, "by its ID, or")
	sh.fails([]string{"token", "revoke", "--for", "host/laptop"}, "postern token list")
	sh.fails([]string{"token", "revoke", "--for", "selfhosted/"}, "selfhosted/NAME")
	sh.fails([]string{"token", "revoke", "--for", "absent"}, "does not exist")
	if list := sh.ok("token", "list"); strings.Count(list, "selfhosted/shop") != 2 {
		t.Errorf("before: %s", list)
	}
	const want = "SelfHostedGateway/shop has nothing left to show; ended: tokens 2, certificates 0, enrolments 0\n"
	if out := sh.ok("token", "revoke", "--for", "selfhosted/shop"); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if list := sh.ok("token", "list"); strings.Contains(list, "selfhosted/shop") {
		t.Errorf("after: %s", list)
	}
}
