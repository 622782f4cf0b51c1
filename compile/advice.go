// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/model"
)

// advise notes what in an API's document has no effect. A document that cannot
// be read is the Stages' to report, which cannot serve it.
func (b *build) advise(a *model.API) {
	findings, err := b.memo.findings.get(&a.Spec, func() ([]openapi.Finding, error) {
		doc, err := b.memo.document(&a.Spec)
		if err != nil {
			return nil, err
		}
		return doc.Findings, nil
	})
	if err != nil {
		return
	}
	for _, f := range findings {
		b.note(model.RefOf(a), model.Condition{
			Type: ConditionAdvice, Status: true, Reason: "Document", Message: f.Path + ": " + f.Message,
		})
	}
}
