// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/engine/gateway/observe"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/setting"
)

func TestItTellsOfItsRequests(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 4, map[string]string{"orders": backend(t, "orders here")})))
	file := filepath.Join(t.TempDir(), "access.log")
	n := start(t, ca, p, "telemetry.metrics.address=127.0.0.1:0", "telemetry.logs.access="+file)
	p.acked()
	for range 3 {
		if got := n.get("/orders"); got != "200 orders here" {
			t.Fatal(got)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var m map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &m); err != nil || len(lines) != 3 || m["api"] != "orders" || m["status"] != 200.0 || m["gateway"] != "corp" {
		t.Errorf("%v: %s", err, b)
	}
}

func TestItsMetricsTellOfItsRequests(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	p := newPlane(t, ca, ca.sign(t, assigned(t, 4, map[string]string{"orders": backend(t, "orders here")})))
	n := start(t, ca, p, "telemetry.metrics.address=127.0.0.1:0")
	p.acked()
	if got := n.get("/orders"); got != "200 orders here" {
		t.Fatal(got)
	}
	const want = `postern_gateway_requests_total{api="orders",gateway="corp",route="GET /",stage="prod",status="2xx"} 1`
	for range 1000 { // the answer is there before the request is over
		if strings.Contains(n.ask("http://"+n.metrics+"/metrics", ""), want) {
			return
		}
	}
	t.Errorf("%s is missing in\n%s", want, n.ask("http://"+n.metrics+"/metrics", ""))
}

func TestTracesNeedAProgramThatSendsThem(t *testing.T) {
	t.Parallel()
	environ := []string{
		"config.service.endpoint=corp.configuration.postern.internal", "config.service.auth=" + token,
		"net.server.http.address=127.0.0.1:0", "net.server.https.address=127.0.0.1:0", "config.backup.path=none",
		"telemetry.traces.endpoint=http://127.0.0.1:4318", "telemetry.traces.ratio=0.5",
	}
	s, _, err := setting.Read(setting.Sources{Environ: environ})
	if err != nil || s.Ratio == nil || *s.Ratio != 0.5 {
		t.Fatalf("%v, ratio %v", err, s.Ratio)
	}
	if _, err := selfhosted.Start(t.Context(), selfhosted.Options{Settings: s}); !errors.Is(err, observe.ErrNoExporter) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"telemetry.traces.endpoint=collector:4318", "telemetry.traces.ratio=2"} {
		if _, _, err := setting.Read(setting.Sources{Environ: append(environ[:5:5], bad)}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
