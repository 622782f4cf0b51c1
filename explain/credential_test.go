// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/explain/answer"
)

// fetch is how a self-hosted gateway asks for its configuration.
var fetch = answer.Question{From: "selfhosted/outside", URL: "https://gw.configuration.postern.internal/v2/configuration"}

// authHop is the hop that tells of the tokens.
func authHop(a *answer.Answer) *answer.Hop {
	i := slices.IndexFunc(a.Hops, func(h answer.Hop) bool { return h.Layer == answer.LayerAuth })
	if i < 0 {
		return nil
	}
	return &a.Hops[i]
}

func TestAControlLinkNamesItsTokens(t *testing.T) {
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	token := func(state answer.CredentialState) answer.Credential {
		return answer.Credential{ID: "1a2b", Key: "secondary", Expires: at, State: state}
	}
	certificate := func(state answer.CredentialState) answer.Credential {
		return answer.Credential{ID: "3c4d", Key: "certificate", Expires: at, Renewable: at.Add(90 * 24 * time.Hour), State: state}
	}
	const another = "postern token create --role selfhosted --for outside"
	for what, f := range map[string]struct {
		access  answer.Access
		code    string
		reason  string
		command string // empty where it is let in
	}{
		"none":      {answer.Access{}, "auth/token-none", "No token was made for SelfHostedGateway/outside", another},
		"revoked":   {answer.Access{Made: true}, "auth/token-revoked", "was revoked, or the key", another},
		"trouble":   {answer.Access{Trouble: "the keys do not parse", Credentials: []answer.Credential{token(answer.CredentialGood)}}, "auth/token-revoked", "the keys do not parse.", "postern token rotate outside --key primary"},
		"good":      {answer.Access{Credentials: []answer.Credential{token(answer.CredentialGood)}}, "auth/ok", "Token 1a2b, signed with the secondary key, is good until 2026-11-22T08:00:00Z.", ""},
		"ending":    {answer.Access{Credentials: []answer.Credential{token(answer.CredentialEnding)}}, "auth/token-expiring", "which is soon", ""},
		"expired":   {answer.Access{Credentials: []answer.Credential{token(answer.CredentialEnded)}}, "auth/token-expired", "has expired at 2026-11-22T08:00:00Z", another},
		"enrolled":  {answer.Access{Credentials: []answer.Credential{certificate(answer.CredentialGood)}}, "auth/ok", "Certificate 3c4d is good until", ""},
		"renewable": {answer.Access{Credentials: []answer.Credential{certificate(answer.CredentialRenewable)}}, "auth/token-expiring", "is renewed until 2027-02-20T08:00:00Z", ""},
		"unrenewed": {answer.Access{Credentials: []answer.Credential{certificate(answer.CredentialEnded)}}, "auth/token-expired", "Certificate 3c4d has expired", another + " --enrol"},
		"the best counts": {
			answer.Access{Credentials: []answer.Credential{token(answer.CredentialEnded), certificate(answer.CredentialGood)}},
			"auth/ok",
			"Certificate 3c4d is good until 2026-11-22T08:00:00Z; token 1a2b, signed with the secondary key, has expired", "",
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := plantWorld(t)
			w.Access = func(name string) answer.Access {
				if name != "outside" {
					t.Errorf("asked about %s", name)
				}
				return f.access
			}
			a := ask(t, w, fetch)
			judgeShape(t, a)
			h := authHop(a)
			if h == nil || h.Code != f.code || !strings.Contains(h.Reason, f.reason) {
				t.Fatalf("%+v, want %s %q", h, f.code, f.reason)
			}
			if f.command == "" {
				if a.Verdict != answer.Allow || a.Code != f.code {
					t.Errorf("%s %s", a.Verdict, a.Code)
				}
			} else {
				if a.Verdict != answer.Deny || a.Code != f.code || a.Symptom.Status != 401 {
					t.Errorf("%s %s %+v", a.Verdict, a.Code, a.Symptom)
				}
				if len(a.Fixes) != 1 || a.Fixes[0].Commands[0] != f.command || !a.Fixes[0].Verified {
					t.Errorf("fixes %+v", a.Fixes)
				}
			}
			// What is answered without a token is; the rest is told.
			a = ask(t, w, answer.Question{From: "selfhosted/outside", URL: "https://gw.management.postern.internal/ServiceStatus"})
			if h := authHop(a); a.Verdict != answer.Allow || h == nil || h.Code != f.code || h.Outcome != answer.Skip {
				t.Errorf("/ServiceStatus: %s, %+v", a.Verdict, h)
			}
			told := slices.ContainsFunc(a.Findings, func(x answer.Finding) bool { return x.Code == f.code && strings.Contains(x.Message, "postern token ") })
			if told != (f.code != "auth/ok") {
				t.Errorf("findings %+v", a.Findings)
			}
		})
	}
}

func TestManyTokensAreNotAllNamed(t *testing.T) {
	w := plantWorld(t)
	w.Access = func(string) answer.Access {
		cs := make([]answer.Credential, 1000)
		for i := range cs {
			cs[i] = answer.Credential{ID: "x", Key: "primary"}
		}
		cs[999].State, cs[999].Used, cs[999].ID = answer.CredentialEnded, true, "old"
		return answer.Access{Credentials: cs}
	}
	r := authHop(ask(t, w, fetch)).Reason
	if len(r) > 1000 || !strings.Contains(r, "and 996 more") || !strings.Contains(r, "In use is token old") {
		t.Error(r)
	}
}

func TestWhoElseCallsIsNotAskedForAGatewaysToken(t *testing.T) {
	w := plantWorld(t)
	w.Access = func(string) answer.Access { return answer.Access{} }
	for _, from := range []string{"internet", "host/machine"} {
		if h := authHop(ask(t, w, answer.Question{From: from, URL: fetch.URL})); h != nil {
			t.Errorf("%s: %+v", from, h)
		}
	}
}

func TestWithManifestsAloneATokenIsAssumed(t *testing.T) {
	a := ask(t, plantWorld(t), fetch)
	if h := authHop(a); h != nil || a.Verdict != answer.Allow {
		t.Errorf("%s %+v", a.Verdict, h)
	}
	if !slices.Contains(a.Assumptions, "SelfHostedGateway/outside has a token or an enrolled certificate that is good") {
		t.Errorf("assumptions %q", a.Assumptions)
	}
}
