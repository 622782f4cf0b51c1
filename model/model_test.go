// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/model"
)

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]model.Ports{
		"443": {443, 443}, "8000-8100": {8000, 8100}, "8080/8080": {8080, 8080}, "80/9000": {80, 9000}, "1-65535": {1, 65535},
	} {
		if got, err := model.ParsePorts(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65536", "9000-80", "1-", "-1", "1-2-3", "a", " 1", "+1", "01", "-1/-1", "1 - 2"} {
		if got, err := model.ParsePorts(in); err == nil {
			t.Errorf("%q is read as %v", in, got)
		}
	}
}

func TestParsePeer(t *testing.T) {
	for in, want := range map[string]model.Peer{
		"10.0.0.0/8":   {Prefix: netip.MustParsePrefix("10.0.0.0/8")},
		"10.0.0.7":     {Prefix: netip.MustParsePrefix("10.0.0.7/32")},
		"fd00::1":      {Prefix: netip.MustParsePrefix("fd00::1/128")},
		"0.0.0.0/0":    {Prefix: netip.MustParsePrefix("0.0.0.0/0")},
		"group:web":    {Group: "web"},
		"tag:Internet": {Tag: model.TagInternet},
	} {
		if got, err := model.ParsePeer(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}

func TestReservedAreTheFirstFourAddressesAndTheLast(t *testing.T) {
	for prefix, want := range map[string][]string{
		"10.0.0.0/28":     {"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.15"},
		"fd00::10/125":    nil,
		"fd00:0:0:1::/64": {"fd00:0:0:1::", "fd00:0:0:1::3", "fd00::1:ffff:ffff:ffff:ffff"},
	} {
		p := netip.MustParsePrefix(prefix)
		for _, a := range want {
			if !model.Reserved(p, netip.MustParseAddr(a)) {
				t.Errorf("%s is not reserved in %s", a, prefix)
			}
		}
		if free := p.Masked().Addr().Next().Next().Next().Next(); model.Reserved(p, free) {
			t.Errorf("%s is reserved in %s", free, prefix)
		}
	}
}

func TestExpandReplacesWhatNamesAResourceAndNothingElse(t *testing.T) {
	stage := &model.Stage{Head: named("orders.prod")}
	stage.Status.ID = "stage-1"
	host := &model.Host{Head: named("app")}
	host.Status = model.Status{ID: "host-1", Addresses: []string{"10.0.0.4", "10.0.0.5"}}
	api := &model.API{Head: named("orders")}
	api.Status = model.Status{ID: "abc", Host: "abc.execute-api"}
	s := model.NewSet(stage, host, api)
	for in, want := range map[string]string{
		"https://${API/orders.host}/prod?x=${API/orders.id}": "https://abc.execute-api/prod?x=abc",
		"${Host/app.address}:80":                             "10.0.0.4:80",
		"${Stage/orders.prod.id}":                            "stage-1",
		"${aws:username} ${stageVariables.x} ${*}":           "${aws:username} ${stageVariables.x} ${*}",
		"${API/orders.name} ${Thing/x.id} ${API/orders}":     "${API/orders.name} ${Thing/x.id} ${API/orders}",
		"${ ${API/orders.id} ${":                             "${ abc ${",
		"$${API/orders.id}}":                                 "$abc}",
		"":                                                   "",
	} {
		if got, err := model.ExpandString(in, s); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"${API/order.id}":           `${API/order.id}: there is no API "order"; did you mean "orders"?`,
		"${Stage/orders.prod.host}": `${Stage/orders.prod.host}: Stage has no host; [Gateway Endpoint API Domain] have`,
		"${API/orders.address}":     `${API/orders.address}: API has no address; [Host Gateway Endpoint] have`,
	} {
		got, err := model.ExpandString(in, s)
		if err == nil || err.Error() != want || got != in {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestExpandReachesEveryStringAndLeavesTheOriginal(t *testing.T) {
	host := &model.Host{Head: named("app")}
	host.Status = model.Status{ID: "host-1", Addresses: []string{"10.0.0.4"}}
	b := &model.API{Head: named("a"), Spec: model.APISpec{
		Policy: json.RawMessage(`{"Resource":["${Host/app.id}","${aws:SourceIp}"]}`), Path: "x/${Host/app.address}",
	}}
	s := model.NewSet(host, b)
	x, errs := model.Expand(b, s)
	if errs != nil {
		t.Fatal(errs)
	}
	got := x.(*model.API).Spec
	if string(got.Policy) != `{"Resource":["host-1","${aws:SourceIp}"]}` || got.Path != "x/10.0.0.4" {
		t.Errorf("%s %s", got.Policy, got.Path)
	}
	if !bytes.Contains(b.Spec.Policy, []byte("${Host/app.id}")) {
		t.Error("the original was changed")
	}
	if same, _ := model.Expand(host, s); same != model.Object(host) {
		t.Error("a copy was made of what has nothing to replace")
	}
	want := []model.Referrer{{Ref: model.RefOf(b), Field: "spec.path"}, {Ref: model.RefOf(b), Field: "spec.policy"}}
	if d := cmp.Diff(want, model.Referrers(s, model.RefOf(host))); d != "" {
		t.Error(d)
	}
}

func TestIDsHaveTheirForm(t *testing.T) {
	src := bytes.NewReader(bytes.Repeat([]byte{0xff, 3, 250}, 1000))
	for _, ids := range []model.IDs{model.NamedIDs(), model.RandomIDs(src)} {
		for _, k := range model.Kinds {
			id, err := ids.NewID(model.Ref{Kind: k, Name: "x"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			o := model.New(k)
			o.Base().Status.ID = id
			for _, e := range model.Validate(model.NewSet(o)) {
				if e.Field == "status.id" {
					t.Error(e)
				}
			}
		}
	}
	if _, err := model.RandomIDs(bytes.NewReader(nil)).NewID(model.Ref{Kind: model.KindHost}, 0); err == nil {
		t.Error("no error without randomness")
	}
	one, _ := model.NamedIDs().NewID(model.Ref{Kind: model.KindAPI, Name: "x"}, 0)
	two, _ := model.NamedIDs().NewID(model.Ref{Kind: model.KindAPI, Name: "x"}, 1)
	if one == two {
		t.Error("a second attempt gives the same id")
	}
}

type sameIDs struct{}

func (sameIDs) NewID(r model.Ref, attempt int) (string, error) {
	return fmt.Sprintf("host-%017x", attempt), nil
}

func TestAnIDThatIsTakenIsNotGivenAgain(t *testing.T) {
	current := model.NewSet()
	head := []model.Object{
		&model.Network{Head: named("n"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}},
		&model.Subnet{Head: named("s"), Spec: model.SubnetSpec{Network: "n", CIDR: "10.0.0.0/24"}},
	}
	current, _, err := model.Admit(current, model.Change{Puts: head}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range []int{1, 1, 7, 2} {
		var puts []model.Object
		for i := range n {
			puts = append(puts, &model.Host{Head: named(fmt.Sprintf("h%d-%d", current.Len(), i)), Spec: model.HostSpec{Subnet: "s"}})
		}
		next, _, err := model.Admit(current, model.Change{Puts: puts}, model.Options{IDs: sameIDs{}})
		if err != nil {
			t.Fatal(err)
		}
		current = next
	}
	for _, h := range model.All[*model.Host](current) {
		if seen[h.Status.ID] {
			t.Errorf("%s is given twice", h.Status.ID)
		}
		seen[h.Status.ID] = true
	}
}

const pemKey = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"

func domain() *model.Domain {
	return &model.Domain{Head: named("a.example.com"), Spec: model.DomainSpec{
		Type: "regional", Mappings: []model.Mapping{{API: "a", Stage: "prod"}},
		TLS: &model.DomainTLS{Certificate: "-----BEGIN CERTIFICATE-----\n", Key: model.NewSecret(pemKey)},
	}}
}

func TestSecretsAreRevealedToTheStoreOnly(t *testing.T) {
	wire, err := model.Encode(domain())
	if err != nil || bytes.Contains(wire, []byte("secret")) {
		t.Fatalf("%s, %v", wire, err)
	}
	stored, err := model.EncodeStored(domain())
	if err != nil {
		t.Fatal(err)
	}
	back, err := model.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.(*model.Domain).Spec.TLS.Key.Reveal(); got != pemKey {
		t.Errorf("the key is %q", got)
	}
	if s := fmt.Sprintf("%v %+v %#v", domain(), domain().Spec.TLS, *domain().Spec.TLS); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

func TestARedactedSecretThatIsReadBackKeepsTheOneHeld(t *testing.T) {
	base := []model.Object{
		&model.Gateway{Head: named("g"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.API{Head: named("a"), Spec: model.APISpec{Gateway: "g", Type: "edge", OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: named("a.prod")},
	}
	wire, err := model.Encode(domain())
	if err != nil {
		t.Fatal(err)
	}
	redacted, err := model.Decode(wire)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = model.Admit(model.NewSet(), model.Change{Puts: append(base, redacted)}, model.Options{})
	if err == nil || !strings.Contains(err.Error(), "spec.tls.key: is redacted and the server has none") {
		t.Error(err)
	}
	current, _, err := model.Admit(model.NewSet(), model.Change{Puts: append(base, domain())}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, changed, err := model.Admit(current, model.Change{Puts: []model.Object{redacted}}, model.Options{}); err != nil || len(changed) > 0 {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestOnlyTheServerWritesStatus(t *testing.T) {
	n := &model.Network{Head: named("n"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}}
	n.Status = model.Status{Port: 5, Conditions: []model.Condition{{Type: "Ready"}}}
	current, _, err := model.Admit(model.NewSet(), model.Change{Puts: []model.Object{n}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := model.Get[*model.Network](current, "n")
	if got.Status.Port != 0 || got.Status.Conditions != nil {
		t.Errorf("%+v", got.Status)
	}
	next, changed, err := model.Admit(current, model.Change{Puts: []model.Object{n}}, model.Options{Server: true})
	if err != nil || len(changed) != 1 {
		t.Fatal(changed, err)
	}
	mine, _ := model.Get[*model.Network](next, "n")
	if mine.Status.Port != 5 || mine.Status.ID != got.Status.ID {
		t.Errorf("%+v", mine.Status)
	}
	// What the server wrote stays when the user writes again.
	again := model.Clone(n)
	again.Spec.InternetGateway = true
	again.Status = model.Status{}
	last, _, err := model.Admit(next, model.Change{Puts: []model.Object{again}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if x, _ := model.Get[*model.Network](last, "n"); x.Status.Port != 5 || x.Status.PublicAddress == "" {
		t.Errorf("%+v", x.Status)
	}
}

// A backup tells addresses; they are given where they fit and are free.
func TestABackupKeepsTheAddressesThatAreFree(t *testing.T) {
	host := func(name, explicit, told string) *model.Host {
		h := &model.Host{Head: named(name), Spec: model.HostSpec{Subnet: "s", Address: explicit}}
		if told != "" {
			h.Status.Addresses = []string{told}
		}
		return h
	}
	gateway := func(name, told string) *model.Gateway {
		g := &model.Gateway{Head: named(name), Spec: model.GatewaySpec{Region: "r"}}
		g.Status.PublicAddress = told
		return g
	}
	put := []model.Object{
		&model.Network{Head: named("n"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}},
		&model.Subnet{Head: named("s"), Spec: model.SubnetSpec{Network: "n", CIDR: "10.0.1.0/24"}},
		host("a", "", "10.0.1.9"), host("b", "", "10.0.1.4"), host("c", "", "10.0.1.4"), host("d", "", "10.9.9.9"),
		host("e", "", "10.0.1.2"), host("f", "10.0.1.7", ""), host("g", "", "10.0.1.7"), host("h", "", "nonsense"),
		gateway("a", "198.18.1.1"), gateway("b", "198.18.1.1"), gateway("c", "198.18.0.3"), gateway("d", "8.8.8.8"),
	}
	for restore, want := range map[bool]string{
		true:  "a 10.0.1.9 b 10.0.1.4 c 10.0.1.5 d 10.0.1.6 e 10.0.1.8 f 10.0.1.7 g 10.0.1.10 h 10.0.1.11 a 198.18.1.1 b 198.18.0.17 c 198.18.0.19 d 198.18.0.21",
		false: "a 10.0.1.4 b 10.0.1.5 c 10.0.1.6 d 10.0.1.8 e 10.0.1.9 f 10.0.1.7 g 10.0.1.10 h 10.0.1.11 a 198.18.0.16 b 198.18.0.18 c 198.18.0.20 d 198.18.0.22",
	} {
		s, _, err := model.Admit(model.NewSet(), model.Change{Puts: put}, model.Options{Deployments: restore})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range model.All[*model.Host](s) {
			got = append(got, h.Metadata.Name, h.Status.Addresses[0])
		}
		for _, g := range model.All[*model.Gateway](s) {
			got = append(got, g.Metadata.Name, g.Status.PublicAddress)
		}
		if x := strings.Join(got, " "); x != want {
			t.Errorf("restore %v:\ngot  %s\nwant %s", restore, x, want)
		}
	}
}

// That an Endpoint was shut out is kept, that it was let in is not believed.
func TestABackupOpensNoEndpoint(t *testing.T) {
	for told, want := range map[string]string{"": model.Pending, model.Approved: model.Pending, model.Pending: model.Pending, model.Rejected: model.Rejected, "x": model.Pending} {
		e := &model.Endpoint{Head: named("e"), Spec: model.EndpointSpec{Gateway: "g", Subnets: []string{"s"}}}
		e.Status.Connection = told
		s, _, err := model.Admit(model.NewSet(), model.Change{Puts: []model.Object{
			&model.Network{Head: named("n"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}},
			&model.Subnet{Head: named("s"), Spec: model.SubnetSpec{Network: "n", CIDR: "10.0.1.0/24"}},
			&model.Gateway{Head: named("g"), Spec: model.GatewaySpec{Region: "r", EndpointApproval: model.ApprovalManual}},
			e,
		}}, model.Options{Deployments: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := model.Get[*model.Endpoint](s, "e"); got.Status.Connection != want {
			t.Errorf("told %q: got %q, want %q", told, got.Status.Connection, want)
		}
	}
}

func TestDecodeIsStrictAndKeepsStatus(t *testing.T) {
	o, err := model.Decode([]byte(`{"apiVersion":"postern/v1","kind":"Stage","metadata":{"name":"a.b"},"spec":{"deployment":"3"},"status":{"id":"x","deployment":3}}`))
	if err != nil {
		t.Fatal(err)
	}
	if st := o.Base().Status; st.ID != "x" || st.Deployment != 3 {
		t.Errorf("%+v", st)
	}
	if o.Base().Position != (model.Position{}) || o.Base().Source != nil {
		t.Error("a place in a request is kept")
	}
	b, err := model.Encode(o)
	if want := `{"apiVersion":"postern/v1","kind":"Stage","metadata":{"name":"a.b"},"spec":{"deployment":3},"status":{"id":"x","deployment":3}}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	for in, want := range map[string]string{
		``:     "want one resource, got 0",
		`{}{}`: "want one resource, got 2",
		`{"apiVersion":"postern/v1","kind":"Stage","metadata":{"name":"a.b"},"spec":{"deployment":"newest"}}`: "Stage/a.b: spec.deployment: want the number of a Deployment or latest",
		"\xff": "this is not UTF-8 text",
		`{"a`:  "the document ends too early",
	} {
		_, err := model.Decode([]byte(in))
		var errs model.Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestCloneSharesNothingThatChanges(t *testing.T) {
	g := &model.SecurityGroup{Head: model.Head{Metadata: model.Metadata{Name: "g", Labels: map[string]string{"a": "b"}}}, Spec: model.SecurityGroupSpec{Rules: []model.Rule{{Ports: []string{"1"}}}}}
	c := model.Clone(g)
	c.Spec.Rules[0].Ports[0] = "2"
	c.Metadata.Labels["a"] = "c"
	if g.Spec.Rules[0].Ports[0] != "1" || g.Metadata.Labels["a"] != "b" {
		t.Errorf("%+v", g)
	}
	d := model.Clone(domain())
	if d.Spec.TLS.Key.Reveal() != pemKey {
		t.Error("the clone lost its key")
	}
}

func TestClonesOfASetDoNotSeeEachOther(t *testing.T) {
	a := model.NewSet(&model.Network{Head: named("x")})
	b := a.Clone()
	a.Put(&model.Network{Head: named("y")})
	b.Delete(model.Ref{Kind: model.KindNetwork, Name: "x"})
	c := b.Clone()
	b.Put(&model.Network{Head: named("z")})
	for s, want := range map[*model.Set]string{a: "x y", b: "z", c: ""} {
		if got := strings.Join(s.Names(model.KindNetwork), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
