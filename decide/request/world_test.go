// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	compiled "postern.dev/postern/snapshot/iam"
	"postern.dev/postern/snapshot/operation"
)

const (
	base     = "postern.internal"
	vpce     = "vpce-0123456789abcdef0"
	otherID  = "vpce-aaaaaaaaaaaaaaaaa"
	privID   = "privateapi"
	pubID    = "publicapi1"
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*"}]}`
	denyVpce = `{"Version":"2012-10-17","Statement":[
		{"Sid":"OnlyCorp","Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*","Condition":{"StringNotEquals":{"aws:sourceVpce":"` + vpce + `"}}},
		{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*"}]}`
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func policy(t testing.TB, doc, api string) *compiled.Policy {
	t.Helper()
	p, err := iam.Parse([]byte(doc), iam.Options{Region: "eu-1", Account: request.Account, API: api})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func table(t testing.TB, doc string) *operation.Table {
	t.Helper()
	d, err := openapi.Import([]byte(doc), openapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d.Table
}

// world is a Gateway with a private and a public API, two Endpoints and some
// Domains.
type world struct {
	*snapshot.Snapshot
	g          *snapshot.Gateway
	corp, lab  *snapshot.Endpoint
	priv, pub  *snapshot.API
	shop, vip  *snapshot.Domain
	origin     snapshot.Origin
	prod       *snapshot.Stage
	deployment *snapshot.Deployment
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{origin: snapshot.Origin{
		Network: "corp", Endpoint: "corp", Host: "laptop",
		Source: netip.MustParseAddrPort("10.1.0.9:40000"), Local: netip.MustParseAddrPort("10.1.0.4:443"),
	}}
	n := &snapshot.Network{Name: "corp", ID: "vpc-1"}
	w.g = &snapshot.Gateway{
		Name: "main", Region: "eu-1", Host: "main." + base, PublicAccess: true,
		Hosts: map[string]*snapshot.Host{}, APIs: map[string]*snapshot.API{},
	}
	w.Snapshot = &snapshot.Snapshot{Base: base, Gateways: map[string]*snapshot.Gateway{"main": w.g}, Endpoints: map[string]*snapshot.Endpoint{}}
	host := func(h *snapshot.Host) { w.g.Hosts[h.Name] = h }
	host(&snapshot.Host{Kind: snapshot.HostOwn, Name: w.g.Host})
	endpoint := func(name, id string) *snapshot.Endpoint {
		e := &snapshot.Endpoint{Name: name, ID: id, Gateway: w.g, Network: n, Connection: snapshot.Approved, Host: id + "-abcdefgh.execute-api.eu-1.vpce." + base}
		host(&snapshot.Host{Kind: snapshot.HostEndpoint, Name: e.Host, Endpoint: e})
		w.Endpoints[name] = e
		return e
	}
	w.corp, w.lab = endpoint("corp", vpce), endpoint("lab", otherID)
	api := func(name, id, kind string, d *snapshot.Deployment) *snapshot.API {
		a := &snapshot.API{Name: name, ID: id, Type: kind, Gateway: w.g, Host: id + ".execute-api.eu-1." + base, Stages: map[string]*snapshot.Stage{}}
		a.Stages["prod"] = &snapshot.Stage{Name: "prod", API: a, Deployment: d}
		w.g.APIs[id] = a
		host(&snapshot.Host{Kind: snapshot.HostExecuteAPI, Name: a.Host, API: a})
		return a
	}
	pets := table(t, `"example:petstore"`)
	w.deployment = &snapshot.Deployment{Number: 1, Policy: policy(t, denyVpce, privID), Operations: pets}
	w.priv = api("orders", privID, model.Private, w.deployment)
	w.prod = w.priv.Stages["prod"]
	w.pub = api("shop", pubID, model.Regional, &snapshot.Deployment{Number: 1, Operations: pets})
	a := privID + "-" + vpce + ".execute-api.eu-1." + base
	host(&snapshot.Host{Kind: snapshot.HostAssociated, Name: a, API: w.priv, Endpoint: w.corp})
	w.g.Paths = []snapshot.PathMapping{
		{Path: "shop/v1", API: w.pub, Stage: w.pub.Stages["prod"], StageName: "prod"},
		{Path: "broken", API: w.pub, StageName: "gone"},
		{Path: "orders", API: w.priv, Stage: w.prod, StageName: "prod"},
	}
	snapshot.SortMappings(w.g.Paths)
	w.shop = &snapshot.Domain{Name: "*.shop.example", ID: "d1", Type: model.Edge, Mappings: []snapshot.PathMapping{
		{Path: "orders/v2/items/categories", API: w.pub, Stage: w.pub.Stages["prod"], StageName: "prod"},
		{Path: "orders/v1/items", API: w.pub, Stage: w.pub.Stages["prod"], StageName: "prod"},
		{Path: "", API: w.pub, Stage: w.pub.Stages["prod"], StageName: "prod"},
	}}
	snapshot.SortMappings(w.shop.Mappings)
	host(&snapshot.Host{Kind: snapshot.HostDomain, Name: w.shop.Name, Domain: w.shop})
	w.vip = &snapshot.Domain{
		Name: "orders.corp.example", ID: "d2", Resource: "orders.corp.example+d2", ARN: "arn:aws:execute-api:eu-1:000000000000:/domainnames/orders.corp.example+d2", Type: model.Private, Endpoints: []*snapshot.Endpoint{w.corp},
		Mappings: []snapshot.PathMapping{{Path: "o", API: w.priv, Stage: w.prod, StageName: "prod"}},
	}
	snapshot.SortMappings(w.vip.Mappings)
	host(&snapshot.Host{Kind: snapshot.HostDomain, Name: w.vip.Name, Domain: w.vip})
	return w
}

// at makes an arrival at e; nil is the public address.
func (w *world) at(e *snapshot.Endpoint, method, host, path string) *request.Arrival {
	o := w.origin
	if e == nil {
		o = snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:40000")}
	} else {
		o.Endpoint = e.Name
	}
	return &request.Arrival{
		Gateway: w.g, Endpoint: e, Origin: &o, TLS: true, SNI: host, Host: host,
		Method: method, Path: path, Now: now,
	}
}
