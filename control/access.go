// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"slices"

	"postern.dev/postern/control/fleet"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// Access tells what a SelfHostedGateway can authenticate with, and how good that
// is: by what judges it when it calls.
func (s *Server) Access(name string) answer.Access {
	var out answer.Access
	h, now := s.opts.Registry.Head(), s.opts.Now()
	g, ok := model.Get[*model.SelfHostedGateway](h.Set, name)
	if !ok {
		return out
	}
	_, made, err := keysOf(h, name)
	if out.Made = made; err != nil {
		out.Trouble = "its stored keys cannot be read"
	}
	ts, err := s.gatewayTokens(h)
	if err != nil {
		s.opts.Log.Warn("not every token is explained", "error", err)
	}
	used := s.fleet.Credentials(name)
	for _, t := range ts[name] {
		if t.Of != g.Status.ID {
			continue // of another that had its name
		}
		c := answer.Credential{
			ID: t.ID, Key: t.Key, Expires: t.Expires,
			Used: slices.ContainsFunc(used, func(u fleet.Credential) bool { return u.Token == t.ID }),
		}
		if t.Once {
			c.Key = "enrolment"
		}
		if t.Key == token.Certificate {
			c.Renewable = renewableUntil(t)
		}
		switch {
		case t.Valid(now) && !ending(t.Created, t.Expires, now):
		case t.Valid(now):
			c.State = answer.CredentialEnding
		case now.Before(c.Renewable):
			c.State = answer.CredentialRenewable
		default:
			c.State = answer.CredentialEnded
		}
		out.Credentials = append(out.Credentials, c)
	}
	return out
}
