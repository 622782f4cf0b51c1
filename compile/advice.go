// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strconv"
	"strings"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/iam"
)

// advice notes that o works, but probably not as meant.
func (b *build) advice(o model.Object, reason, message string) {
	b.note(model.RefOf(o), model.Condition{Type: ConditionAdvice, Status: true, Reason: reason, Message: message})
}

// findings are what an API says in vain or hardly means.
type findings struct {
	document []openapi.Finding
	// policyAt is where the policy stands, empty if there is none.
	policyAt string
	policy   []compileiam.Finding
}

// The places of an API's policy.
const (
	inSpec     = "spec.policy"
	inDocument = "spec.openapi.x-amazon-apigateway-policy"
)

// advise notes what in an API's document has no effect and what in its policy
// is rarely meant. A document that cannot be read is the Stages' to report,
// which cannot serve it.
func (b *build) advise(a *model.API) {
	f, err := b.memo.findings.get(&a.Spec, func() (findings, error) { return b.findings(&a.Spec) })
	if err != nil {
		return
	}
	for _, x := range f.document {
		b.advice(a, "Document", x.Path+": "+x.Message)
	}
	b.lints(a, f.policyAt, f.policy)
	if f.policyAt == "" && a.Spec.Type == model.Private {
		b.advice(a, ReasonNoPolicy, "the API cannot be deployed yet: "+ErrNoPolicy.Error()+"; write spec.policy")
	}
}

func (b *build) findings(spec *model.APISpec) (findings, error) {
	doc, err := b.memo.document(spec)
	if err != nil {
		return findings{}, err
	}
	f := findings{document: doc.Findings}
	switch {
	case hasPolicy(spec.Policy):
		f.policyAt = inSpec
	case hasPolicy(doc.Policy):
		f.policyAt = inDocument
	default:
		return f, nil
	}
	// Which API the short forms mean does not matter to what is found.
	p, err := b.memo.policy(policyOf(spec, doc), policyScope{})
	if err != nil {
		return f, nil //nolint:nilerr // the Stages report it, which cannot serve it
	}
	f.policy = compileiam.Lint(p, compileiam.Use{Private: spec.Type == model.Private, Unauthenticated: true})
	return f, nil
}

// lint notes what in a resource's own policy is rarely meant.
func (b *build) lint(o model.Object, p *iam.Policy, u compileiam.Use) {
	if p == nil {
		return
	}
	found, err := b.memo.lints.get(lintKey{p, u}, func() ([]compileiam.Finding, error) { return compileiam.Lint(p, u), nil })
	if err == nil {
		b.lints(o, inSpec, found)
	}
}

func (b *build) lints(o model.Object, field string, found []compileiam.Finding) {
	for _, f := range found {
		b.advice(o, f.Code, field+"."+f.Path+": "+f.Sentence)
	}
}

// waiting is a Stage that does not serve its API as it is saved. The Deployment
// is 0 if it has none.
type waiting struct {
	stage  string
	serves int
	differ []string
}

// pending notes that what is saved of an API is not served everywhere, and what
// makes it so.
func (b *build) pending(a *model.API) {
	name := a.Metadata.Name
	list := b.waits[name]
	if len(list) == 0 {
		return
	}
	reason, commands, states := "NoDeployment", make([]string, len(list)), make([]string, len(list))
	for i, w := range list {
		commands[i] = "postern deploy " + name + " --stage " + w.stage
		states[i] = "Stage/" + name + "." + w.stage + " has no Deployment"
		if w.serves > 0 {
			reason = "SavedNotDeployed"
			states[i] = "Stage/" + name + "." + w.stage + " serves Deployment " + strconv.Itoa(w.serves) +
				", which differs in " + strings.Join(w.differ, ", ")
		}
	}
	b.note(model.RefOf(a), model.Condition{
		Type: ConditionStale, Status: true, Reason: reason,
		Message: "takes effect with: " + strings.Join(commands, "; ") + " (" + strings.Join(states, "; ") + ")",
	})
}
