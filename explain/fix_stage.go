// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strconv"
	"strings"

	"postern.dev/postern/decide/operation"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	compiled "postern.dev/postern/snapshot/operation"
)

func itoa(n int) string { return strconv.Itoa(n) }

// proposeStage proposes a Stage in the path, or a Deployment for the one named.
func proposeStage(t *trail, s stop) []change {
	v := &t.web.verdict
	if v.API == nil {
		return nil
	}
	if s.code == request.CodeStageNotDeployed {
		if v.Stage == nil {
			return nil
		}
		return append(t.follow(v.API.Name+"."+v.Stage.Name), t.deploy(v.API, v.Stage.Name)...)
	}
	step := &v.Steps()[s.web]
	if step.Field != "" {
		return t.otherMapping(step)
	}
	var out []change
	for _, name := range keys(v.API.Stages) {
		c := ask(t, "put the Stage "+name+" before the path", t.url(t.to.scheme, t.to.host, "/"+name+t.to.path), nil)
		if _, rest, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/"); v.Path == trimSlash("/"+rest) {
			// What follows the first segment fits better: that was the Stage.
			c = ask(t, "name the Stage "+name+" in the path", t.url(t.to.scheme, t.to.host, "/"+name+"/"+rest), nil)
		}
		out = append(out, c)
	}
	if name, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/"); name != "" && (len(out) == 0 || v.Path != trimSlash(t.to.path)) {
		out = append(out, t.deploy(v.API, name)...)
	}
	return out
}

func trimSlash(path string) string {
	if p := strings.TrimRight(path, "/"); p != "" {
		return p
	}
	return "/"
}

// otherMapping proposes for a mapping whose Stage is missing one that there is,
// or to make it.
func (t *trail) otherMapping(step *request.Step) []change {
	v := &t.web.verdict
	var out []change
	for _, name := range keys(v.API.Stages) {
		if step.Component.Kind == model.KindAPI {
			if a, ok := object[*model.API](t, v.API.Name); ok {
				a.Spec.Stage = name
				out = append(out, put("let API/"+v.API.Name+" serve its Stage "+name+" there", a,
					answer.PatchOperation{Op: "add", Path: "/spec/stage", Value: name}))
			}
			continue
		}
		d, ok := object[*model.Domain](t, step.Component.Name)
		if !ok {
			continue
		}
		for i := range d.Spec.Mappings {
			m := &d.Spec.Mappings[i]
			if m.API == v.API.Name && v.API.Stages[m.Stage] == nil && "/"+strings.Trim(m.Path, "/") == "/"+strings.Trim(v.Base, "/") {
				m.Stage = name
				out = append(out, put("let Domain/"+step.Component.Name+" map to the Stage "+name, d,
					answer.PatchOperation{Op: "replace", Path: "/spec/mappings/" + itoa(i) + "/stage", Value: name}))
				break
			}
		}
	}
	return out
}

// follow proposes that a Stage follows its API, where nothing else can deploy.
func (t *trail) follow(stage string) []change {
	s, ok := object[*model.Stage](t, stage)
	if !ok || !t.w.AsWritten || follows(s) {
		return nil
	}
	s.Spec.Deployment = model.Latest
	return []change{put("let Stage/"+stage+" follow the newest Deployment", s,
		answer.PatchOperation{Op: "add", Path: "/spec/deployment", Value: string(model.Latest)})}
}

// follows tells whether a Stage serves the newest Deployment.
func follows(s *model.Stage) bool { return s.Spec.AutoDeploy || s.Spec.Deployment == model.Latest }

// deploy proposes a Deployment of an API as it is saved to a Stage.
func (t *trail) deploy(a *snapshot.API, stage string) []change {
	api, ok := object[*model.API](t, a.Name)
	if !ok {
		return nil
	}
	if name := a.Name + "." + stage; t.w.AsWritten {
		// There is no server to deploy to.
		if _, ok := model.Get[*model.Stage](t.w.Set, name); ok {
			return t.follow(name)
		}
		return []change{create("give API/"+a.Name+" the Stage "+stage, &model.Stage{
			Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.StageSpec{Deployment: model.Latest},
		})}
	}
	puts := t.deployment(api, stage)
	if puts == nil {
		return nil
	}
	return []change{{
		summary:  "deploy API/" + a.Name + " to the Stage " + stage,
		puts:     puts,
		commands: []string{"postern deploy " + a.Name + " --stage " + stage},
	}}
}

