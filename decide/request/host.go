// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// host finds the API that the request names, by the id in its header, its host
// name, or its host name and path.
func (j *judge) host() bool {
	v, a := j.v, j.a
	if !a.TLS || a.Host != a.SNI {
		asked := v.Host
		v.Host = Find(j.g, a.Host)
		// The handshake was for another name, or there was none.
		if h := v.Host; h != nil && h.Domain != nil && h != asked && domainNote(h.Domain, j.e) == "" &&
			!j.vouched(h.Domain) && !j.certificate(h.Domain, NoteOtherHandshake) {
			return false
		}
	}
	if j.e != nil && a.HasAPIID {
		api := j.g.APIs[a.APIID]
		if api == nil {
			return j.unknownID(a.APIID)
		}
		return j.named(api)
	}
	h := v.Host
	if j.selfHosted() && !j.published(h) {
		return j.own()
	}
	if h == nil {
		return j.unknownHost()
	}
	switch h.Kind {
	case snapshot.HostOwn:
		return j.own()
	case snapshot.HostExecuteAPI:
		return j.named(h.API)
	case snapshot.HostDomain:
		return j.domain(h.Domain)
	case snapshot.HostEndpoint:
		if h.Endpoint == j.e && j.e != nil {
			return j.forbid(CodeAPIIDMissing, model.KindEndpoint, j.e.Name, "")
		}
	case snapshot.HostAssociated:
		if h.Endpoint == j.e && j.e != nil {
			return j.named(h.API)
		}
	}
	kind, name := j.component()
	note := NoteHostElsewhere
	if j.e != nil {
		note = NoteOtherEndpoint
	}
	return j.forbid(CodeHostUnknown, kind, name, note)
}

// named goes on with an API that was named by id.
func (j *judge) named(api *snapshot.API) bool {
	v := j.v
	v.API = api
	switch {
	case j.e != nil && api.Type != model.Private:
		if !j.notPrivate(api) {
			return false
		}
	case j.e == nil && api.Type == model.Private:
		if !j.forbid(CodeHostUnknown, model.KindAPI, api.Name, NotePrivateHost) {
			return false
		}
	}
	if j.disabled(api) {
		j.v.stop(CodeHostUnknown, model.KindAPI, api.Name, NoteDisabled).Field = "spec.disableExecuteApiEndpoint"
		return j.refuse(Forbidden)
	}
	return j.found(api)
}

func (j *judge) found(api *snapshot.API) bool {
	if !j.v.stopped() {
		j.v.pass(CodeAPIFound, model.KindAPI, api.Name)
	}
	return true
}

func (j *judge) notPrivate(api *snapshot.API) bool {
	j.v.stop(CodeAPINotPrivate, model.KindAPI, api.Name, "").Field = "spec.type"
	return j.refuse(Forbidden)
}

// disabled finds the Stage and looks whether what it serves is closed under the
// API's own names: like everything else about an API, that takes a Deployment.
func (j *judge) disabled(api *snapshot.API) bool {
	name, _ := first(j.path)
	j.v.Stage = api.Stages[name]
	stage := j.v.Stage
	return stage != nil && stage.Deployment != nil && stage.Deployment.DisableExecuteAPIEndpoint
}

// StatusPath is where a Gateway tells under its own host name that it is
// reached, as Azure's do.
const StatusPath = "/status-0123456789abcdef"

// own goes on under the Gateway's own host name, where the path names the API.
func (j *judge) own() bool {
	if j.path == StatusPath && (j.v.Method == "GET" || j.v.Method == "HEAD") {
		return j.status()
	}
	m, base, rest := mapping(j.g.Paths, j.path)
	if m == nil {
		return j.forbid(CodeAPIIDUnknown, model.KindGateway, j.g.Name, NoteNoPath)
	}
	if j.e == nil && m.API.Type == model.Private {
		return j.forbid(CodeAPIIDUnknown, model.KindAPI, m.API.Name, NotePrivateHost)
	}
	return j.through(m, base, rest)
}

// status answers a request for the Gateway's own status.
func (j *judge) status() bool {
	j.v.pass(CodeAccepted, model.KindGateway, j.g.Name)
	if j.v.Status = !j.v.stopped(); j.v.Status {
		j.v.Allowed, j.v.Response = true, Reachable
	}
	return false
}

func (j *judge) domain(d *snapshot.Domain) bool {
	j.v.Domain = d
	if note := domainNote(d, j.e); note != "" {
		s := j.v.stop(CodeHostUnknown, model.KindDomain, d.Name, note)
		s.Field = "spec.type"
		if note == NoteNotAssociated {
			s.Field = "spec.endpoints"
		}
		if !j.refuse(Forbidden) {
			return false
		}
	}
	m, base, rest := mapping(d.Mappings, j.path)
	if m == nil {
		return j.forbid(CodeAPIIDUnknown, model.KindDomain, d.Name, NoteNoMapping)
	}
	if j.e == nil && m.API.Type == model.Private {
		return j.forbid(CodeAPIIDUnknown, model.KindAPI, m.API.Name, NotePrivateHost)
	}
	return j.through(m, base, rest)
}

// through goes on with the API that a mapping names.
func (j *judge) through(m *snapshot.PathMapping, base, rest string) bool {
	j.mapped = m
	j.v.API, j.v.Base, j.v.Path = m.API, base, rest
	if rest == "" {
		j.v.Path = "/"
	}
	if j.v.Domain != nil && j.e != nil && m.API.Type != model.Private {
		if !j.notPrivate(m.API) {
			return false
		}
	}
	return j.found(m.API)
}

// published reports whether a host name was made for APIs: a Domain's, or an
// execute-api name whether an API has it or not.
func (j *judge) published(h *snapshot.Host) bool {
	if h != nil {
		return h.Kind == snapshot.HostDomain || h.Kind == snapshot.HostExecuteAPI
	}
	_, _, ok := executeAPI(plain(j.a.Host), j.g.Region, j.s.Base)
	return ok
}

// unknownID stops a request that names an API that this Gateway does not have.
// The search through other Gateways is only for the reason: a public API is
// one that no Endpoint serves, whoever's it is.
func (j *judge) unknownID(id string) bool {
	kind, name := j.component()
	for _, g := range j.s.Gateways {
		api := g.APIs[id]
		switch {
		case g == j.g || api == nil:
			continue
		case j.e != nil && api.Type != model.Private:
			j.v.stop(CodeAPINotPrivate, model.KindAPI, api.Name, NoteOtherGateway).Field = "spec.type"
			return j.refuse(Forbidden)
		}
		return j.forbid(CodeAPIIDUnknown, model.KindAPI, api.Name, NoteOtherGateway)
	}
	return j.forbid(CodeAPIIDUnknown, kind, name, "")
}

func (j *judge) unknownHost() bool {
	if label, vpce, ok := executeAPI(plain(j.a.Host), j.g.Region, j.s.Base); ok && !vpce {
		return j.unknownID(label)
	}
	kind, name := j.component()
	return j.forbid(CodeHostUnknown, kind, name, NoteHostElsewhere)
}
