// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/model/tree"
)

// manifests reads the resources of a body of type wire.Manifests.
func (c *call) manifests() ([]model.Object, error) {
	n, err := c.tree(maxManifests)
	if err != nil {
		return nil, err
	}
	// The list is taken as it was parsed: a copy of each document would double
	// the largest request.
	if n == nil || n.Kind != tree.Map || len(n.Fields) != 1 || n.Fields[0].Name != "resources" || n.Fields[0].Value.Kind != tree.List {
		return nil, &model.Error{Kind: model.Invalid, Msg: `send an object with the one field "resources", a list of manifests`}
	}
	return objects(n.Fields[0].Value.Items)
}

func applyManifests(c *call) (any, error) {
	dry, err := c.flag("dryRun")
	if err != nil {
		return nil, err
	}
	os, err := c.manifests()
	if err != nil {
		return nil, err
	}
	warnings, res, err := c.apply(os, dry, c.matchesStore)
	if err != nil {
		return nil, err
	}
	c.etag = res.Revision
	conditions := res.Published.ConditionsOf
	if dry {
		conditions = c.foresee(res.Set)
	}
	out := applied(os, warnings, res, dry, conditions)
	refs := make([]model.Ref, len(out.Results))
	for i, r := range out.Results {
		refs[i] = r.Ref
	}
	out.Warnings = append(out.Warnings, warn(refs, conditions)...)
	return out, nil
}

// matchesStore judges If-Match against the revision of the whole store.
func (c *call) matchesStore(h *registry.Head) error { return c.matches(model.Ref{}, h.Revision) }

// apply makes resources what they are in os: all of it or none.
func (c *call) apply(os []model.Object, dry bool, check func(*registry.Head) error) (warnings []string, res *registry.Result, err error) {
	for _, o := range os {
		if err := c.may(token.Writing(o.Kind()), ""); err != nil {
			return nil, nil, &model.Error{Kind: model.Denied, Ref: model.RefOf(o), Msg: err.(*model.Error).Msg}
		}
	}
	res, err = c.opts.Registry.Update(c.r.Context(), dry, func(h *registry.Head) (*registry.Edit, error) {
		if err := check(h); err != nil {
			return nil, err
		}
		return c.edit(h, os, &warnings), nil
	})
	return warnings, res, err
}

// edit is the change that writes os, and the Deployments that follow from it.
func (c *call) edit(h *registry.Head, os []model.Object, warnings *[]string) *registry.Edit {
	puts := make([]model.Object, len(os))
	for i, o := range os {
		puts[i] = keepDeployment(h.Set, o)
	}
	return &registry.Edit{
		Change:  model.Change{Puts: puts},
		Restore: c.may(token.Administer, "") == nil,
		Server: func(next *model.Set) (model.Change, error) {
			next = next.Clone()
			*warnings = autoDeploy(h.Set, next)
			return settle(h.Set, next), nil
		},
	}
}

// keepDeployment leaves a Stage where postern deploy has pointed it, if the
// manifest does not say.
func keepDeployment(stored *model.Set, o model.Object) model.Object {
	s, ok := o.(*model.Stage)
	if !ok || s.Spec.Deployment != "" {
		return o
	}
	was, ok := model.Get[*model.Stage](stored, s.Metadata.Name)
	if !ok || was.Spec.Deployment == "" {
		return o
	}
	s = model.Clone(s)
	s.Spec.Deployment = was.Spec.Deployment
	return s
}

// applied tells what became of each resource that was sent, and of those that
// changed along with them; of conditions it takes what keeps them from being
// served.
func applied(os []model.Object, warnings []string, res *registry.Result, dry bool, conditions func(model.Ref) []model.Condition) wire.Applied {
	out := wire.Applied{Revision: res.Revision, DryRun: dry, Results: []wire.Outcome{}, Warnings: warnings}
	changes := map[model.Ref]registry.Change{}
	for _, ch := range res.Changes {
		changes[ch.Ref] = ch
	}
	add := func(ref model.Ref) {
		ch, changed := changes[ref]
		delete(changes, ref)
		x := wire.Outcome{Ref: ref, Action: wire.Unchanged}
		if changed {
			x.Action = action(ch)
		}
		if o := res.Set.Object(ref); o != nil {
			x.ID = o.Base().Status.ID
		}
		if x.Action != wire.Deleted {
			x.NotReady = registry.NotReady(conditions(ref))
		}
		out.Results = append(out.Results, x)
	}
	for _, o := range os {
		add(model.RefOf(o))
	}
	for _, ch := range res.Changes {
		if _, left := changes[ch.Ref]; left && (ch.Before == nil || ch.After == nil) {
			add(ch.Ref)
		}
	}
	return out
}

func action(ch registry.Change) wire.Action {
	switch {
	case ch.Before == nil:
		return wire.Created
	case ch.After == nil:
		return wire.Deleted
	default:
		return wire.Configured
	}
}

