// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"strings"

	"postern.dev/postern/explain/answer"
)

// Outcome is one real request beside its explanation.
type Outcome struct {
	Question answer.Question
	Seen     answer.Symptom
	Response *Response
	Answer   answer.Answer
}

// Agrees says in what the explanation differs from what was seen; nothing if
// it does not.
func (o *Outcome) Agrees() error {
	want := o.Answer.Symptom
	switch {
	case o.Answer.Verdict == answer.Unknown:
		return nil
	case o.Seen.Kind != want.Kind:
		return fmt.Errorf("the caller saw %s, the explanation says %s (%s)", o.Seen.Kind, want.Kind, o.Answer.Code)
	case want.Kind == answer.Response && want.Status != 0 && o.Seen.Status != want.Status:
		return fmt.Errorf("the caller saw status %d, the explanation says %d (%s)", o.Seen.Status, want.Status, o.Answer.Code)
	case want.Kind == answer.Response && want.Body != "" && o.Seen.Body != want.Body:
		return fmt.Errorf("the caller saw the body %q, the explanation says %q", o.Seen.Body, want.Body)
	case want.Kind == answer.Response && want.Status == 0 && o.Seen.Status >= 400:
		return fmt.Errorf("the caller saw status %d, the explanation says that it is allowed", o.Seen.Status)
	case want.Kind == answer.Answered && strings.Join(o.Seen.Addresses, " ") != strings.Join(want.Addresses, " "):
		return fmt.Errorf("the caller got %v, the explanation says %v", o.Seen.Addresses, want.Addresses)
	}
	return nil
}

// Sees checks what the caller of the last call saw: a kind of symptom and, for
// a response, its status and a part of its body; for an answer, an address.
func (o *Outcome) Sees(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: sees KIND [STATUS] [TEXT]")
	}
	if string(o.Seen.Kind) != args[0] {
		return fmt.Errorf("the caller saw %s, not %s", Describe(o.Seen), args[0])
	}
	for _, a := range args[1:] {
		text := fmt.Sprint(o.Seen.Status, " ", o.Seen.Body, " ", strings.Join(o.Seen.Addresses, " "))
		if !strings.Contains(text, a) {
			return fmt.Errorf("the caller saw %s, without %q", Describe(o.Seen), a)
		}
	}
	return nil
}

// Because checks why, according to the last explanation: a code and, if given,
// the component that decided, the rule's resource and its path.
func (o *Outcome) Because(args []string) error {
	a := &o.Answer
	h := a.Hops[a.DecidedBy]
	got := []string{a.Code, h.Component}
	if h.Rule != nil {
		got = append(got, h.Rule.Resource, h.Rule.Path)
	}
	for i, want := range args {
		if i >= len(got) || got[i] != want {
			return fmt.Errorf("the explanation names %v, not %v", got, args)
		}
	}
	return nil
}

// Finds checks that the last explanation has a finding: code and component.
func (o *Outcome) Finds(args []string) error {
	for _, f := range o.Answer.Findings {
		if f.Code == args[0] && (len(args) < 2 || f.Component == args[1]) {
			return nil
		}
	}
	return fmt.Errorf("the explanation has the findings %v, not %v", o.Answer.Findings, args)
}

// Fix checks that a fix is offered whose summary holds the text.
func (o *Outcome) Fix(text string) error {
	var have []string
	for _, f := range o.Answer.Fixes {
		if strings.Contains(f.Summary, text) {
			return nil
		}
		have = append(have, f.Summary)
	}
	return fmt.Errorf("the explanation offers %q, nothing with %q", have, text)
}

// Describe is a symptom in words.
func Describe(s answer.Symptom) string {
	switch s.Kind {
	case answer.Response:
		body := s.Body
		if len(body) > 160 {
			body = body[:160] + "..."
		}
		return fmt.Sprintf("response %d %s", s.Status, strings.Join(strings.Fields(body), " "))
	case answer.Answered:
		return "answer " + strings.Join(s.Addresses, ", ")
	case answer.NXDomain:
		return "nxdomain, no such name"
	case answer.Timeout:
		return "timeout, nothing comes back"
	case answer.Refused:
		return "refused, at once"
	case answer.TLS:
		return "tls, the handshake fails"
	}
	return string(s.Kind)
}
