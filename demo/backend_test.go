// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"os"
	"path/filepath"
	"testing"

	"postern.dev/postern/explain/answer"
)

// byAddress has an API that calls its own Gateway by its address, for which no
// certificate is; one of its operations does not look at that.
const byAddress = `
apiVersion: postern/v1
kind: Network
metadata: {name: corp}
spec: {cidrs: [10.80.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: nodes}
spec: {network: corp, cidr: 10.80.1.0/28}
---
apiVersion: postern/v1
kind: Host
metadata: {name: desk}
spec: {subnet: nodes}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: main}
spec: {region: eu-1, networkMode: internal, subnet: nodes, privateAddress: 10.80.1.4}
---
apiVersion: postern/v1
kind: Backend
metadata: {name: itself}
spec: {network: corp, protocol: https, targets: [{host: 10.80.1.4, port: 443}]}
---
apiVersion: postern/v1
kind: API
metadata: {name: a}
spec:
  gateway: main
  type: regional
  path: a
  openapi:
    openapi: 3.0.3
    info: {title: A, version: "1"}
    paths:
      /strict:
        get:
          responses: {"200": {description: ""}}
          x-amazon-apigateway-integration: {type: http_proxy, httpMethod: GET, uri: "backend://itself/status-0123456789abcdef"}
      /lax:
        get:
          responses: {"200": {description: ""}}
          x-amazon-apigateway-integration:
            type: http_proxy
            httpMethod: GET
            uri: backend://itself/
            tlsConfig: {insecureSkipVerification: true}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: a.prod}
spec: {autoDeploy: true}
`

// A backend's certificate is looked at, or not, by whoever explains as by the
// Gateway that calls.
func TestBackendsCertificateIsJudgedAlike(t *testing.T) {
	s := stage(t)
	file := filepath.Join(t.TempDir(), "by-address.yaml")
	if err := os.WriteFile(file, []byte(byAddress), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, s, file)
	for _, want := range []struct {
		path, code string
		status     int
	}{
		{"strict", "backend/tls", 500},
		{"lax", "backend/ok", 403}, // of the Gateway, which serves nothing under its address
	} {
		q := answer.Question{From: "host/desk", URL: "https://${Gateway/main.host}/a/" + want.path}
		if err := s.Call(t.Context(), Call{Question: q}); err != nil {
			t.Fatal(err)
		}
		o := &s.Last
		if o.Seen.Status != want.status || o.Answer.Code != want.code {
			t.Errorf("%s: saw %s, explained %s %d, want %d, %s", want.path, Describe(o.Seen), o.Answer.Code, o.Answer.Symptom.Status, want.status, want.code)
		}
	}
}
