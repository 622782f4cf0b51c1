// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/instance"
)

func TestWhatWasAppliedAnswersTheFirstRequest(t *testing.T) {
	w := start(t, instance.Options{}, private)
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	c := w.client(internetCaller)
	for n := range 8 {
		name := fmt.Sprintf("new%d", n)
		w.apply(`
apiVersion: postern/v1
kind: Gateway
metadata: {name: ` + name + `}
spec: {region: eu-1, networkMode: external, subnet: gateways}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: backends}
spec: {network: corp, rules: [{name: web, direction: inbound, protocol: tcp, ports: ["8080"], from: ["group:` + name + `-managed"]}]}
` + backend(name, name, "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}], health: {interval: 1s, path: /hello}}"))
		for _, url := range []string{
			name + ".postern.internal/" + name + "/hello",
			name + ".postern.internal/status-0123456789abcdef",
			name + ".management.postern.internal:3443/ServiceStatus",
		} {
			if got, _ := w.get(c, "https://"+url); !strings.HasPrefix(got, "200") {
				t.Errorf("%s: %s", url, got)
			}
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	w := start(t, instance.Options{}, private+
		backend("named", "edge", "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}], health: {interval: 1s}}")+
		backend("asleep", "edge", "hello", "{network: corp, targets: [{host: asleep.corp.example, port: 8080}], health: {interval: 1s, timeout: 1s, path: /}}")+`
---
apiVersion: postern/v1
kind: Host
metadata: {name: asleep}
spec: {subnet: apps, address: 10.20.1.11}
`)
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	defer callers.Wait()
	begun := make(chan struct{})
	for n, url := range []string{
		"https://edge.postern.internal/named/hello",
		"https://edge.postern.internal/asleep/hello",
		"https://edge.management.postern.internal:3443/ServiceStatus",
		"https://open.configuration.postern.internal/ServiceStatus",
	} {
		c := w.client(internetCaller)
		c.Transport.(*http.Transport).DisableKeepAlives = n%2 == 0
		callers.Go(func() {
			for i := 0; ; i++ {
				if i == 3 || n == 1 { // the backend that sleeps never lets it come so far
					begun <- struct{}{}
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := c.Do(r)
				if err != nil || n == 1 {
					return
				}
				res.Body.Close()
			}
		})
		<-begun
	}
	began := time.Now()
	if err := w.i.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
}
