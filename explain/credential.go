// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// The codes of what a self-hosted gateway shows its management plane.
const (
	codeAuthOK        = "auth/ok"
	codeTokenExpiring = "auth/token-expiring"
	codeTokenExpired  = "auth/token-expired"
	codeTokenRevoked  = "auth/token-revoked"
	codeTokenNone     = "auth/token-none"
)

// maxCredentials is how many of a gateway's are named.
const maxCredentials = 4

// credential tells what becomes of a self-hosted gateway that asks for its
// configuration, by what it can show. Where that is not asked for it is told all
// the same: a way that is open is of no use without.
func (t *trail) credential(g *snapshot.Gateway) {
	shg := t.from.selfHosted
	if shg == nil || shg.Spec.Gateway != g.Name {
		return
	}
	name := shg.Metadata.Name
	if t.w.Access == nil {
		t.assume("SelfHostedGateway/" + name + " has a token or an enrolled certificate that is good")
		return
	}
	a := t.w.Access(name)
	code, reason := judgeAccess(name, a)
	h := answer.Hop{Layer: answer.LayerAuth, Component: model.RefOf(shg).String(), Outcome: answer.Pass, Code: code, Reason: reason}
	good := code == codeAuthOK || code == codeTokenExpiring
	switch asks := t.asksConfiguration(); {
	case !asks:
		h.Outcome = answer.Skip
		t.hop(h)
	case good:
		t.hop(h)
	default:
		h.Outcome = answer.Stop
		t.stop(h, answer.Symptom{Kind: answer.Response, Status: http.StatusUnauthorized}, stop{web: -1})
		return
	}
	if code != codeAuthOK {
		t.find(code, h.Component, reason+" Make another: "+accessCommands(name, a)[0])
	}
}

// asksConfiguration tells whether the request is one of a self-hosted gateway
// for its configuration, by protocol v2 or v1.
func (t *trail) asksConfiguration() bool {
	const v1 = "/subscriptions/"
	p := t.to.path
	return p == configuration.Path || len(p) > len(v1) && strings.EqualFold(p[:len(v1)], v1)
}

// judgeAccess sums up what a self-hosted gateway can show: the best of it counts.
func judgeAccess(name string, a answer.Access) (code, reason string) {
	cs := slices.Clone(a.Credentials)
	if a.Trouble != "" {
		cs = slices.DeleteFunc(cs, func(c answer.Credential) bool { return isToken(c) })
	}
	slices.SortStableFunc(cs, func(a, b answer.Credential) int {
		return cmp.Or(cmp.Compare(a.State, b.State), b.Expires.Compare(a.Expires), cmp.Compare(a.ID, b.ID))
	})
	if len(cs) == 0 {
		switch {
		case a.Trouble != "":
			return codeTokenRevoked, "No token of SelfHostedGateway/" + name + " is good: " + strings.TrimSuffix(a.Trouble, ".") + "."
		case a.Made:
			return codeTokenRevoked, "Every token of SelfHostedGateway/" + name + " was revoked, or the key that signed it was made anew."
		}
		return codeTokenNone, "No token was made for SelfHostedGateway/" + name + ", and no certificate is enrolled."
	}
	var parts []string
	for _, c := range first(cs, maxCredentials) {
		parts = append(parts, tellCredential(c))
	}
	if more := len(cs) - maxCredentials; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more that are no better", more))
	}
	reason = capital(strings.Join(parts, "; ")) + "."
	if a.Trouble != "" {
		reason += " Its tokens are not good: " + strings.TrimSuffix(a.Trouble, ".") + "."
	}
	switch cs[0].State {
	case answer.CredentialGood:
		code = codeAuthOK
	case answer.CredentialEnding, answer.CredentialRenewable:
		code = codeTokenExpiring
	default:
		return codeTokenExpired, reason
	}
	// An instance goes on with what it has, whatever else there is.
	if i := slices.IndexFunc(cs, func(c answer.Credential) bool { return c.Used && c.State != answer.CredentialGood }); i >= maxCredentials {
		reason += " In use is " + tellCredential(cs[i]) + "."
	}
	return code, reason
}

func isToken(c answer.Credential) bool { return c.Key != certificateKey && c.Key != enrolmentKey }

// The keys of credentials that no key signs.
const (
	certificateKey = "certificate"
	enrolmentKey   = "enrolment"
)

// tellCredential says how good one is.
func tellCredential(c answer.Credential) string {
	text := "token " + c.ID + ", signed with the " + c.Key + " key,"
	switch c.Key {
	case certificateKey:
		text = "certificate " + c.ID
	case enrolmentKey:
		text = "enrolment " + c.ID + ", which gets a certificate once,"
	}
	if c.Used {
		text = strings.TrimSuffix(text, ",") + ", which an instance uses,"
	}
	at := c.Expires.UTC().Format(time.RFC3339)
	switch c.State {
	case answer.CredentialGood:
		return text + " is good until " + at
	case answer.CredentialEnding:
		return text + " is good until " + at + ", which is soon"
	case answer.CredentialRenewable:
		return text + " has ended at " + at + " and is renewed until " + c.Renewable.UTC().Format(time.RFC3339)
	}
	return text + " has expired at " + at
}

// accessCommands make a gateway another credential, of the sort that it had.
func accessCommands(name string, a answer.Access) []string {
	make := "postern token create --role selfhosted --for " + name
	switch {
	case a.Trouble != "":
		return []string{"postern token rotate " + name + " --key primary", make}
	case len(a.Credentials) > 0 && !slices.ContainsFunc(a.Credentials, isToken):
		make += " --enrol"
	}
	return []string{make}
}

// proposeToken proposes another token.
func proposeToken(t *trail) []change {
	shg := t.from.selfHosted
	if shg == nil || t.w.Access == nil {
		return nil
	}
	name := shg.Metadata.Name
	return []change{{
		summary:  "make a token for SelfHostedGateway/" + name + " and start it with the settings that come with it",
		commands: accessCommands(name, t.w.Access(name)), access: true,
	}}
}

// withAccess is the World in which every self-hosted gateway has a credential
// that is good.
func (w *World) withAccess() *World {
	next := *w
	next.Access = func(string) answer.Access {
		return answer.Access{Made: true, Credentials: []answer.Credential{{ID: "new", Key: "primary"}}}
	}
	return &next
}
