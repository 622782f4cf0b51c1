// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"errors"
	"fmt"
	"testing"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

func TestWhereAnOperationIsSent(t *testing.T) {
	w := newWorld(t)
	w.prod.Variables = map[string]string{"host": "v.example:8080"}
	w.Backends = map[string]*snapshot.Backend{"b": {Name: "b", Protocol: "https", Targets: []snapshot.Target{{Host: "10.0.0.1", Port: 8443}, {Host: "10.0.0.2", Port: 8443}}}}
	for in, want := range map[string]string{
		`{"type":"mock"}`: "",
		`{"type":"http_proxy","uri":"http://a.example/{x}"}`:    "http a.example 80",
		`{"type":"http_proxy","uri":"https://[fd00::1]:444"}`:   "https fd00::1 444",
		`{"type":"http","uri":"http://${stageVariables.host}"}`: "http v.example 8080",
		`{"type":"http","uri":"http://${stageVariables.gone}"}`: "none",
		`{"type":"http","uri":"backend://b/x"}`:                 "https 10.0.0.1 8443 https 10.0.0.2 8443",
		`{"type":"http","uri":"backend://gone/x"}`:              "none",
		`{"type":"aws_proxy","uri":"arn:aws:lambda"}`:           "none",
	} {
		w.deployment.Operations = table(t, `{"openapi":"3.0.1","paths":{"/a/{x}":{"get":{"x-amazon-apigateway-integration":`+in+`}}}}`)
		v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.priv.Host, "/prod/a/1"), false)
		ds, err := v.Destinations(w.Snapshot)
		got := ""
		if err != nil {
			got = "none"
			if !errors.Is(err, request.ErrNoBackend) {
				t.Errorf("%s: %v", in, err)
			}
		}
		for i, d := range ds {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprint(d.Scheme, " ", d.Host, " ", d.Port)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
