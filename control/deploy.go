// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/model"
)

// deployAPI makes a Deployment and points a Stage at it.
func deployAPI(c *call) (any, error) {
	var in wire.Deploy
	if err := c.read(&in); err != nil {
		return nil, err
	}
	ref := model.Ref{Kind: model.KindAPI, Name: c.name()}
	var out wire.Deployed
	res, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		a, ok := model.Get[*model.API](h.Set, ref.Name)
		if !ok {
			return nil, absent(ref)
		}
		if err := c.matches(ref, a.Base().Revision); err != nil {
			return nil, err
		}
		stage := in.Stage
		if stage == "" {
			var err error
			if stage, err = ownStage(h.Set, a); err != nil {
				return nil, err
			}
		}
		next := h.Set.Clone()
		d, err := deploy(next, a, lineageOf(next).newest[ref.Name])
		if err != nil {
			return nil, err
		}
		out = wire.Deployed{API: ref.Name, Deployment: d.Spec.Number, Stage: stage}
		if stage != "" {
			out.StageCreated = point(next, ref.Name+"."+stage, d.Spec.Number)
		}
		own := settle(h.Set, next)
		return &registry.Edit{Server: func(*model.Set) (model.Change, error) { return own, nil }}, nil
	})
	if err != nil {
		return nil, err
	}
	out.Revision = res.Revision
	c.status = http.StatusCreated
	return out, nil
}

// ownStage is the Stage meant when none is named: the API's own, or its only
// one. It is empty if there is none.
func ownStage(s *model.Set, a *model.API) (string, error) {
	if a.Spec.Stage != "" {
		return a.Spec.Stage, nil
	}
	stages := lineageOf(s).stages[a.Metadata.Name]
	switch len(stages) {
	case 0:
		return "", nil
	case 1:
		return stages[0].ShortName(), nil
	}
	return "", &model.Error{
		Kind: model.Invalid, Ref: model.RefOf(a), Field: "stage",
		Msg: "it has " + strconv.Itoa(len(stages)) + " Stages; name the one to deploy to with --stage",
	}
}

// deploy adds a Deployment of a to next, whose newest one is last, if any. Its
// number is the next one ever, that of a deleted Deployment is not used again.
func deploy(next *model.Set, a *model.API, last *model.Deployment) (*model.Deployment, error) {
	if err := compile.Deployable(&a.Spec); err != nil {
		return nil, &model.Error{Kind: model.Invalid, Ref: model.RefOf(a), Field: "spec.policy", Msg: err.Error()}
	}
	n := a.Status.Deployment
	if last != nil {
		n = max(n, last.Spec.Number)
	}
	n++
	a = model.Clone(a)
	a.Status.Deployment = n
	next.Put(a)
	// What it refers to is copied too: a resource that is made again under the
	// same name has another id, and is not let in by what was deployed before.
	said, errs := saidBy(a, next)
	if len(errs) > 0 {
		return nil, errs
	}
	d := &model.Deployment{Spec: model.DeploymentSpec{API: a.Metadata.Name, Number: n, Spec: model.Clone(said).Spec}}
	d.Metadata.Name = a.Metadata.Name + "." + strconv.Itoa(n)
	next.Put(d)
	return d, nil
}

// saidBy is an API with every ${Kind/NAME.id} in it replaced.
func saidBy(a *model.API, s *model.Set) (*model.API, model.Errors) {
	x, errs := model.Expand(a, s)
	said, ok := x.(*model.API)
	if !ok {
		return a, errs
	}
	return said, errs
}

// point makes a Stage serve a Deployment, and reports whether it made the
// Stage. One that follows the newest Deployment goes on to do so.
func point(next *model.Set, stage string, number int) (created bool) {
	was, ok := model.Get[*model.Stage](next, stage)
	s := &model.Stage{}
	if ok {
		s = model.Clone(was)
	}
	s.Metadata.Name = stage
	if !s.Spec.AutoDeploy && s.Spec.Deployment != model.Latest {
		s.Spec.Deployment = model.DeploymentRef(strconv.Itoa(number))
	}
	next.Put(s)
	return !ok
}

// lineage is what belongs to each API, by its name.
type lineage struct {
	stages map[string][]*model.Stage
	newest map[string]*model.Deployment
}

func lineageOf(s *model.Set) lineage {
	l := lineage{map[string][]*model.Stage{}, map[string]*model.Deployment{}}
	for _, st := range model.All[*model.Stage](s) {
		api := model.APIName(st.Metadata.Name)
		l.stages[api] = append(l.stages[api], st)
	}
	for _, d := range model.All[*model.Deployment](s) {
		if n := l.newest[d.Spec.API]; n == nil || d.Spec.Number > n.Spec.Number {
			l.newest[d.Spec.API] = d
		}
	}
	return l
}

// autoDeploy makes a Deployment of each API that differs from its newest one
// and has a Stage that asks for that, if either was changed. What cannot be
// deployed is a warning, not a refusal: the Stage goes on to serve what it does.
func autoDeploy(stored, next *model.Set) (warnings []string) {
	all := lineageOf(next)
	for _, a := range model.All[*model.API](next) {
		changed := stored.Object(model.RefOf(a)) != a
		var follow []*model.Stage
		for _, s := range all.stages[a.Metadata.Name] {
			if s.Spec.AutoDeploy {
				follow = append(follow, s)
				changed = changed || stored.Object(model.RefOf(s)) != s
			}
		}
		last := all.newest[a.Metadata.Name]
		if !changed || len(follow) == 0 {
			continue
		}
		if said, errs := saidBy(a, next); last != nil && len(errs) == 0 && sameSpec(&last.Spec.Spec, &said.Spec) {
			continue
		}
		d, err := deploy(next, a, last)
		if err != nil {
			warnings = append(warnings, "not deployed: "+err.Error())
			continue
		}
		for _, s := range follow {
			point(next, s.Metadata.Name, d.Spec.Number)
		}
	}
	return warnings
}

// sameSpec compares what two states of an API say, not how it is spelt.
func sameSpec(a, b *model.APISpec) bool {
	var sides [2]any
	for i, s := range []*model.APISpec{a, b} {
		text, err := json.Marshal(s)
		if err != nil || json.Unmarshal(text, &sides[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(sides[0], sides[1])
}

// settle notes in next which Deployment each Stage serves, and returns all that
// the server has changed there.
func settle(stored, next *model.Set) model.Change {
	var own model.Change
	all := lineageOf(next)
	for name, d := range all.newest {
		// A backup brings Deployments; their numbers are not used again.
		if a, ok := model.Get[*model.API](next, name); ok && a.Status.Deployment < d.Spec.Number {
			a = model.Clone(a)
			a.Status.Deployment = d.Spec.Number
			next.Put(a)
		}
	}
	for _, s := range model.All[*model.Stage](next) {
		n, _ := s.Spec.Deployment.Number()
		if s.Spec.AutoDeploy || s.Spec.Deployment == model.Latest {
			n = 0
			if d := all.newest[model.APIName(s.Metadata.Name)]; d != nil {
				n = d.Spec.Number
			}
		}
		if s.Status.Deployment != n {
			s = model.Clone(s)
			s.Status.Deployment = n
			next.Put(s)
		}
	}
	for _, k := range []model.Kind{model.KindAPI, model.KindDeployment, model.KindStage} {
		for _, name := range next.Names(k) {
			ref := model.Ref{Kind: k, Name: name}
			if o := next.Object(ref); o != stored.Object(ref) {
				own.Puts = append(own.Puts, o)
			}
		}
	}
	return own
}
