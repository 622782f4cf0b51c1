// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/selfhosted"
)

func TestItServesWhatItIsAssigned(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 4, map[string]string{"orders": backend(t, "orders here")})))
	n := start(t, ca, p, "telemetry.metrics.address=127.0.0.1:0")
	if a := p.acked(); a.Revision != 4 || a.Error != "" {
		t.Fatalf("acknowledged with %+v", a)
	}
	f := func(url, host, want string) {
		t.Helper()
		if got := n.ask(url, host); got != want {
			t.Errorf("%s as %s: %s, want %s", url, host, got, want)
		}
	}
	const forbidden = `403 {"message":"Forbidden"}`
	f("http://"+n.plain+"/orders", "", "200 orders here")
	f("https://"+n.secure+"/orders", "", "200 orders here")
	f("http://"+n.plain+"/orders", "edge.shop.example", "200 orders here")
	f("https://"+n.secure+"/orders", "corp.postern.internal", "200 orders here")
	f("http://"+n.plain+"/payments", "", forbidden)
	f("http://"+n.plain+"/prod", "unknown.execute-api.eu.postern.internal", forbidden)
	for _, at := range []string{"http://" + n.plain, "https://" + n.secure} {
		f(at+request.StatusPath, "", "200 alive")
		f(at+selfhosted.ReadyPath, "", "200 ready")
	}
	n.logs("[ConfigConnected], protocol: v2, endpoint: corp.configuration.postern.internal:443, why: as set")
}

func TestWithoutConfigurationItNeverAnswers200(t *testing.T) {
	t.Parallel()
	n := start(t, newAuthority(t), nil)
	n.logs("[ErrorResolvingHostname]")
	for _, at := range []string{"http://" + n.plain, "https://" + n.secure} {
		for _, path := range []string{"/", "/orders", selfhosted.ReadyPath, "/internal-configuration-0123456789abcdef"} {
			if got := n.ask(at+path, ""); !strings.HasPrefix(got, "503 ") {
				t.Errorf("%s%s: %s", at, path, got)
			}
		}
		if got := n.ask(at+request.StatusPath, ""); got != "200 alive" {
			t.Errorf("the process does not say that it lives: %s", got)
		}
	}
}

func TestMetricsTellHowItIs(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 4, map[string]string{"orders": backend(t, "x")})))
	n := start(t, ca, p, "telemetry.metrics.address=127.0.0.1:0")
	address := n.metrics
	p.acked()
	f := func(want ...string) {
		t.Helper()
		got := n.ask("http://"+address+"/metrics", "") + "\n"
		for _, w := range want {
			if !strings.Contains(got, "\n"+w+"\n") {
				t.Errorf("the metrics lack %s:\n%s", w, got)
			}
		}
	}
	f(`postern_configuration_ready{source="plane"} 1`, "postern_configuration_revision 4",
		`postern_control_connected{address="corp.configuration.postern.internal:443",protocol="v2",why="as set"} 1`,
		"postern_control_token_expiry_timestamp_seconds 1.893456e+09")
	p.refuse(http.StatusUnauthorized)
	n.logs("401 (Unauthorized)")
	f(`postern_control_failures_total{kind="ended"} 1`, `postern_control_connected{address="corp.configuration.postern.internal:443",protocol="v2",why="as set"} 0`)
	if got := n.ask("http://"+address+"/orders", ""); !strings.HasPrefix(got, "404 ") {
		t.Errorf("APIs are served there: %s", got)
	}
}

func TestChangesDropNoConnection(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	one, two := backend(t, "one"), backend(t, "two")
	p := newPlane(t, ca, ca.sign(t, assigned(t, 1, map[string]string{"a": one})))
	n := start(t, ca, p)
	p.acked()
	c, err := net.Dial("tcp", n.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func(path string) int {
		t.Helper()
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: edge\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := bufio.NewReader(res.Body).WriteTo(&buffer{}); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	for revision := int64(2); revision < 20; revision++ {
		apis := map[string]string{"a": one}
		want := http.StatusForbidden
		if revision%2 == 0 {
			apis["b"], want = two, http.StatusOK
		}
		p.publish(ca.sign(t, assigned(t, revision, apis)))
		if a := p.acked(); a.Revision != revision || a.Error != "" {
			t.Fatalf("acknowledged with %+v", a)
		}
		if a, b := ask("/a"), ask("/b"); a != http.StatusOK || b != want {
			t.Fatalf("revision %d answers %d and %d on the connection that was open, want 200 and %d", revision, a, b, want)
		}
	}
}

func TestItGoesOnServingWithoutTheManagementPlane(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	dir := t.TempDir()
	doc := ca.sign(t, assigned(t, 7, map[string]string{"orders": backend(t, "orders here")}))
	p := newPlane(t, ca, doc)
	n := start(t, ca, p, "config.backup.path="+dir)
	p.acked()
	p.kill()
	n.logs("[ConfigSyncFailed]")
	if got := n.get("/orders"); got != "200 orders here" {
		t.Errorf("during the outage: %s", got)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := start(t, ca, nil, "config.backup.path="+dir)
	again.logs("[ConfigLoadedFromBackup], revision: 7")
	if got := again.get("/orders") + ", " + again.get(selfhosted.ReadyPath); got != "200 orders here, 200 ready" {
		t.Errorf("started again during the outage: %s", got)
	}
	// It is back, and has gone on meanwhile.
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	p = newPlane(t, ca, ca.sign(t, assigned(t, 99, map[string]string{"other": backend(t, "other here")})))
	back := start(t, ca, p, "config.backup.path="+dir)
	if a := p.acked(); a.Revision != 99 {
		t.Errorf("acknowledged with %+v", a)
	}
	if got := back.get("/other") + ", " + back.get("/orders"); got != `200 other here, 403 {"message":"Forbidden"}` {
		t.Errorf("after the outage: %s", got)
	}
	bare := start(t, ca, nil)
	if got := bare.get("/orders"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("without a backup: %s", got)
	}
}

func TestATokenThatIsNoLongerGoodIsSaidAndServingGoesOn(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 1, map[string]string{"orders": backend(t, "orders here")})))
	n := start(t, ca, p)
	p.acked()
	p.refuse(http.StatusUnauthorized)
	n.logs("401 (Unauthorized)")
	if got := n.get("/orders") + ", " + n.get(selfhosted.ReadyPath); got != "200 orders here, 200 ready" {
		t.Errorf("with a token that ended: %s", got)
	}
}

