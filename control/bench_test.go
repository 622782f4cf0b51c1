// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"postern.dev/postern/model"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// BenchmarkChangeOfOneAmongMany changes one API of many, from the request until
// the snapshot with it is served.
func BenchmarkChangeOfOneAmongMany(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := mem.New(store.Limits{})
			b.Cleanup(func() { _ = s.Close() })
			p := newPlaneOn(b, s)
			var text strings.Builder
			text.WriteString(`{"resources":[{"apiVersion":"postern/v1","kind":"Gateway","metadata":{"name":"gw"},"spec":{"region":"eu-1"}}`)
			for i := range n {
				fmt.Fprintf(&text, `,{"apiVersion":"postern/v1","kind":"API","metadata":{"name":"a%d"},"spec":{"gateway":"gw","type":"regional","openapi":"example:petstore"}}`, i)
				fmt.Fprintf(&text, `,{"apiVersion":"postern/v1","kind":"Stage","metadata":{"name":"a%d.prod"},"spec":{"autoDeploy":true}}`, i)
			}
			text.WriteString("]}")
			apply := func(body string) {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/apply", strings.NewReader(body))
				r.Host = "localhost"
				r.Header.Set("Authorization", "Bearer "+p.admin.Reveal())
				r.Header.Set("Content-Type", "application/json")
				rec := httptest.NewRecorder()
				p.Handler().ServeHTTP(rec, r)
				if rec.Code != http.StatusOK {
					b.Fatalf("%d %.300s", rec.Code, rec.Body)
				}
			}
			apply(text.String())
			i := 0
			for b.Loop() {
				i++
				apply(fmt.Sprintf(`{"resources":[{"apiVersion":"postern/v1","kind":"API","metadata":{"name":"a7","labels":{"n":"%d"}},"spec":{"gateway":"gw","type":"regional","openapi":"example:petstore"}}]}`, i))
			}
			if got := len(p.opts.Registry.Head().Set.Names(model.KindDeployment)); got != n {
				b.Errorf("%d Deployments, want %d: labels deploy nothing", got, n)
			}
		})
	}
}
