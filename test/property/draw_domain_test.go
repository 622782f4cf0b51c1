// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

func (d *draw) drawDomains() {
	for i := range 1 + d.IntN(3) {
		x := &model.Domain{Spec: model.DomainSpec{Type: pick(d, model.Regional, model.Edge, model.Private)}}
		x.Metadata.Name = pick(d, "shop.example.com", "*.wild.example.org", "vip.corp.example")
		if x.Spec.Type == model.Private {
			x.Metadata.Name = pick(d, "vip.corp.example", "in.example.com")
		}
		x.Metadata.Name = fmt.Sprintf("%s%d", x.Metadata.Name, i)
		gateway := ""
		for _, a := range d.apis {
			if (a.Spec.Type == model.Private) != (x.Spec.Type == model.Private) || gateway != "" && gateway != a.Spec.Gateway {
				continue
			}
			stage := d.stageOf(a)
			if stage == "" {
				continue
			}
			gateway = a.Spec.Gateway
			p := pick(d, "", "shop", "shop/v2", "o", "o/v1/items") + fmt.Sprint(len(x.Spec.Mappings))
			if len(x.Spec.Mappings) == 0 && d.one(2) {
				p = ""
			}
			x.Spec.Mappings = append(x.Spec.Mappings, model.Mapping{Path: p, API: a.Metadata.Name, Stage: stage})
		}
		if x.Spec.Type == model.Private {
			for _, e := range d.endpoints {
				if e.Spec.Gateway == gateway && !d.one(3) {
					x.Spec.Endpoints = append(x.Spec.Endpoints, e.Metadata.Name)
				}
			}
			if len(x.Spec.Endpoints) == 0 {
				continue
			}
			if d.one(2) {
				x.Spec.Policy = d.policy("")
			}
		}
		if len(x.Spec.Mappings) == 0 {
			continue
		}
		d.secure(x)
		d.domains = append(d.domains, x)
		d.put(x)
	}
}

// aboutDomain draws a request for a Domain from where it may be served.
func (d *draw) aboutDomain() answer.Question {
	x := pick(d, d.domains...)
	m := pick(d, x.Spec.Mappings...)
	a := d.apis[slices.IndexFunc(d.apis, func(a *model.API) bool { return a.Metadata.Name == m.API })]
	q := answer.Question{From: d.sourceFor(a), Insecure: d.one(3)}
	for _, h := range d.hosts {
		for _, e := range d.endpoints {
			if slices.Contains(x.Spec.Endpoints, e.Metadata.Name) && d.networkOf(e.Spec.Subnets[0]) == d.networkOf(h.Spec.Subnet) && !d.one(3) {
				q.From = "host/" + h.Metadata.Name
			}
		}
	}
	host := x.Metadata.Name
	if rest, ok := strings.CutPrefix(host, "*"); ok {
		host = "any" + rest
	}
	path := "/" + m.Path
	if m.Path == "" {
		path = ""
	}
	q.URL = "https://" + host + path + pick(d, "/pets", "/pets", "/pets/1", "/b0", "/", "")
	q.ClientCertSubject = d.certificateFor(host)
	switch d.IntN(12) {
	case 0:
		// Over a connection that named another host.
		q.Headers = []answer.Header{{Name: "Host", Value: host}}
		q.URL = "https://${Gateway/" + a.Spec.Gateway + ".host}" + path + "/pets"
	case 1:
		q.URL = "http" + strings.TrimPrefix(q.URL, "https")
	case 2:
		q.Headers = []answer.Header{{Name: "Host", Value: pick(d, "${Gateway/"+a.Spec.Gateway+".host}", "${API/"+a.Metadata.Name+".host}")}}
	}
	return q
}

// secure gives some Domains a certificate, and has some ask callers for theirs.
func (d *draw) secure(x *model.Domain) {
	if d.one(3) {
		x.Spec.TLS = &model.DomainTLS{Certificate: givenTo + x.Metadata.Name}
	}
	if d.one(3) {
		x.Spec.ClientCA = &model.ClientCA{Bundle: clientBundle, Mode: pick(d, model.ClientOptional, model.ClientRequired, model.ClientRequired)}
	}
}
