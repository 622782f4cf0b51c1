// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package request decides what becomes of an HTTP request that has reached a
// Gateway: which API, Stage and operation it is for, and whether the policies
// of the Endpoint, the API and the Domain let it through. The gateway acts on
// the Verdict and explain tells it; neither has rules of its own.
package request

import (
	"net/netip"
	"strconv"

	"postern.dev/postern/decide/iam"
	"postern.dev/postern/decide/operation"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// Judge decides a over s. It stops at the first step that stops the request,
// unless every is set: then it goes on behind a stop wherever there is
// something left to judge, so that the steps hold every stop. The stop that
// decides is the first one either way.
func Judge(s *snapshot.Snapshot, a *Arrival, every bool) Verdict {
	var v Verdict
	v.Judge(s, a, every)
	return v
}

// Judge is the function Judge into a verdict that is there already: a Verdict
// is large, and a gateway uses the same one for all requests of a connection.
// An allowed request costs no allocation.
func (v *Verdict) Judge(s *snapshot.Snapshot, a *Arrival, every bool) {
	v.reset()
	j := judge{v: v, s: s, a: a, g: a.Gateway, e: a.Endpoint, every: every}
	v.Method = a.effective()
	j.path = Canonical(a.Path)
	j.run()
}

// judge is one judgement under way.
type judge struct {
	v     *Verdict
	s     *snapshot.Snapshot
	a     *Arrival
	g     *snapshot.Gateway
	e     *snapshot.Endpoint
	every bool
	// path is the canonical path, stage the name that it or a mapping gives.
	path, stage string
	// mapped is the mapping that led to the API, unless it was named by itself.
	mapped *snapshot.PathMapping
	// asked is what request returns, once it has been asked for.
	asked iam.Request
}

// refuse notes the answer of the first stop and tells whether to go on.
func (j *judge) refuse(r Response) bool {
	if j.v.Response.Status == 0 && j.v.Symptom == Answered {
		j.v.Response = j.v.Customised(j.a, r)
	}
	return j.every
}

// forbid stops with the answer that gives nothing away.
func (j *judge) forbid(code string, kind model.Kind, name, note string) bool {
	j.v.stop(code, kind, name, note)
	return j.refuse(Forbidden)
}

func (j *judge) run() {
	if !j.handshake() || !j.access() {
		return
	}
	if j.v.Redirect = !j.a.TLS && j.e == nil && j.g.HTTP == "redirect" && !j.selfHosted(); j.v.Redirect && !j.v.stopped() {
		j.v.Allowed = true
		j.v.Response = redirect(j.location())
		return
	}
	if !j.host() || j.v.API == nil {
		return
	}
	if !j.findStage() {
		return
	}
	// Whom a private Domain's policy refuses is not to learn of its operations.
	if !j.nameable() || !j.endpointPolicy() || !j.domainPolicy() || !j.method() || !j.resourcePolicy() || !j.key() || !j.limits() {
		return
	}
	j.v.Allowed = !j.v.stopped()
}

// handshake judges whether the caller is content with the certificate.
func (j *judge) handshake() bool {
	if !j.a.TLS {
		return true
	}
	h := Find(j.g, j.a.SNI)
	j.v.Host = h // most often Host is the same name
	if covered(j.s, j.g, j.e, j.a.SNI, h) {
		kind, name := j.component()
		if h != nil && h.Domain != nil {
			kind, name = model.KindDomain, h.Domain.Name
			if !j.timely(h.Domain) {
				return false
			}
			if j.a.Unvouched != nil {
				return j.certificate(h.Domain, NoteNotVouched)
			}
			if !j.vouched(h.Domain) {
				return j.certificate(h.Domain, NoteNoClientCert)
			}
		}
		j.v.pass(CodeTLS, kind, name)
		return true
	}
	note := NoteDefaultIdentity
	if j.a.SNI == "" {
		note = NoteNoServerName
	}
	kind, name := j.component()
	if !j.a.Verify {
		s := j.v.pass(CodeUnknownName, kind, name)
		s.Outcome, s.Note = Skip, note
		return true
	}
	j.v.stop(CodeUnknownName, kind, name, note)
	j.v.Symptom = Handshake
	return j.every
}

// timely judges whether the certificate that was given for d is within its
// time, which a caller that verifies it looks at. It reports whether to go on.
func (j *judge) timely(d *snapshot.Domain) bool {
	note := ""
	switch {
	case !j.a.Verify || d.NotAfter.IsZero():
		return true
	case j.a.Now.Before(d.NotBefore):
		note = NoteNotYetValid
	case !j.a.Now.After(d.NotAfter):
		return true
	}
	j.v.stop(CodeExpired, model.KindDomain, d.Name, note).Field = "spec.tls.certificate"
	j.v.Symptom = Handshake
	return j.every
}

// vouched reports whether the caller has shown what d requires of it.
func (j *judge) vouched(d *snapshot.Domain) bool {
	return d.ClientCA == nil || !d.ClientCA.Required || j.a.shown(d)
}

// certificate stops a request for d whose caller has shown no certificate that
// its authorities vouch for. Where
// the handshake is yet to come it fails; a request that was received is
// answered.
func (j *judge) certificate(d *snapshot.Domain, note string) bool {
	j.v.stop(CodeClientCert, model.KindDomain, d.Name, note).Field = "spec.clientCA"
	if note == NoteNotVouched || (j.a.Asked || j.a.Verify) && note == NoteNoClientCert {
		j.v.Symptom = Handshake
		return j.every
	}
	return j.refuse(Forbidden)
}

// component is what the request reached: the Endpoint or the Gateway.
func (j *judge) component() (model.Kind, string) {
	if j.e != nil {
		return model.KindEndpoint, j.e.Name
	}
	return model.KindGateway, j.g.Name
}

// access judges whether the Gateway is open on its public address.
func (j *judge) access() bool {
	if j.e != nil || j.a.Origin.Node != "" || j.g.PublicAccess || j.selfHosted() {
		return true
	}
	j.v.stop(CodePublicAccessOff, model.KindGateway, j.g.Name, "").Field = "spec.publicAccess"
	return j.refuse(publicAccessOff(j.g.Name, j.a.Origin.Source.Addr().Unmap()))
}

// selfHosted reports whether the request reached a self-hosted gateway. What
// says how the Gateway itself is reached does not hold there, and the name of
// the machine counts as the Gateway's own.
func (j *judge) selfHosted() bool { return j.a.Origin.ServedBy != "" }

// location is the same place under https; of the Gateway, if the request named
// no host.
func (j *judge) location() string {
	host, path := plain(j.a.Host), j.a.Path
	if host == "" {
		host = j.g.Host
	}
	if ip, err := netip.ParseAddr(j.a.Host); err == nil && ip.Is6() {
		host = "[" + j.a.Host + "]"
	}
	if path == "*" { // the server as a whole
		path = "/"
	}
	l := "https://" + host + j.moved() + path
	if j.a.Query != "" {
		l += "?" + j.a.Query
	}
	return l
}

// moved is ":port" where 443 is offered on a real socket of another number. A
// caller that names a port by which the socket does not go, as the usual one where
// something in front of Postern moves ports back, is sent to the usual one.
func (j *judge) moved() string {
	o := j.a.Origin
	if o == nil || o.Socket == 0 || o.SocketTLS == portTLS || o.SocketTLS == 0 {
		return ""
	}
	named := j.a.Port
	if named == "" {
		named = strconv.Itoa(portClear)
	}
	if named != strconv.Itoa(int(o.Socket)) {
		return ""
	}
	return ":" + strconv.Itoa(int(o.SocketTLS))
}

// The ports of http and https, where nothing moves them.
const (
	portClear = 80
	portTLS   = 443
)

// findStage finds the Stage and its Deployment.
func (j *judge) findStage() bool {
	v := j.v
	api := v.API
	if j.mapped != nil {
		v.Stage, j.stage = j.mapped.Stage, j.mapped.StageName
		if v.Stage == nil {
			kind, name, field := model.KindAPI, api.Name, "spec.stage"
			if v.Domain != nil {
				kind, name, field = model.KindDomain, v.Domain.Name, "spec.mappings"
			}
			j.v.stop(CodeStageMissing, kind, name, "").Field = field
			return j.refuse(Forbidden) && j.assume()
		}
	} else {
		var rest string
		j.stage, rest = first(j.path)
		if v.Stage == nil { // disabled has looked for it
			note := ""
			if j.stage == "" {
				note = NoteNoStageInPath
			}
			return j.forbid(CodeStageMissing, model.KindAPI, api.Name, note) && j.assume()
		}
		v.Base, v.Path = j.path[:1+len(j.stage)], rest
	}
	v.Path = trim(v.Path)
	return j.deployed()
}

// deployed judges the Stage that was found.
func (j *judge) deployed() bool {
	v := j.v
	v.Deployment = v.Stage.Deployment
	if v.Deployment == nil {
		s := v.stop(CodeStageNotDeployed, model.KindStage, "", "")
		s.Component.Name = v.API.Name + "." + v.Stage.Name
		s.Field = "spec.deployment"
		return j.refuse(Forbidden)
	}
	v.pass(CodeStageFound, model.KindAPI, v.API.Name)
	if len(v.Stage.Stale) > 0 && j.every {
		s := v.pass(CodeStageStale, model.KindStage, v.API.Name+"."+v.Stage.Name)
		s.Outcome, s.Field = Finding, v.Stage.Stale[0]
	}
	return true
}

// assume goes on behind a missing Stage if there is only one that can have been
// meant: with the whole path, or, where an operation fits that better, with
// what follows its first segment.
func (j *judge) assume() bool {
	v := j.v
	if len(v.API.Stages) != 1 {
		return false
	}
	for _, only := range v.API.Stages {
		v.Stage, j.stage = only, only.Name
	}
	v.Deployment = v.Stage.Deployment
	if v.Deployment == nil {
		return false
	}
	if j.mapped == nil {
		v.Path = trim(j.path)
		_, rest := first(j.path)
		whole := operation.Match(v.Deployment.Operations, v.Method, v.Path)
		behind := operation.Match(v.Deployment.Operations, v.Method, trim(rest))
		if whole.Operation == nil && behind.Operation != nil {
			v.Path = trim(rest)
		}
	}
	return true
}

// method finds the operation.
func (j *judge) method() bool {
	v := j.v
	if v.Deployment == nil {
		return true
	}
	v.Route = operation.Match(v.Deployment.Operations, v.Method, v.Path)
	if v.Route.Operation != nil {
		v.pass(CodeMethodFound, model.KindAPI, v.API.Name).Field = "spec.openapi"
		return true
	}
	note := ""
	if v.Route.Place {
		note = NoteMethodOnly
	}
	v.stop(CodeMethodUnknown, model.KindAPI, v.API.Name, note).Field = "spec.openapi"
	return j.refuse(missingToken)
}