// deployment is what postern deploy writes: a copy of the API, and the Stage
// that serves it.
func (t *trail) deployment(api *model.API, stage string) []model.Object {
	name := api.Metadata.Name
	next := api.Status.Deployment
	for _, d := range model.All[*model.Deployment](t.w.Set) {
		if d.Spec.API == name {
			next = max(next, d.Spec.Number)
		}
	}
	next++
	d := &model.Deployment{
		Head: model.Head{Metadata: model.Metadata{Name: name + "." + itoa(next)}},
		Spec: model.DeploymentSpec{API: name, Number: next, Spec: model.Clone(api).Spec},
	}
	st, ok := object[*model.Stage](t, name+"."+stage)
	if !ok {
		st = &model.Stage{Head: model.Head{Metadata: model.Metadata{Name: name + "." + stage}}}
	}
	if !follows(st) {
		st.Spec.Deployment = model.DeploymentRef(itoa(next))
	}
	return []model.Object{d, st}
}

// proposeMethod proposes the operation that is saved but not deployed, the path
// without a Stage that stands there twice, and the nearest operations that the
// API has.
func proposeMethod(t *trail) []change {
	v := &t.web.verdict
	if v.Deployment == nil || v.Stage == nil {
		return nil
	}
	var out []change
	if savedDiffers(v) {
		out = t.deploy(v.API, v.Stage.Name)
	}
	if again, ok := strings.CutPrefix(v.Path, "/"+v.Stage.Name+"/"); ok && operation.Match(v.Deployment.Operations, v.Method, "/"+again).Operation != nil {
		return append(out, ask(t, "leave the Stage out of the path: it is named already", t.url(t.to.scheme, t.to.host, v.Base+"/"+again), nil))
	}
	for _, op := range nearest(v) {
		path := v.Base + fill(op.Path, v.Path)
		m := op.Method
		if m == "ANY" {
			m = v.Method
		}
		c := ask(t, "ask for "+m+" "+path, t.url(t.to.scheme, t.to.host, path), nil)
		c.ask.Method, c.request.Method = m, m
		out = append(out, c)
	}
	return out
}

// maxNearest is how many operations are proposed.
const maxNearest = 3

// nearest lists the operations that look like what was asked for: of the method
// that was asked if there are such, and preflights for preflights only.
func nearest(v *request.Verdict) []*compiled.Operation {
	var same, others []*compiled.Operation
	for _, op := range operation.Nearest(v.Deployment.Operations, v.Method, v.Path, 3*maxNearest) {
		switch op.Method {
		case v.Method, compiled.Any:
			same = append(same, op)
		case "OPTIONS":
		default:
			others = append(others, op)
		}
	}
	if len(same) == 0 || v.Route.Place {
		same = others
	}
	return first(same, maxNearest)
}

// fill puts segments of the asked path into the parameters of a template.
func fill(template, asked string) string {
	want, have := strings.Split(template, "/"), strings.Split(asked, "/")
	for i, s := range want {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		want[i] = "1"
		if i < len(have) && have[i] != "" {
			want[i] = have[i]
		}
	}
	return strings.Join(want, "/")
}

// savedDiffers tells whether what is saved of an API differs from what its
// Stage serves.
func savedDiffers(v *request.Verdict) bool { return v.Stage != nil && len(v.Stage.Stale) > 0 }

// redeployed is a change of an API's policy, with the Deployment that puts it
// into effect unless the Stage follows the API by itself.
func (t *trail) redeployed(api *model.API, summary string, ops ...answer.PatchOperation) []change {
	v := &t.web.verdict
	if v.Stage == nil {
		return nil
	}
	c := put(summary, api, ops...)
	name := api.Metadata.Name + "." + v.Stage.Name
	st, ok := model.Get[*model.Stage](t.w.Set, name)
	if ok && t.w.AsWritten {
		for _, f := range t.follow(name) {
			c.summary += ", and " + f.summary
			c.puts, c.patch = append(c.puts, f.puts...), append(c.patch, f.patch...)
		}
		return []change{c}
	}
	puts := t.deployment(api, v.Stage.Name)
	if puts == nil {
		return nil
	}
	c.puts = append(c.puts, puts...)
	if !ok || !st.Spec.AutoDeploy {
		c.summary += ", and deploy it"
		c.commands = append(c.commands, "postern deploy "+api.Metadata.Name+" --stage "+v.Stage.Name)
	}
	return []change{c}
}
