// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import "postern.dev/postern/model"

// advise notes what in an API's document has no effect. A document that cannot
// be read is the Stages' to report, which cannot serve it.
func (b *build) advise(a *model.API) {
	doc, err := b.memo.document(&a.Spec)
	if err != nil {
		return
	}
	for _, f := range doc.Findings {
		b.note(model.RefOf(a), model.Condition{
			Type: ConditionAdvice, Status: true, Reason: "Document", Message: f.Path + ": " + f.Message,
		})
	}
}
