// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// ErrNoPolicy is what deploying a private API without a policy answers.
//
//lint:ignore ST1005 the exact text that users know
var ErrNoPolicy = errors.New("Private REST API doesn't have a resource policy attached to it")

// apis compiles APIs, their Deployments and Stages.
func (b *build) apis() {
	apis := all[*model.API](b)
	b.out.APIs = make(map[string]*snapshot.API, len(apis))
	lines := make(map[string]*line, len(apis))
	for _, a := range apis {
		b.api(a)
		b.advise(a)
		lines[a.Metadata.Name] = &line{saved: a, compiled: b.out.APIs[a.Metadata.Name]}
	}
	for _, d := range all[*model.Deployment](b) {
		l := lines[d.Spec.API]
		if l != nil && (l.newest == nil || d.Spec.Number > l.newest.Spec.Number) {
			l.newest = d
		}
	}
	for _, s := range all[*model.Stage](b) {
		b.stage(s, lines)
	}
	for _, a := range apis {
		b.pending(a)
		b.path(a)
	}
	for _, g := range b.out.Gateways {
		snapshot.SortMappings(g.Paths)
	}
}

// line is an API with what its Stages can serve of it.
type line struct {
	saved    *model.API
	compiled *snapshot.API // nil if it did not compile
	newest   *model.Deployment
}

func (b *build) api(a *model.API) {
	g := b.out.Gateways[a.Spec.Gateway]
	if g == nil {
		b.absent(a, "spec.gateway", model.KindGateway, a.Spec.Gateway)
		return
	}
	x := &snapshot.API{
		Name: a.Metadata.Name, ID: a.Status.ID, Type: a.Spec.Type, Gateway: g,
		Host: a.Status.Host, Stages: map[string]*snapshot.Stage{},
	}
	for _, name := range a.Spec.Endpoints {
		e := b.out.Endpoints[name]
		if e == nil {
			// All that the list grants is a name, which this one does not give.
			b.advice(a, "EndpointNotReady", "spec.endpoints: Endpoint/"+name+
				" is absent or not ready, so the API has no name of its own there; look at its conditions")
			continue
		}
		x.Endpoints = append(x.Endpoints, e)
	}
	for _, e := range x.Endpoints {
		host := associatedName(x, e)
		g.Hosts[host] = &snapshot.Host{Kind: snapshot.HostAssociated, Name: host, API: x, Endpoint: e}
	}
	b.unserved(a, "spec.plugins", len(a.Spec.Plugins) > 0, "")
	g.APIs[x.ID] = x
	g.Hosts[x.Host] = &snapshot.Host{Kind: snapshot.HostExecuteAPI, Name: x.Host, API: x}
	b.out.APIs[x.Name] = x
}

// associatedName is <api id>-<endpoint id>.execute-api.<region>.<base>.
func associatedName(a *snapshot.API, e *snapshot.Endpoint) string {
	_, rest, _ := strings.Cut(a.Host, ".")
	return a.ID + "-" + e.ID + "." + rest
}

func (b *build) stage(s *model.Stage, lines map[string]*line) {
	api, short, _ := strings.Cut(s.Metadata.Name, ".")
	l := lines[api]
	if l == nil || l.compiled == nil {
		b.absent(s, "metadata.name", model.KindAPI, api)
		return
	}
	a, x := l.saved, l.compiled
	st := &snapshot.Stage{Name: short, API: x, Variables: s.Spec.Variables, Index: b.stages, AccessLog: b.accessLog(s, x.Gateway.AccessLog, s.Spec.AccessLog)}
	b.stages++
	x.Stages[short] = st
	st.Meter = snapshot.NoMeter
	if st.Throttle = throttle(s.Spec.Throttle); st.Throttle != nil {
		st.Qualified, st.Meter = s.Metadata.Name, b.meter("Stage/"+x.ID+"/"+short)
	}
	b.unserved(s, "spec.canary", len(s.Spec.Canary) > 0, "; all calls go to the Deployment")

	follows := s.Spec.Deployment == model.Latest || s.Spec.AutoDeploy
	switch {
	case b.opts.AsWritten && follows:
		b.assume["Stage/"+s.Metadata.Name+" serves the API as written"] = true
		d, err := b.deployment(x, &a.Spec, 0)
		if err != nil {
			b.fail(s, "CannotDeploy", err)
			return
		}
		st.Deployment = d
		return
	case b.opts.AsWritten:
		b.assume["Stage/"+s.Metadata.Name+" is not deployed: it does not follow the latest Deployment"] = true
	}

	d := b.served(s, l.newest)
	if d == nil {
		b.note(model.RefOf(s), model.Condition{
			Type: ConditionDeployed, Reason: "NoDeployment",
			Message: "the Stage has no Deployment; run: postern deploy " + api + " --stage " + short,
		})
		b.waits[api] = append(b.waits[api], waiting{stage: short})
		return
	}
	compiled, err := b.deployment(x, &d.Spec.Spec, d.Spec.Number)
	if err != nil {
		b.fail(s, "CannotServe", err)
		return
	}
	st.Deployment = compiled
	// It cannot fail: two specs can always be compared.
	st.Stale, _ = b.memo.stale.get(specPair{&d.Spec.Spec, &a.Spec}, func() ([]string, error) {
		return differences(&d.Spec.Spec, &a.Spec), nil
	})
	if len(st.Stale) > 0 {
		b.note(model.RefOf(s), model.Condition{
			Type: ConditionStale, Status: true, Reason: "SavedNotDeployed",
			Message: "API/" + api + " was changed after Deployment " + strconv.Itoa(d.Spec.Number) + " in " +
				strings.Join(st.Stale, ", ") + "; run: postern deploy " + api + " --stage " + short,
		})
		b.waits[api] = append(b.waits[api], waiting{short, d.Spec.Number, st.Stale})
	}
}

