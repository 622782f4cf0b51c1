// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/control/token"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

func errorKind(err error) model.ErrorKind {
	if es := model.AsErrors(err); len(es) > 0 {
		return es[0].Kind
	}
	return ""
}

func TestApplyCreatesConfiguresAndLeavesAlone(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	os := read(t, world)
	first, err := c.Apply(t.Context(), os, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range first.Results {
		if o.Action != wire.Created || o.Ref != model.RefOf(os[i]) {
			t.Errorf("result %d: %+v, want %s created", i, o, model.RefOf(os[i]))
		}
	}
	if p.served.Load().Hosts["laptop"] == nil {
		t.Error("the answer came before what it tells of was served")
	}
	again, err := c.Apply(t.Context(), os, false)
	if err != nil {
		t.Fatal(err)
	}
	if again.Revision != first.Revision {
		t.Errorf("applying the same again made revision %d of %d", again.Revision, first.Revision)
	}
	for _, o := range again.Results {
		if o.Action != wire.Unchanged {
			t.Errorf("%s: %s, want unchanged", o.Ref, o.Action)
		}
	}
	changed := read(t, strings.Replace(world, "team: a", "team: b", 1))
	third, err := c.Apply(t.Context(), changed, false)
	if err != nil {
		t.Fatal(err)
	}
	if third.Results[0].Action != wire.Configured || third.Results[1].Action != wire.Unchanged {
		t.Errorf("results: %+v", third.Results[:2])
	}
}

func TestApplyIsAtomicAndNamesEveryError(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	_, err := c.Apply(t.Context(), read(t, world+`
---
apiVersion: postern/v1
kind: Host
metadata: {name: lost}
spec: {subnet: nowhere}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: outside}
spec: {network: corp, cidr: 172.16.0.0/24}
`), false)
	var es model.Errors
	if !errors.As(err, &es) || len(es) != 2 {
		t.Fatalf("got %v, want two errors", err)
	}
	var refs []string
	for _, e := range es {
		refs = append(refs, e.Ref.String()+" "+e.Field)
	}
	slices.Sort(refs)
	if diff := cmp.Diff([]string{"Host/lost spec.subnet", "Subnet/outside spec.cidr"}, refs); diff != "" {
		t.Error(diff)
	}
	if n := p.opts.Registry.Head().Set.Len(); n != 0 {
		t.Errorf("%d resources are stored", n)
	}
}

func TestWhatWouldNotCompileIsNotStored(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	bad := strings.Replace(world, "openapi: example:petstore", `openapi: example:petstore, policy: {Version: "2012-10-17", Statement: [{Effect: Maybe, Action: "*", Resource: "*", Principal: "*"}]}`, 1)
	_, err := c.Apply(t.Context(), read(t, bad), false)
	es := model.AsErrors(err)
	if len(es) == 0 || es[0].Kind != model.Invalid || es[0].Ref.Name != "pets" || !strings.HasPrefix(es[0].Field, "spec.policy") {
		t.Errorf("got %v", err)
	}
	if n := p.opts.Registry.Head().Set.Len(); n != 0 {
		t.Errorf("%d resources are stored", n)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	was := p.opts.Registry.Head().Revision
	got, err := c.Apply(t.Context(), read(t, world), true)
	if err != nil {
		t.Fatal(err)
	}
	if !got.DryRun || len(got.Results) != 7 || got.Results[0].Action != wire.Created {
		t.Errorf("got %+v", got)
	}
	if p.opts.Registry.Head().Revision != was {
		t.Error("the store has changed")
	}
}

func TestConcurrentAppliersLoseNothing(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	var wg sync.WaitGroup
	const appliers = 12
	for i := range appliers {
		wg.Go(func() {
			text := fmt.Sprintf("apiVersion: postern/v1\nkind: Backend\nmetadata: {name: b%d}\nspec: {targets: [{host: 10.1.1.1, port: 80}]}\n", i)
			os := read(t, text)
			if _, err := c.Apply(t.Context(), os, false); err != nil {
				t.Error(err)
			}
			if _, err := c.Get(t.Context(), model.RefOf(os[0])); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := c.List(t.Context(), model.KindBackend)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != appliers {
		t.Errorf("%d Backends, want %d", len(list), appliers)
	}
}

func TestRevisionGuardsEveryWrite(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	get := p.call("GET", "/v1/hosts/laptop", p.admin, "")
	tag := get.Header().Get("Etag")
	if get.Code != 200 || tag == "" {
		t.Fatalf("GET: %d, ETag %q", get.Code, tag)
	}
	body := `{"apiVersion":"postern/v1","kind":"Host","metadata":{"name":"laptop","labels":{"n":"1"}},"spec":{"subnet":"apps"}}`
	if same := p.call("PUT", "/v1/hosts/laptop", p.admin, get.Body.String(), "If-Match", tag); same.Code != 200 || same.Header().Get("Etag") != tag {
		t.Errorf("PUT of what GET gave: %d %s", same.Code, same.Body)
	}
	put := p.call("PUT", "/v1/hosts/laptop", p.admin, body, "If-Match", tag)
	if put.Code != 200 || put.Header().Get("Etag") == tag {
		t.Fatalf("PUT with the right tag: %d %s, ETag %s", put.Code, put.Body, put.Header().Get("Etag"))
	}
	for name, rec := range map[string]struct{ method, path, body string }{
		"put":     {"PUT", "/v1/hosts/laptop", body},
		"delete":  {"DELETE", "/v1/hosts/laptop", ""},
		"apply":   {"POST", "/v1/apply", `{"resources":[` + body + `]}`},
		"deletes": {"POST", "/v1/delete", `{"resources":[{"kind":"Host","name":"laptop"}]}`},
		"deploy":  {"POST", "/v1/apis/pets/deploy", `{"stage":"prod"}`},
		"approve": {"POST", "/v1/endpoints/corp-ep/approve", ""},
		"reject":  {"POST", "/v1/endpoints/corp-ep/reject", ""},
	} {
		got := p.call(rec.method, rec.path, p.admin, rec.body, "If-Match", `"1"`)
		if got.Code != http.StatusPreconditionFailed {
			t.Errorf("%s with an old tag: %d %s", name, got.Code, got.Body)
		}
	}
	if got := p.call("PUT", "/v1/hosts/laptop", p.admin, body, "If-None-Match", "*"); got.Code != http.StatusPreconditionFailed {
		t.Errorf("PUT of what exists, if none: %d", got.Code)
	}
	if got := p.call("POST", "/v1/hosts", p.admin, body); got.Code != http.StatusPreconditionFailed {
		t.Errorf("POST of what exists: %d", got.Code)
	}
	if got := p.call("DELETE", "/v1/hosts/laptop", p.admin, "", "If-Match", put.Header().Get("Etag")); got.Code != http.StatusNoContent {
		t.Errorf("DELETE with the right tag: %d %s", got.Code, got.Body)
	}
	if got := p.call("PUT", "/v1/hosts/laptop", p.admin, body, "If-Match", "*"); got.Code != http.StatusPreconditionFailed {
		t.Errorf("PUT of what is gone, if any: %d", got.Code)
	}
	if got := p.call("POST", "/v1/host", p.admin, body); got.Code != http.StatusCreated || got.Header().Get("Location") != "/v1/hosts/laptop" {
		t.Errorf("POST: %d, Location %q", got.Code, got.Header().Get("Location"))
	}
}

// bearer makes a token of a role that the API gives none of.
func (p *plane) bearer(r token.Role, subject string) model.Secret {
	p.t.Helper()
	made, value, err := token.New(token.Request{Role: r, Subject: subject}, p.now())
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := json.Marshal(made)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.opts.Registry.Keep(p.t.Context(), store.Change{IfRevision: store.Any, Puts: []store.Put{{Key: tokenKey(made.ID), IfRevision: store.Any, Data: data}}}); err != nil {
		p.t.Fatal(err)
	}
	return value
}

// TestEveryRouteAsksForItsRole calls each route with a token of each role.
func TestEveryRouteAsksForItsRole(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	tokens := map[token.Role]model.Secret{
		token.Admin: p.admin, token.Publisher: p.token(token.Publisher, ""), token.Viewer: p.token(token.Viewer, ""),
		token.Host: p.token(token.Host, "host/laptop"), token.SelfHosted: p.bearer(token.SelfHosted, "selfhosted/x"),
	}
	for _, rt := range p.routes {
		for _, k := range []model.Kind{model.KindNetwork, model.KindBackend} {
			need := rt.operation
			if rt.writing {
				need = token.Writing(k)
			}
			if !rt.perKind && k != model.KindNetwork {
				continue
			}
			path := strings.NewReplacer("{kind}", k.Plural(), "{name}", "laptop", "{id}", "x").Replace(rt.path)
			for _, r := range token.Roles {
				want := need == "" || r.Allows(need)
				if r == token.Host && rt.subject == "link" {
					want = false // bound to a Host
				}
				got := p.call(rt.method, path, tokens[r], "")
				if denied := got.Code == http.StatusForbidden; denied == want {
					t.Errorf("%s %s as %s: %d, allowed should be %v", rt.method, path, r, got.Code, want)
				}
			}
			if got := p.call(rt.method, path, model.Secret{}, ""); (got.Code == http.StatusUnauthorized) != (need != "") {
				t.Errorf("%s %s without a token: %d", rt.method, path, got.Code)
			}
		}
	}
}

func TestPublisherMayNotTouchNetworks(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	c := p.client(p.token(token.Publisher, ""))
	_, err := c.Apply(t.Context(), read(t, world), false)
	if errorKind(err) != model.Denied {
		t.Errorf("apply with a Network: %v", err)
	}
	if _, err := c.DeleteAll(t.Context(), wire.Deletion{Resources: []model.Ref{{Kind: model.KindHost, Name: "laptop"}}}, false); errorKind(err) != model.Denied {
		t.Errorf("delete of a Host: %v", err)
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"}); err != nil {
		t.Errorf("deploy: %v", err)
	}
	if _, err := c.ApproveEndpoint(t.Context(), "corp-ep"); errorKind(err) != model.Denied {
		t.Errorf("approve: %v", err)
	}
}

func TestDeployNumbersPointsAndFollows(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	d, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if d.Deployment != 1 || d.Stage != "prod" || !d.StageCreated {
		t.Errorf("first: %+v", d)
	}
	if got := p.served.Load().APIs["pets"].Stages["prod"].Deployment; got == nil || got.Number != 1 {
		t.Errorf("served: %+v", got)
	}
	// Its only Stage is meant when none is named.
	d, err = c.Deploy(t.Context(), "pets", wire.Deploy{})
	if err != nil || d.Deployment != 2 || d.Stage != "prod" || d.StageCreated {
		t.Errorf("second: %+v, %v", d, err)
	}
	// A manifest of the Stage that does not say leaves it where it is.
	stage := "apiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.prod}\nspec: {variables: {a: b}}\n"
	if _, err := c.Apply(t.Context(), read(t, stage), false); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(t.Context(), model.Ref{Kind: model.KindStage, Name: "pets.prod"})
	if err != nil || got.Status.Deployment != 2 || !strings.Contains(string(got.Spec), `"deployment":2`) {
		t.Errorf("Stage after its manifest: %s, status %+v, %v", got.Spec, got.Status, err)
	}
	// A number is not used again.
	if err := c.Delete(t.Context(), model.Ref{Kind: model.KindDeployment, Name: "pets.2"}, 0); errorKind(err) != model.Conflict {
		t.Errorf("delete of a Deployment that is served: %v", err)
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "beta"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{}); errorKind(err) != model.Invalid {
		t.Errorf("deploy without a name to one of two Stages: %v", err)
	}
	// Deleting the API takes its Deployments along, once nothing refers to it.
	if _, err := c.DeleteAll(t.Context(), wire.Deletion{Resources: []model.Ref{
		{Kind: model.KindAPI, Name: "pets"}, {Kind: model.KindStage, Name: "pets.prod"}, {Kind: model.KindStage, Name: "pets.beta"},
	}}, false); err != nil {
		t.Fatal(err)
	}
	if left := p.opts.Registry.Head().Set.Names(model.KindDeployment); len(left) != 0 {
		t.Errorf("Deployments left: %v", left)
	}
}

func TestPrivateAPIWithoutPolicyIsNotDeployed(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, strings.Replace(world, "type: regional", "type: private", 1)), false); err != nil {
		t.Fatal(err)
	}
	_, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"})
	e, ok := errors.AsType[*model.Error](err)
	if !ok || e.Msg != "Private REST API doesn't have a resource policy attached to it" {
		t.Fatalf("got %v", err)
	}
	if p.opts.Registry.Head().Set.Has(model.Ref{Kind: model.KindStage, Name: "pets.prod"}) {
		t.Error("a Stage was made")
	}
}

func TestAutoDeployMakesADeploymentOfEachChange(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	auto := world + "---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.dev}\nspec: {autoDeploy: true}\n"
	serves := func(want int) {
		t.Helper()
		d := p.served.Load().APIs["pets"].Stages["dev"].Deployment
		if d == nil || d.Number != want {
			t.Fatalf("served: %+v, want Deployment %d", d, want)
		}
	}
	for range 2 { // the second changes nothing
		if _, err := c.Apply(t.Context(), read(t, auto), false); err != nil {
			t.Fatal(err)
		}
		serves(1)
	}
	changed := strings.Replace(auto, "openapi: example:petstore", "openapi: example:petstore, keyRequired: true", 1)
	if _, err := c.Apply(t.Context(), read(t, changed), false); err != nil {
		t.Fatal(err)
	}
	serves(2)
	// What may not be deployed is a warning, and what was served stays.
	got, err := c.Apply(t.Context(), read(t, strings.Replace(auto, "type: regional", "type: private", 1)), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(matching(got.Warnings, "not deployed", compile.ErrNoPolicy.Error())) != 1 || len(matching(got.Warnings, "takes effect with")) > 0 {
		t.Errorf("warnings: %q", got.Warnings)
	}
	serves(2)
}

func TestEndpointIsApprovedAndRejected(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	ref := model.Ref{Kind: model.KindEndpoint, Name: "corp-ep"}
	if got, err := c.Get(t.Context(), ref); err != nil || got.Status.Connection != model.Pending {
		t.Fatalf("at first: %s, %v", got.Status.Connection, err)
	}
	if got, err := c.ApproveEndpoint(t.Context(), "corp-ep"); err != nil || got.Status.Connection != model.Approved {
		t.Errorf("approved: %s, %v", got.Status.Connection, err)
	}
	if got, err := c.RejectEndpoint(t.Context(), "corp-ep"); err != nil || got.Status.Connection != model.Rejected {
		t.Errorf("rejected: %s, %v", got.Status.Connection, err)
	}
	if _, err := c.ApproveEndpoint(t.Context(), "none"); errorKind(err) != model.NotFound {
		t.Errorf("one that does not exist: %v", err)
	}
}

func TestJoinTellsHowToReachTheHub(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	host := p.client(p.token(token.Host, "host/laptop"))
	made, err := host.Join(t.Context(), model.Ref{Kind: model.KindHost, Name: "laptop"}, wire.Join{})
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Joined{
		Name: "laptop", Network: "corp", Addresses: []string{"10.0.1.4/32"}, PublicKey: made.PublicKey, PrivateKey: made.PrivateKey,
		Hub:        wire.Hub{PublicKey: p.served.Load().Networks["corp"].Hub.PublicKey, Endpoint: "192.0.2.1:51820"},
		DNS:        []string{"10.0.0.2"},
		AllowedIPs: []string{"10.0.0.0/16", "192.168.0.0/24"}, MTU: 1420,
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	if made.PrivateKey == "" || p.served.Load().Hosts["laptop"].PublicKey != made.PublicKey {
		t.Error("the pair was not made or is not served")
	}
	shown := p.call("GET", "/v1/hosts/laptop", p.admin, "").Body.String()
	if !strings.Contains(shown, made.PublicKey) || strings.Contains(shown, made.PrivateKey) || strings.Contains(p.log.String(), made.PrivateKey) {
		t.Error("the status lacks the public key, or the private key shows")
	}
	// Somebody else's key is refused, and so is a key over that of the manifest.
	if _, err := c.Join(t.Context(), model.Ref{Kind: model.KindLink, Name: "hq"}, wire.Join{PublicKey: made.PublicKey}); errorKind(err) != model.Conflict {
		t.Errorf("a key used twice: %v", err)
	}
	link, err := c.Join(t.Context(), model.Ref{Kind: model.KindLink, Name: "hq"}, wire.Join{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.0.0.0/16"}, link.AllowedIPs); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Join(t.Context(), model.Ref{Kind: model.KindHost, Name: "laptop"}, wire.Join{PublicKey: "x"}); errorKind(err) != model.Invalid {
		t.Errorf("no key at all: %v", err)
	}
	if _, err := host.Join(t.Context(), model.Ref{Kind: model.KindHost, Name: "other"}, wire.Join{}); errorKind(err) != model.Denied {
		t.Errorf("another Host's: %v", err)
	}
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	var text strings.Builder
	for i := range 7 {
		fmt.Fprintf(&text, "---\napiVersion: postern/v1\nkind: Backend\nmetadata: {name: b%d, labels: {even: %q}}\nspec: {targets: [{host: 10.1.1.1, port: 80}]}\n", i, fmt.Sprint(i%2 == 0))
	}
	if _, err := c.Apply(t.Context(), read(t, text.String()), false); err != nil {
		t.Fatal(err)
	}
	names := func(items []wire.Resource) (out []string) {
		for _, r := range items {
			out = append(out, r.Metadata.Name)
		}
		return out
	}
	got, err := c.List(t.Context(), model.KindBackend, "even=true")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b0", "b2", "b4", "b6"}, names(got)); diff != "" {
		t.Error(diff)
	}
	var all []string
	next := ""
	for pages := 0; ; pages++ {
		rec := p.call("GET", "/v1/backends?limit=3&continue="+next, p.admin, "")
		var page wire.List
		if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil || len(page.Items) > 3 {
			t.Fatalf("%d items, %v", len(page.Items), err)
		}
		all = append(all, names(page.Items)...)
		if next = page.Continue; next == "" {
			break
		}
	}
	if len(all) != 7 || !slices.IsSorted(all) {
		t.Errorf("pages: %v", all)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "label==x"} {
		if rec := p.call("GET", "/v1/backends?"+bad, p.admin, ""); rec.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, rec.Code)
		}
	}
}

func TestGetShowsConditions(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	stage := "---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.prod}\n"
	if _, err := c.Apply(t.Context(), read(t, world+stage), false); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(t.Context(), model.Ref{Kind: model.KindNetwork, Name: "corp"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Status.Conditions) != 1 || !got.Status.Conditions[0].Status || got.Status.Conditions[0].Type != "Ready" {
		t.Errorf("a Network: %+v", got.Status.Conditions)
	}
	got, err = c.Get(t.Context(), model.Ref{Kind: model.KindStage, Name: "pets.prod"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(got.Status.Conditions, func(c model.Condition) bool { return c.Type == "Deployed" && !c.Status }) {
		t.Errorf("a Stage without a Deployment: %+v", got.Status.Conditions)
	}
}

func TestPlanTellsWhatWouldChange(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	got, err := c.Plan(t.Context(), read(t, world))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Changes) != 7 || len(got.Gains) != 1 || got.Gains[0].To != "API/pets" {
		t.Errorf("got %+v", got)
	}
	if p.opts.Registry.Head().Set.Len() != 0 {
		t.Fatal("planning stored something")
	}
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	got, err = c.Plan(t.Context(), read(t, strings.Replace(world, "192.168.0.0/24", "192.168.8.0/24", 1)))
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Change{{
		Ref: model.Ref{Kind: model.KindLink, Name: "hq"}, Action: wire.Configured,
		Fields: []wire.Field{{Path: "spec.cidrs[0]", Before: []byte(`"192.168.0.0/24"`), After: []byte(`"192.168.8.0/24"`)}},
	}}
	if diff := cmp.Diff(want, got.Changes); diff != "" {
		t.Error(diff)
	}
}

func TestQuestionsAreAskedOfWhatIsServed(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	done, err := c.Apply(t.Context(), read(t, world), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Explain(t.Context(), answer.Question{From: "host/laptop", URL: "https://x"})
	if err != nil || a.Verdict != answer.Allow || a.Revision != done.Revision || a.Code != "host/laptop" {
		t.Errorf("explain: %+v, %v", a, err)
	}
	for _, all := range []bool{false, true} {
		m, err := c.Matrix(t.Context(), "main", all)
		if err != nil || m.Gateway != "main" || m.Revision != done.Revision || !slices.Equal(m.Sources, []string{strconv.FormatBool(all)}) {
			t.Errorf("matrix: %+v, %v", m, err)
		}
	}
	if v, err := c.Verify(t.Context()); err != nil || !v.Holds || len(v.Results) != 1 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if _, err := c.Request(t.Context(), "abc"); errorKind(err) != model.NotFound {
		t.Errorf("why: %v", err)
	}
}

func TestTokensExpireAndAreRevoked(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	made, err := c.CreateToken(t.Context(), wire.NewToken{Role: "viewer", Lifetime: "1h", Comment: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	viewer := p.client(model.NewSecret(made.Value))
	if _, err := viewer.List(t.Context(), model.KindNetwork); err != nil {
		t.Fatal(err)
	}
	p.later.Store(int64(2 * time.Hour))
	if _, err := viewer.List(t.Context(), model.KindNetwork); errorKind(err) != model.Unauthenticated {
		t.Errorf("an expired token: %v", err)
	}
	p.later.Store(0)
	if err := c.RevokeToken(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := viewer.List(t.Context(), model.KindNetwork); errorKind(err) != model.Unauthenticated {
		t.Errorf("a revoked token: %v", err)
	}
	list, err := c.Tokens(t.Context())
	if err != nil || len(list) != 1 || list[0].Role != "admin" {
		t.Fatalf("tokens: %+v, %v", list, err)
	}
	if err := c.RevokeToken(t.Context(), list[0].ID); errorKind(err) != model.Conflict {
		t.Errorf("the last admin token: %v", err)
	}
	for _, bad := range []wire.NewToken{{Role: "root"}, {Role: "host"}, {Role: "admin", Lifetime: "soon"}} {
		if _, err := c.CreateToken(t.Context(), bad); errorKind(err) != model.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestAdminTokenIsKeptWhileItIsValid(t *testing.T) {
	p := newPlane(t)
	again, err := p.AdminToken(t.Context(), p.admin)
	if err != nil || again.Reveal() != p.admin.Reveal() {
		t.Errorf("another token was made, %v", err)
	}
	other, err := p.AdminToken(t.Context(), model.NewSecret("postern_lost"))
	if err != nil || other.Reveal() == p.admin.Reveal() {
		t.Errorf("no new token was made, %v", err)
	}
	if rec := p.call("GET", "/v1/networks", other, ""); rec.Code != 200 {
		t.Errorf("the new one: %d", rec.Code)
	}
}

func TestAuthorityIsMadeOnceAStore(t *testing.T) {
	s := mem.New(store.Limits{})
	t.Cleanup(func() { _ = s.Close() })
	a := newPlaneOn(t, s)
	b := newPlaneOn(t, s)
	if string(a.authority.RootPEM()) != string(b.authority.RootPEM()) {
		t.Error("the second start has another CA")
	}
}
