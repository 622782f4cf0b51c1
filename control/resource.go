// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/model"
	"postern.dev/postern/model/tree"
)

const (
	defaultPage = 500
	maxPage     = 1000
)

// view is a resource as the API shows it: without secrets, with its conditions.
func view(o model.Object, p *registry.Published) (wire.Resource, error) {
	n, err := model.ToTree(o, false)
	if err != nil {
		return wire.Resource{}, err
	}
	h := o.Base()
	r := wire.Resource{
		APIVersion: model.Version, Kind: o.Kind(), Metadata: h.Metadata,
		Spec: []byte("{}"), Status: h.Status, Revision: h.Revision,
	}
	if spec := n.Get("spec"); spec != nil {
		r.Spec = spec.AppendJSON(nil)
	}
	r.Status.Conditions = p.ConditionsOf(model.RefOf(o))
	if o.Kind() == model.KindGateway {
		r.Status.Authorizations = model.Authorizations(p.Set(), h.Metadata.Name)
	}
	return r, nil
}

// show is view with what was heard of a SelfHostedGateway.
func (s *Server) show(o model.Object, p *registry.Published) (wire.Resource, error) {
	r, err := view(o, p)
	if err == nil && o.Kind() == model.KindSelfHosted {
		r.Status.Instances = s.fleet.Instances(r.Metadata.Name)
		r.Status.Conditions = s.fleetConditions(r.Metadata.Name, r.Status.Conditions, r.Status.Instances)
	}
	return r, err
}

func (c *call) ref() model.Ref { return model.Ref{Kind: c.kind, Name: c.name()} }

func absent(r model.Ref) error {
	return &model.Error{Kind: model.NotFound, Ref: r, Msg: "it does not exist; postern get " + r.Kind.Plural() + " lists what does"}
}

func getResource(c *call) (any, error) {
	o := c.opts.Registry.Head().Set.Object(c.ref())
	if o == nil {
		return nil, absent(c.ref())
	}
	c.etag = o.Base().Revision
	return c.show(o, c.opts.Registry.Published())
}

func listResources(c *call) (any, error) {
	q := c.r.URL.Query()
	labels, err := parseLabels(q["label"])
	if err != nil {
		return nil, err
	}
	limit := defaultPage
	if v := q.Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxPage {
			return nil, &model.Error{Kind: model.Invalid, Field: "limit", Msg: quote(v) + " is not a number from 1 to " + strconv.Itoa(maxPage)}
		}
	}
	h, p := c.opts.Registry.Head(), c.opts.Registry.Published()
	out := wire.List{Revision: h.Revision, Items: []wire.Resource{}}
	after := q.Get("continue")
	for _, o := range h.Set.Objects() {
		b := o.Base()
		if o.Kind() != c.kind || after != "" && b.Metadata.Name <= after || !labelled(b.Metadata.Labels, labels) {
			continue
		}
		if len(out.Items) == limit {
			out.Continue = out.Items[limit-1].Metadata.Name
			break
		}
		r, err := c.show(o, p)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, r)
	}
	return out, nil
}

// parseLabels reads filters such as team=a; a key alone asks that the label is
// there.
func parseLabels(filters []string) (map[string]*string, error) {
	out := map[string]*string{}
	for _, f := range filters {
		for one := range strings.SplitSeq(f, ",") {
			key, value, ok := strings.Cut(one, "=")
			if key == "" {
				return nil, &model.Error{Kind: model.Invalid, Field: "label", Msg: quote(f) + " is not of the form key=value or key"}
			}
			out[key] = nil
			if ok {
				out[key] = &value
			}
		}
	}
	return out, nil
}

func labelled(have map[string]string, want map[string]*string) bool {
	for k, v := range want {
		got, ok := have[k]
		if !ok || v != nil && got != *v {
			return false
		}
	}
	return true
}

// putResource creates or replaces one resource.
func putResource(c *call) (any, error) {
	o, err := c.resource()
	if err != nil {
		return nil, err
	}
	if got := model.RefOf(o); got != c.ref() {
		return nil, &model.Error{Kind: model.Invalid, Ref: got, Msg: "the path names " + c.ref().String() + "; send a body with that kind and name"}
	}
	return c.write(o)
}

// postResource creates one resource of the path's kind.
func postResource(c *call) (any, error) {
	o, err := c.resource()
	if err != nil {
		return nil, err
	}
	if o.Kind() != c.kind {
		return nil, &model.Error{Kind: model.Invalid, Ref: model.RefOf(o), Msg: "the path is for the kind " + string(c.kind)}
	}
	c.r.Header.Set("If-None-Match", "*")
	return c.write(o)
}

func (c *call) resource() (model.Object, error) {
	n, err := c.tree(maxManifests)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, &model.Error{Kind: model.Invalid, Msg: "the body is empty; send a resource"}
	}
	os, err := objects([]*tree.Node{n})
	if err != nil {
		return nil, err
	}
	return os[0], nil
}

func (c *call) write(o model.Object) (any, error) {
	ref := model.RefOf(o)
	_, res, err := c.apply([]model.Object{o}, false, func(h *registry.Head) error {
		var revision int64
		if was := h.Set.Object(ref); was != nil {
			revision = was.Base().Revision
		}
		return c.matches(ref, revision)
	})
	if err != nil {
		return nil, err
	}
	for _, ch := range res.Changes {
		if ch.Ref == ref && ch.Before == nil {
			c.status = http.StatusCreated
			c.w.Header().Set("Location", "/v1/"+ref.Kind.Plural()+"/"+ref.Name)
		}
	}
	return c.stored(ref, res)
}

// stored is the resource as it stands after a change.
func (c *call) stored(ref model.Ref, res *registry.Result) (any, error) {
	o := c.opts.Registry.Head().Set.Object(ref)
	if o == nil { // somebody was quick to delete it
		o = res.Set.Object(ref)
	}
	c.etag = o.Base().Revision
	return c.show(o, res.Published)
}

func deleteResource(c *call) (any, error) {
	ref := c.ref()
	cascade, err := c.flag("cascade")
	if err != nil {
		return nil, err
	}
	_, err = c.delete(wire.Deletion{Resources: []model.Ref{ref}, Cascade: cascade}, false, func(h *registry.Head) error {
		if was := h.Set.Object(ref); was != nil {
			return c.matches(ref, was.Base().Revision)
		}
		return nil
	})
	return nil, err
}

// objects makes resources of documents, or returns all that is wrong in them.
func objects(nodes []*tree.Node) ([]model.Object, error) {
	var errs model.Errors
	out := make([]model.Object, 0, len(nodes))
	seen := map[model.Ref]bool{}
	for _, n := range nodes {
		o, es := model.FromTree(n, "")
		errs = append(errs, es...)
		if len(es) > 0 {
			continue
		}
		// Places in the request are of no use, and would keep all of it.
		o.Base().Source, o.Base().Position = nil, model.Position{}
		ref := model.RefOf(o)
		if seen[ref] {
			errs = append(errs, &model.Error{Kind: model.Invalid, Ref: ref, Msg: "it stands twice in the request; send it once"})
		}
		seen[ref] = true
		out = append(out, o)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return slices.Clip(out), nil
}
