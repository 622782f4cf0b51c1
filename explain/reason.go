// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/decide/iam"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
)

// webReason is one sentence about a step of the request.
func (t *trail) webReason(s *request.Step) string {
	v, a := &t.web.verdict, &t.web.arrival
	note := ""
	sni := a.SNI
	if sni == "" {
		sni = "a bare address"
	}
	if s.Note != "" {
		note = ": " + s.Note
	}
	switch s.Code {
	case request.CodeTLS:
		return s.Component.String() + " presents a certificate for " + sni + "."
	case request.CodeUnknownName:
		return s.Component.String() + " has no certificate for " + sni + note + "."
	case request.CodeExpired:
		if s.Note == "" {
			note = ": its time is over since " + v.Host.Domain.NotAfter.UTC().Format(time.RFC3339)
		}
		return "Callers refuse the certificate that " + s.Component.String() + " was given" + note + "."
	case request.CodeAccepted:
		return s.Component.String() + " answers " + request.StatusPath + " under its own name by itself; no API is asked."
	case request.CodeClientCert:
		if s.Note == request.NoteNotVouched {
			return s.Component.String() + " asks for a client certificate, and its authorities do not vouch for that of " +
				t.shown[0].Subject.String() + ": " + strings.TrimPrefix(a.Unvouched.Error(), "x509: ") + "; who shows it gets no connection."
		}
		return s.Component.String() + " refuses callers without a client certificate" + note + "."
	case request.CodePublicAccessOff:
		return s.Component.String() + " answers no callers from outside its Endpoints: its public access is off."
	case request.CodeHostUnknown:
		return s.Component.String() + " serves nothing under " + a.Host + note + "."
	case request.CodeAPIFound:
		return "The request is for " + s.Component.String() + "."
	case request.CodeAPIIDMissing:
		return "The name " + a.Host + " is the Endpoint's own; without the header " + apiIDHeader + " it names no API."
	case request.CodeAPIIDUnknown:
		return t.idUnknown(s, note)
	case request.CodeAPINotPrivate:
		return s.Component.String() + " is not a private API, and execute-api names at an Endpoint serve private APIs only" + note + "."
	case request.CodeStageFound:
		if v.Deployment != nil && v.Deployment.Number > 0 {
			return "The Stage " + v.Stage.Name + " serves Deployment " + strconv.Itoa(v.Deployment.Number) + " of " + s.Component.String() + "."
		}
		return "The Stage " + v.Stage.Name + " serves " + s.Component.String() + " as it is written."
	case request.CodeStageMissing:
		return t.stageMissing(s, note)
	case request.CodeStageNotDeployed:
		text := s.Component.String() + " has no Deployment to serve"
		if why := t.w.unready(s.Component); why != "" {
			text += ": " + why
		}
		return text + "."
	case request.CodeStageStale:
		if v.Stage != nil {
			return s.Component.String() + " serves the API as it was deployed; since then " + strings.Join(v.Stage.Stale, ", ") + " was changed and not deployed."
		}
	case request.CodeMethodFound:
		if op := v.Operation(); op != nil {
			return v.Method + " " + v.Path + " is served by " + op.Method + " " + op.Path + "."
		}
	case request.CodeMethodUnknown:
		return "The deployed API has no operation for " + v.Method + " " + v.Path + note + "."
	case request.CodePolicyAbsent:
		return s.Component.String() + " has no resource policy" + note + "."
	}
	if s.Policy != nil {
		return t.policyReason(s)
	}
	if s.Code == request.CodeEndpointAccepted {
		return s.Component.String() + " has no policy of its own and lets every call through."
	}
	switch s.Code {
	case request.CodeKeyOK, request.CodeKeyMissing, request.CodeKeyUnknown:
		return t.keyReason(s)
	case request.CodeLimitOK, request.CodeThrottled, request.CodeQuota:
		return t.limitReason(s)
	}
	return s.Component.String() + ": " + s.Code + note + "."
}

// idUnknown says what was meant to name an API and does not.
func (t *trail) idUnknown(s *request.Step, note string) string {
	a := &t.web.arrival
	if s.Note == request.NoteNoPath || s.Note == request.NoteNoMapping || s.Note == request.NotePrivateHost {
		return "Nothing is served under " + a.Host + a.Path + note + "."
	}
	id, _, _ := strings.Cut(a.Host, ".")
	where := "in the host name"
	if a.Endpoint != nil && a.HasAPIID {
		id, where = a.APIID, "in "+apiIDHeader
	}
	text := "No API of Gateway/" + a.Gateway.Name + " has the id " + id + " that the request names " + where + note
	if ref, ok := t.w.withID(id); ok {
		text += "; " + t.w.unready(ref)
	}
	return text + "."
}

func (t *trail) stageMissing(s *request.Step, note string) string {
	api := t.web.verdict.API
	text := "The path names no Stage of API/" + api.Name
	switch {
	case s.Component.Kind == model.KindAPI && s.Field != "":
		text = s.Component.String() + " does not say which Stage is served under " + t.web.arrival.Gateway.Host
	case s.Component.Kind == model.KindDomain:
		text = s.Component.String() + " maps the path to a Stage that API/" + api.Name + " does not have"
	}
	if first, _, _ := strings.Cut(strings.TrimPrefix(t.web.arrival.Path, "/"), "/"); s.Component.Kind == model.KindAPI && s.Field == "" && first != "" {
		text = "The path begins with " + first + ", and API/" + api.Name + " has no such Stage"
	}
	if names := keys(api.Stages); len(names) > 0 {
		text += "; it has " + strings.Join(names, ", ")
	} else {
		text += "; it has none"
	}
	return text + note + "."
}

// policyReason says which statement decided, and by which of its elements.
func (t *trail) policyReason(s *request.Step) string {
	r := request.Asked(&t.web.arrival, &t.web.verdict, s.Component.Kind == model.KindDomain)
	tr := iam.Explain(s.Policy, &r)
	what := "The policy of " + s.Component.String()
	switch {
	case tr.Verdict.Decision == iam.Allow:
		return what + " allows it: " + statement(&tr, tr.Verdict.Statement, false) + "."
	case tr.Verdict.Decision == iam.ExplicitDeny:
		return what + " denies it: " + statement(&tr, tr.Verdict.Statement, false) + "."
	case tr.Nearest >= 0:
		return what + " allows it nowhere; the nearest Allow is " + statement(&tr, tr.Nearest, true) + "."
	}
	return what + " has no Allow."
}

// statement names a statement and the conditions that hold in it, or what
// fails in it.
func statement(tr *iam.Trace, i int, failed bool) string {
	if i < 0 || i >= len(tr.Statements) {
		return "a statement"
	}
	s := &tr.Statements[i]
	text := s.Path
	if s.Sid != "" {
		text += " (" + s.Sid + ")"
	}
	var why []string
	for _, c := range s.Checks {
		if failed && !c.Holds || !failed && c.Operator != "" && c.Holds {
			why = append(why, c.String())
		}
	}
	if len(why) > 0 {
		text += ", because " + strings.Join(why, " and ")
	}
	return text
}