// served finds the Deployment that a Stage points at.
func (b *build) served(s *model.Stage, newest *model.Deployment) *model.Deployment {
	ref := s.Spec.Deployment
	if s.Spec.AutoDeploy || ref == model.Latest {
		return newest
	}
	if ref == "" {
		return nil
	}
	if n, ok := ref.Number(); ok && newest != nil && newest.Spec.Number == n {
		return newest
	}
	api, _, _ := strings.Cut(s.Metadata.Name, ".")
	d, _ := get[*model.Deployment](b, api+"."+string(ref))
	return d
}

// deploymentKey identifies what a compiled Deployment depends on; a spec is
// immutable, so its place stands for its content.
type deploymentKey struct {
	spec        *model.APISpec
	api, region string
}

// deployment compiles one copy of an API.
func (b *build) deployment(a *snapshot.API, spec *model.APISpec, number int) (*snapshot.Deployment, error) {
	return b.memo.deployments.get(deploymentKey{spec, a.ID, a.Gateway.Region}, func() (*snapshot.Deployment, error) {
		doc, err := b.memo.document(spec)
		if err != nil {
			return nil, err
		}
		raw := policyOf(spec, doc)
		if spec.Type == model.Private && !hasPolicy(raw) {
			return nil, ErrNoPolicy
		}
		policy, err := b.memo.policy(raw, policyScope{region: a.Gateway.Region, api: a.ID})
		if err != nil {
			return nil, &model.Error{Kind: model.Invalid, Field: "spec.policy", Msg: err.Error()}
		}
		return &snapshot.Deployment{
			Number: number, Policy: policy, Operations: doc.Table,
			DisableExecuteAPIEndpoint: spec.DisableExecuteAPIEndpoint, KeyRequired: spec.KeyRequired,
		}, nil
	})
}

// Deployable tells whether an API may be deployed: a private one needs a
// resource policy, of its own or in its document.
func Deployable(spec *model.APISpec) error {
	if spec.Type != model.Private || hasPolicy(spec.Policy) {
		return nil
	}
	doc, err := openapi.Import(spec.OpenAPI, openapi.Options{Backend: spec.Backend, KeyRequired: spec.KeyRequired})
	if err != nil {
		return err
	}
	if !hasPolicy(policyOf(spec, doc)) {
		return ErrNoPolicy
	}
	return nil
}

// policyOf is an API's policy: its own, or else its document's.
func policyOf(spec *model.APISpec, doc *openapi.Document) json.RawMessage {
	if hasPolicy(spec.Policy) {
		return spec.Policy
	}
	return doc.Policy
}

// hasPolicy tells whether a policy was written.
func hasPolicy(raw json.RawMessage) bool {
	t := bytes.TrimSpace(raw)
	return len(t) > 0 && !bytes.Equal(t, []byte("null")) && !bytes.Equal(t, []byte(`""`))
}

// specPair are two specs to compare; specs are immutable, so their places stand
// for their content.
type specPair struct{ served, saved *model.APISpec }

// differences lists the fields of an API that need a Deployment to take effect
// and in which served and saved differ. Its type is none of them: where an API
// is published holds for all its Stages, from the moment it is saved.
func differences(served, saved *model.APISpec) []string {
	var out []string
	add := func(differs bool, field string) {
		if differs {
			out = append(out, field)
		}
	}
	add(!sameJSON(served.OpenAPI, saved.OpenAPI), "spec.openapi")
	add(!sameJSON(served.Policy, saved.Policy), "spec.policy")
	add(served.Backend != saved.Backend, "spec.backend")
	add(served.KeyRequired != saved.KeyRequired, "spec.keyRequired")
	add(served.DisableExecuteAPIEndpoint != saved.DisableExecuteAPIEndpoint, "spec.disableExecuteApiEndpoint")
	add(!sameJSON(served.Plugins, saved.Plugins), "spec.plugins")
	return out
}

// sameJSON compares two JSON values, not their spelling.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, errP := json.Marshal(x) // object keys come out sorted
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && bytes.Equal(p, q)
}

// path adds an API with a base path to its Gateway's own host name.
func (b *build) path(a *model.API) {
	x := b.out.APIs[a.Metadata.Name]
	if x == nil || a.Spec.Path == "" {
		return
	}
	name := a.Spec.Stage
	if name == "" && len(x.Stages) == 1 {
		for only := range x.Stages {
			name = only
		}
	}
	x.Gateway.Paths = append(x.Gateway.Paths, snapshot.PathMapping{
		Path: strings.Trim(a.Spec.Path, "/"), API: x, Stage: x.Stages[name], StageName: name,
	})
}
