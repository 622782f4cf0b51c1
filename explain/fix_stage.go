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
		return t.deploy(v.API, v.Stage.Name, nil)
	}
	var out []change
	if v.Domain == nil {
		for _, name := range keys(v.API.Stages) {
			out = append(out, ask(t, "put the Stage "+name+" before the path", t.url(t.to.scheme, t.to.host, "/"+name+t.to.path), nil))
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
		if first != "" {
			out = append(out, t.deploy(v.API, first, nil)...)
		}
	}
	return out
}

// deploy proposes a Deployment of an API as it is saved, or as changed is, to
// a Stage.
func (t *trail) deploy(a *snapshot.API, stage string, changed *model.API) []change {
	api := changed
	if api == nil {
		var ok bool
		if api, ok = object[*model.API](t, a.Name); !ok {
			return nil
		}
	}
	next := 1
	for _, d := range model.All[*model.Deployment](t.w.Set) {
		if d.Spec.API == a.Name && d.Spec.Number >= next {
			next = d.Spec.Number + 1
		}
	}
	copied, errs := model.Expand(api, t.w.Set)
	if len(errs) > 0 {
		return nil
	}
	d := &model.Deployment{
		Head: model.Head{Metadata: model.Metadata{Name: a.Name + "." + itoa(next)}},
		Spec: model.DeploymentSpec{API: a.Name, Number: next, Spec: copied.(*model.API).Spec},
	}
	st, ok := object[*model.Stage](t, a.Name+"."+stage)
	if !ok {
		st = &model.Stage{Head: model.Head{Metadata: model.Metadata{Name: a.Name + "." + stage}}}
	}
	st.Spec.Deployment, st.Spec.AutoDeploy = model.DeploymentRef(itoa(next)), false
	return []change{{
		summary:  "deploy API/" + a.Name + " to the Stage " + stage,
		puts:     []model.Object{d, st},
		commands: []string{"postern deploy " + a.Name + " --stage " + stage},
	}}
}

// proposeMethod proposes the nearest operations that the API has.
func proposeMethod(t *trail) []change {
	v := &t.web.verdict
	if v.Deployment == nil {
		return nil
	}
	var out []change
	for _, op := range operation.Nearest(v.Deployment.Operations, v.Method, v.Path, 3) {
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

// redeployed is change c of an API's policy together with the Deployment that
// puts it into effect.
func (t *trail) redeployed(api *model.API, summary string, op answer.PatchOperation) []change {
	v := &t.web.verdict
	if v.Stage == nil {
		return nil
	}
	d := t.deploy(v.API, v.Stage.Name, api)
	if len(d) == 0 {
		return nil
	}
	c := put(summary+", and deploy it", api, op)
	c.puts = append(c.puts, d[0].puts...)
	c.commands = append(c.commands, d[0].commands...)
	return []change{c}
}