func TestABackupOfAnotherIsRefusedAndThePreviousUsed(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	p := newPlane(t, ca, ca.sign(t, assigned(t, 1, map[string]string{"orders": backend(t, "first")})))
	n := start(t, ca, p, "config.backup.path="+dir)
	p.acked()
	p.publish(ca.sign(t, assigned(t, 2, map[string]string{"orders": backend(t, "second")})))
	p.acked()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	newest := filepath.Join(dir, "configuration.backup")
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(newest, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, ca, nil, "config.backup.path="+dir)
	again.logs("[BackupRefused]")
	again.logs("[ConfigLoadedFromBackup], revision: 1")
	if got := again.get("/orders"); got != "200 first" {
		t.Errorf("from the previous: %s", got)
	}
	stranger := start(t, other, nil, "config.backup.path="+dir)
	stranger.logs("not signed by the management plane that is trusted")
	if got := stranger.get("/orders"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("a backup that another authority signed is served: %s", got)
	}
}

func TestWhatIsNotSignedOrForAnotherIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, newAuthority(t).sign(t, assigned(t, 1, map[string]string{"orders": backend(t, "x")})))
	n := start(t, ca, p)
	if a := p.acked(); !strings.Contains(a.Error, "not signed") || a.Revision != 0 {
		t.Errorf("acknowledged with %+v", a)
	}
	foreign := assigned(t, 1, nil)
	foreign.For = "other"
	p.mu.Lock()
	p.doc = ca.sign(t, foreign)
	p.mu.Unlock()
	p.refuse(0)
	if a := p.acked(); !strings.Contains(a.Error, "is of gateway other") {
		t.Errorf("acknowledged with %+v", a)
	}
	if got := n.get("/orders"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("it is served: %s", got)
	}
}

func TestANewInstanceStartsFromASibling(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 5, map[string]string{"orders": backend(t, "orders here")})))
	one := start(t, ca, p)
	p.acked()
	_, port, err := net.SplitHostPort(one.plain)
	if err != nil {
		t.Fatal(err)
	}
	// Who calls APIs can ask too, and takes nobody's place.
	for range 150 {
		if got := one.get("/internal-configuration-0123456789abcdef"); !strings.HasPrefix(got, "403") {
			t.Fatalf("a stranger gets %.60s", got)
		}
	}
	two := start(t, ca, nil, "neighborhood.host=127.0.0.1", "neighborhood.port="+port)
	two.logs("[ConfigLoadedFromSibling], revision: 5")
	if got := two.get("/orders") + ", " + two.get(selfhosted.ReadyPath); got != "200 orders here, 200 ready" {
		t.Errorf("from a sibling: %s", got)
	}
	strange := start(t, newAuthority(t), nil, "neighborhood.host=127.0.0.1", "neighborhood.port="+port)
	strange.logs("[SiblingsWithoutConfig]")
	strange.logs("not signed by the management plane that is trusted")
	if got := strange.get("/orders"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("what is not signed for it is served: %s", got)
	}
}

func TestBackendsAreAnywhereButLinkLocal(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 1, map[string]string{
		"near": backend(t, "near"), "metadata": "http://169.254.169.254/latest", "six": "http://[fe80::1]:80/", "mapped": "http://[::ffff:169.254.169.254]/",
	})))
	n := start(t, ca, p)
	p.acked()
	for path, want := range map[string]string{"/near": "200 near", "/metadata": "5", "/six": "5", "/mapped": "5"} {
		begin := time.Now()
		if got := n.get(path); !strings.HasPrefix(got, want) || time.Since(begin) > 20*time.Second {
			t.Errorf("%s: %s after %s, want %s", path, got, time.Since(begin), want)
		}
	}
}

func TestOddSettingsAreSaid(t *testing.T) {
	t.Parallel()
	n := start(t, newAuthority(t), nil, "neighborhood.hots=x", "observability.opentelemetry.enabled=true")
	n.logs(`[SettingUnknown], name: neighborhood.hots, from: the environment, message: no setting has this name; did you mean "neighborhood.host"?`)
	n.logs("[SettingWithoutEffect], name: observability.opentelemetry.enabled")
	n.logs("[GatewayStartup], gateway: edge, version: test")
}