func deleteManifests(c *call) (any, error) {
	dry, err := c.flag("dryRun")
	if err != nil {
		return nil, err
	}
	var in wire.Deletion
	if err := c.read(&in); err != nil {
		return nil, err
	}
	for i, r := range in.Resources {
		if k, ok := model.ParseKind(string(r.Kind)); ok {
			in.Resources[i].Kind = k
		} else {
			return nil, &model.Error{Kind: model.Invalid, Field: "resources[" + strconv.Itoa(i) + "].kind", Msg: quote(string(r.Kind)) + " is no kind of resource"}
		}
	}
	res, err := c.delete(in, dry, c.matchesStore)
	if err != nil {
		return nil, err
	}
	out := wire.Applied{Revision: res.Revision, DryRun: dry, Results: []wire.Outcome{}, Revoked: revoked(res.Changes), Warnings: orphaned(res.Changes)}
	for _, ch := range res.Changes {
		if ch.After == nil {
			out.Results = append(out.Results, wire.Outcome{Ref: ch.Ref, Action: wire.Deleted})
		}
	}
	c.etag = res.Revision
	return out, nil
}

// delete removes resources together, and what the server made for them.
func (c *call) delete(d wire.Deletion, dry bool, check func(*registry.Head) error) (*registry.Result, error) {
	if d.Cascade && !slices.ContainsFunc(d.Resources, func(r model.Ref) bool { return r.Kind == model.KindAuthorization }) {
		return nil, &model.Error{Kind: model.Invalid, Field: "cascade", Msg: "is for SecurityGroupAuthorizations and none is named; leave it out"}
	}
	for _, ref := range d.Resources {
		if err := c.may(token.Writing(ref.Kind), ""); err != nil {
			return nil, &model.Error{Kind: model.Denied, Ref: ref, Msg: err.(*model.Error).Msg}
		}
	}
	return c.opts.Registry.Update(c.r.Context(), dry, func(h *registry.Head) (*registry.Edit, error) {
		if err := check(h); err != nil {
			return nil, err
		}
		edit := &registry.Edit{Change: model.Change{Cascade: d.Cascade}}
		for _, ref := range d.Resources {
			if h.Set.Object(ref) != nil || !d.Absent {
				edit.Change.Deletes = append(edit.Change.Deletes, ref)
			}
		}
		edit.Server = func(next *model.Set) (model.Change, error) { return settle(h.Set, next.Clone()), nil }
		return edit, nil
	})
}

// planManifests tells what an apply would change, and whose reachability.
func planManifests(c *call) (any, error) {
	os, err := c.manifests()
	if err != nil {
		return nil, err
	}
	if c.opts.Reach == nil {
		return nil, unavailable("compare reachability")
	}
	var before *model.Set
	var warnings []string
	res, err := c.opts.Registry.Update(c.r.Context(), true, func(h *registry.Head) (*registry.Edit, error) {
		before = h.Set
		return c.edit(h, os, &warnings), nil
	})
	if err != nil {
		return nil, err
	}
	out := wire.Plan{Revision: res.Revision, Changes: []wire.Change{}, Gains: []answer.Opening{}, Losses: []answer.Opening{}, Warnings: warnings}
	refs := make([]model.Ref, 0, len(os)+len(res.Changes))
	for _, o := range os {
		refs = append(refs, model.RefOf(o))
	}
	for _, ch := range res.Changes {
		refs = append(refs, ch.Ref)
		x := wire.Change{Ref: ch.Ref, Action: action(ch)}
		if ch.Before != nil && ch.After != nil {
			if x.Fields, err = differences(ch.Before, ch.After); err != nil {
				return nil, err
			}
		}
		out.Changes = append(out.Changes, x)
	}
	if len(res.Changes) > 0 {
		gains, losses, err := c.opts.Reach(c.r.Context(), before, res.Set)
		if err != nil {
			return nil, err
		}
		out.Gains, out.Losses = append(out.Gains, gains...), append(out.Losses, losses...)
	}
	// An apply warns of what it leaves as it is, too.
	conditions := c.foresee(res.Set)
	out.Warnings = append(out.Warnings, warn(refs, conditions)...)
	told := map[model.Ref]bool{}
	for _, r := range refs {
		if x := registry.NotReady(conditions(r)); x != nil && res.Set.Has(r) && !told[r] {
			told[r] = true
			out.Warnings = append(out.Warnings, r.String()+" is not ready: "+x.Message)
		}
	}
	return out, nil
}

func unavailable(what string) error {
	return &model.Error{Kind: model.Unavailable, Msg: "this server does not " + what}
}

// differences lists the fields in which two states of a resource differ,
// secrets redacted.
func differences(before, after model.Object) ([]wire.Field, error) {
	var sides [2]any
	for i, o := range []model.Object{before, after} {
		text, err := model.Encode(o)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &sides[i]); err != nil {
			return nil, err
		}
	}
	var out []wire.Field
	err := differ(sides[0], sides[1], "", &out)
	if err == nil && len(out) == 0 {
		// Only what is redacted differs.
		out = []wire.Field{{Path: "spec", Before: []byte(`"[redacted]"`), After: []byte(`"[redacted]"`)}}
	}
	return out, err
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	if strings.Contains(name, ".") {
		return path + "[" + strconv.Quote(name) + "]"
	}
	return path + "." + name
}
