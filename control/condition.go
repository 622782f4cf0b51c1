// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"

	"postern.dev/postern/compile"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
)

// fleetConditions are the conditions of a SelfHostedGateway: those of what is
// stored, and what there is to say of its tokens and instances. It is not ready
// while instances of it are known and none gets what it is assigned.
func (s *Server) fleetConditions(name string, stored []model.Condition, is []model.Instance) []model.Condition {
	told, ended := s.tokenConditions(name)
	out := append(slices.Clone(stored), told...)
	var away *model.Condition
	connected := slices.ContainsFunc(is, func(i model.Instance) bool { return i.Connected })
	switch {
	case len(is) == 0 || connected:
		return out
	case ended != nil:
		away = ended
	case !slices.ContainsFunc(is, func(i model.Instance) bool { return !i.Offline }):
		away = &model.Condition{Reason: "NotConnected", Message: fmt.Sprintf("of its instances, %d, none was heard of within three heartbeats: those that run serve what they have, and get nothing new; "+
			"their logs say why, and postern explain --from selfhosted/%s of a management host name says what stands in the way", len(is), name)}
	default:
		return out // one may come again in a moment
	}
	for i, c := range out {
		if c.Type == compile.ConditionReady && c.Status {
			out[i] = model.Condition{Type: compile.ConditionReady, Reason: away.Reason, Message: away.Message}
		}
	}
	return out
}

// tokenConditions are what there is to say of the tokens of a SelfHostedGateway;
// ended is the one that says that none is good.
func (s *Server) tokenConditions(name string) (out []model.Condition, ended *model.Condition) {
	now := s.opts.Now()
	note := func(reason, message string) {
		out = append(out, model.Condition{Type: "Advice", Status: true, Reason: reason, Message: message})
	}
	for _, c := range s.fleet.Credentials(name) {
		if _, warning := s.standing(c); warning != "" && now.Before(c.Expires) {
			note("TokenNearExpiry", "token "+c.Token+": "+warning)
		}
	}
	h := s.opts.Registry.Head()
	ts, err := s.gatewayTokens(h)
	if err != nil {
		note("TokensUnreadable", err.Error())
	}
	_, made, err := keysOf(h, name)
	of := ts[name]
	advice := "make one with postern token create --role selfhosted --for " + name
	switch {
	case slices.ContainsFunc(of, func(t token.Token) bool { return t.Valid(now) }):
		return out, nil
	case len(of) > 0:
		note("TokenExpired", "every token of the gateway has expired: it serves what it has, and gets nothing new; "+advice)
	case made || err != nil:
		note("TokenNone", "every token of the gateway was revoked, or its key was made anew: it serves what it has, and gets nothing new; "+advice)
	default:
		note("TokenNone", "the gateway was given no token yet, without which it gets nothing; "+advice)
	}
	return out, &out[len(out)-1]
}
