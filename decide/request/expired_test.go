// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"testing"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

func TestCertificateOfADomainCountsInItsTimeOnly(t *testing.T) {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	g := &snapshot.Gateway{Name: "main", PublicAccess: true, Hosts: map[string]*snapshot.Host{}}
	d := &snapshot.Domain{Name: "pets.example", Type: "edge", NotBefore: at, NotAfter: at.AddDate(0, 1, 0)}
	g.Hosts[d.Name] = &snapshot.Host{Kind: snapshot.HostDomain, Name: d.Name, Domain: d}
	s := &snapshot.Snapshot{Base: "postern.internal", Gateways: map[string]*snapshot.Gateway{"main": g}}
	ask := func(now time.Time, verify bool) string {
		v := request.Judge(s, &request.Arrival{
			Gateway: g, Origin: &snapshot.Origin{}, TLS: true, SNI: d.Name, Host: d.Name, Path: "/", Method: "GET", Now: now, Verify: verify,
		}, false)
		return v.Code()
	}
	for _, x := range []struct {
		when   string
		now    time.Time
		verify bool
		want   string
	}{
		{"before it begins", at.Add(-time.Second), true, request.CodeExpired},
		{"as it begins", at, true, request.CodeAPIIDUnknown},
		{"as it ends", d.NotAfter, true, request.CodeAPIIDUnknown},
		{"after", d.NotAfter.Add(time.Second), true, request.CodeExpired},
		{"after, of a caller that does not look", d.NotAfter.Add(time.Second), false, request.CodeAPIIDUnknown},
	} {
		if got := ask(x.now, x.verify); got != x.want {
			t.Errorf("%s: %s, not %s", x.when, got, x.want)
		}
	}
}
