// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"strings"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
)

// authenticate finds the token of a call.
func (c *call) authenticate() error {
	scheme, value, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || value == "" {
		return &model.Error{Kind: model.Unauthenticated, Msg: "no token was sent; send Authorization: Bearer with the token of client.yaml or of postern token create"}
	}
	t, err := c.Authenticate(value)
	if err != nil {
		return err
	}
	c.token = t
	return nil
}

// Authenticate returns the token that value is, if it is one that is valid.
func (s *Server) Authenticate(value string) (token.Token, error) {
	refused := &model.Error{Kind: model.Unauthenticated, Msg: "the token is not known or has expired; make one with postern token create"}
	id, ok := token.IDOf(value)
	if !ok {
		return token.Token{}, refused
	}
	// A token that does not exist is compared too, so that the time does not
	// tell which ids exist.
	var t token.Token
	if data, ok := s.opts.Registry.Head().Document(registry.KindToken, id); ok {
		if err := json.Unmarshal(data, &t); err != nil {
			return token.Token{}, err
		}
	}
	if !t.Matches(value, s.opts.Now()) {
		return token.Token{}, refused
	}
	return t, nil
}

// may reports whether the call's token allows an operation on a subject.
func (c *call) may(o token.Operation, subject string) error {
	if c.token.Allows(o, subject) {
		return nil
	}
	msg := "a token with the role " + string(c.token.Role) + " does not allow to " + string(o)
	if subject != "" {
		msg += " as " + subject
	}
	return &model.Error{Kind: model.Denied, Msg: msg + "; use one with the role " + rolesFor(o, subject)}
}

// rolesFor lists the roles that allow an operation on a subject.
func rolesFor(o token.Operation, subject string) string {
	var out []string
	for _, r := range token.Roles {
		switch {
		case !r.Allows(o):
		case subject != "" && r != token.Admin:
			out = append(out, string(r)+" for "+subject)
		default:
			out = append(out, string(r))
		}
	}
	return strings.Join(out, " or ")
}
