// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/key"
)

// keyed is a document whose API asks for a key that is good for so many requests
// a month, and the key.
func keyed(t *testing.T, uri string, requests int) (d *configuration.Document, value string) {
	t.Helper()
	secret, text, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	if value, err = key.New(); err != nil {
		t.Fatal(err)
	}
	sum, _ := secret.Hash(value)
	set, err := assigned(t, 1, map[string]string{"orders": uri}).Set()
	if err != nil {
		t.Fatal(err)
	}
	admit := func(server bool, puts ...model.Object) {
		t.Helper()
		if set, _, err = model.Admit(set, model.Change{Puts: puts}, model.Options{IDs: model.NamedIDs(), Deployments: true, Server: server}); err != nil {
			t.Fatal(err)
		}
	}
	deployed, _ := model.Get[*model.Deployment](set, "orders.1")
	second := &model.Deployment{Head: named("orders.2"), Spec: deployed.Spec}
	second.Spec.Number, second.Spec.Spec.KeyRequired = 2, true
	admit(
		false, second,
		&model.Stage{Head: named("orders.prod"), Spec: model.StageSpec{Deployment: "2"}},
		&model.SelfHostedGateway{Head: named("edge"), Spec: model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"orders"}}},
		&model.Product{Head: named("basic"), Spec: model.ProductSpec{APIs: []string{"orders"}, Quota: &model.Quota{Limit: requests, Period: model.PeriodMonth}}},
		&model.Subscription{Head: named("partner"), Spec: model.SubscriptionSpec{Product: "basic", Consumer: "somebody"}},
	)
	g, _ := model.Get[*model.Gateway](set, "corp")
	g = model.Clone(g)
	g.Status.KeySecret = model.NewSecret(text)
	s, _ := model.Get[*model.Subscription](set, "partner")
	s = model.Clone(s)
	s.Status.Keys = []model.IssuedKey{{ID: "partner", Gateway: g.Status.ID, Hash: model.NewSecret(sum.String())}}
	admit(true, g, s)
	if d, err = configuration.Assign(set, "edge", configuration.Facts{Revision: 2, Base: model.DefaultBase}); err != nil {
		t.Fatal(err)
	}
	return d, value
}

func (n *node) with(key string) int {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.plain+"/orders", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("x-api-key", key)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		n.t.Error(err)
	}
	return res.StatusCode
}

func TestWhatQuotasCountedCountsAfterAStart(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	d, value := keyed(t, backend(t, "here"), 5)
	p := newPlane(t, ca, ca.sign(t, d))
	left := filepath.Join(dir, "quotas.long-gone.json")
	if err := os.WriteFile(left, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-33 * 24 * time.Hour)
	if err := os.Chtimes(left, then, then); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]int{{200, 200, 200}, {200, 200, 429}, {429}} {
		n := startAs(t, "host/one", ca, p, "config.backup.path="+dir)
		p.acked()
		for _, status := range want {
			if got := n.with(value); got != status {
				t.Errorf("start %d: %d, want %d\n%s", i, got, status, n.log)
			}
		}
		if i == 2 {
			break
		}
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what was left long ago is still there: %v", err)
	}
	// Another instance that shares the folder counts by itself.
	if n := startAs(t, "two", ca, p, "config.backup.path="+dir); n.with(value) != 200 {
		t.Error("it counts what another did")
	}
}
