// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// change is one proposal: of resources, of the request, or of the world around.
type change struct {
	summary string
	// puts are changed copies of resources, patch is the same for people.
	puts  []model.Object
	patch []answer.Patch
	// request is another way to ask, ask the question that results.
	request *answer.RequestChange
	ask     *answer.Question
	// linkUp says that the change is to bring up links.
	linkUp bool
	// access says that the change is to give the self-hosted gateway a token.
	access bool
	// egress is what the server is to be allowed to dial.
	egress   []netip.Prefix
	commands []string
	// shifts says that what follows moves to the place of what is taken out, so
	// that the next blocker may stand at the same place.
	shifts bool
	// apart says that the change is another way than the rest, to be told also
	// where it needs more than they do.
	apart bool
	// or is a larger change, to try if this one is not enough.
	or *change
}

// object returns a copy of a resource to change.
func object[T model.Object](t *trail, name string) (T, bool) {
	o, ok := model.Get[T](t.w.Set, name)
	if !ok {
		return o, false
	}
	return model.Clone(o), true
}

// put is a change of one resource.
func put(summary string, o model.Object, ops ...answer.PatchOperation) change {
	ref := model.RefOf(o)
	c := change{summary: summary, puts: []model.Object{o}, patch: []answer.Patch{{Resource: ref.String(), Ops: ops}}}
	c.commands = edits(ref)
	return c
}

// byHand says where the manifests are to be changed, in place of the commands
// that fetch them from a server: there is none.
func (t *trail) byHand(f *answer.Fix) {
	f.Patch = slices.Clone(f.Patch) // the proposal keeps its own
	for i := range f.Patch {
		kind, name, _ := strings.Cut(f.Patch[i].Resource, "/")
		if o := t.w.Set.Object(model.Ref{Kind: model.Kind(kind), Name: name}); o != nil {
			f.Patch[i].At = o.Base().Locate("metadata.name").String()
		}
	}
	f.Commands = slices.DeleteFunc(slices.Clone(f.Commands), func(c string) bool {
		return strings.HasPrefix(c, "postern get ") || strings.HasPrefix(c, "postern apply ")
	})
}

// create is a change that adds a resource.
func create(summary string, o model.Object) change {
	ref := model.RefOf(o)
	return change{
		summary: summary, puts: []model.Object{o},
		patch: []answer.Patch{{Resource: ref.String(), Ops: []answer.PatchOperation{{Op: "add", Path: "", Value: document{
			APIVersion: model.Version, Kind: ref.Kind, Metadata: o.Base().Metadata, Spec: specOf(o),
		}}}}},
		commands: []string{"postern apply -f " + file(ref)},
	}
}

// document is a new resource as a manifest.
type document struct {
	APIVersion string         `json:"apiVersion"`
	Kind       model.Kind     `json:"kind"`
	Metadata   model.Metadata `json:"metadata"`
	Spec       any            `json:"spec"`
}

// specOf is the spec of what create makes.
func specOf(o model.Object) any {
	switch o := o.(type) {
	case *model.Peering:
		return o.Spec
	case *model.Domain:
		return o.Spec
	case *model.Stage:
		return o.Spec
	case *model.Zone:
		return o.Spec
	case *model.Product:
		return o.Spec
	case *model.Subscription:
		return o.Spec
	case *model.SecurityGroupAuthorization:
		return o.Spec
	}
	return nil
}

// edits are the commands that change a resource by hand.
func edits(ref model.Ref) []string {
	f := file(ref)
	return []string{
		"postern get " + strings.ToLower(string(ref.Kind)) + "/" + ref.Name + " -o yaml > " + f,
		"postern apply -f " + f + "   # once it is changed",
	}
}

func file(ref model.Ref) string {
	return strings.ToLower(string(ref.Kind)) + "-" + strings.TrimPrefix(ref.Name, "*.") + ".yaml"
}

// ask is a change of the request's URL and headers; an empty value takes a
// header out.
func ask(t *trail, summary, url string, headers map[string]string) change {
	q := t.q
	q.URL = url
	q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h answer.Header) bool {
		_, replaced := headers[strings.ToLower(h.Name)]
		return replaced
	})
	r := &answer.RequestChange{Method: q.Method, URL: url}
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		v := headers[k]
		if v != "" {
			q.Headers = append(q.Headers, answer.Header{Name: k, Value: v})
			if r.Headers == nil {
				r.Headers = map[string]string{}
			}
			r.Headers[k] = v
		}
		if _, sent := header(&t.q, k); sent && v == "" {
			r.Without = append(r.Without, k)
		}
	}
	return change{summary: summary, ask: &q, request: r}
}
