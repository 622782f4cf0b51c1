// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/selfhosted/link"
)

// serveMetrics writes Prometheus' text.
func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(g.metricsText()) // the scraper went away
}

func (g *Gateway) metricsText() []byte {
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	st, now := g.link.State(), g.o.Now()
	family("postern_gateway_info", "gauge", "The version and the name of this instance.")
	fmt.Fprintf(&b, "postern_gateway_info{gateway=%s,instance=%s,version=%s} 1\n", quote(g.s.Name), quote(g.instance()), quote(g.o.Version))
	family("postern_gateway_connections", "gauge", "Connections of callers that are open.")
	fmt.Fprintf(&b, "postern_gateway_connections %d\n", g.engine.Connections())
	family("postern_configuration_ready", "gauge", "1 if there is a configuration to serve, by where it came from.")
	s := g.served.Load()
	if s == nil {
		fmt.Fprintf(&b, "postern_configuration_ready{source=\"\"} 0\n")
	} else {
		fmt.Fprintf(&b, "postern_configuration_ready{source=%s} 1\n", quote(s.source))
		family("postern_configuration_revision", "gauge", "Revision of the configuration that is served.")
		fmt.Fprintf(&b, "postern_configuration_revision %d\n", s.doc.Revision)
		family("postern_configuration_applied_timestamp_seconds", "gauge", "When it began to be served.")
		fmt.Fprintf(&b, "postern_configuration_applied_timestamp_seconds %d\n", s.at.Unix())
	}
	if !st.Confirmed.IsZero() {
		family("postern_configuration_age_seconds", "gauge", "For how long the management plane has not confirmed it.")
		fmt.Fprintf(&b, "postern_configuration_age_seconds %d\n", max(0, int64(now.Sub(st.Confirmed)/time.Second)))
	}
	family("postern_control_connected", "gauge", "1 if the management plane answers, by protocol and address, and why those.")
	up := 0
	if st.Connected {
		up = 1
	}
	fmt.Fprintf(&b, "postern_control_connected{protocol=%s,address=%s,why=%s} %d\n", quote(string(st.Protocol)), quote(st.Address), quote(st.Why), up)
	family("postern_control_failures_total", "counter", "Failures on the way to the management plane, by kind.")
	kinds := make([]link.Kind, 0, len(st.Failures))
	for k := range st.Failures {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		fmt.Fprintf(&b, "postern_control_failures_total{kind=%s} %d\n", quote(string(k)), st.Failures[k])
	}
	if !st.Expires.IsZero() {
		family("postern_control_token_expiry_timestamp_seconds", "gauge", "When the token or the certificate ends.")
		fmt.Fprintf(&b, "postern_control_token_expiry_timestamp_seconds %d\n", st.Expires.Unix())
	}
	return b.Bytes()
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// quote writes a label's value.
func quote(s string) string { return `"` + escape.Replace(s) + `"` }
