// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"postern.dev/postern/internal/exposition"
)

// serveMetrics writes Prometheus' text.
func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	var t exposition.Text
	g.tell(&t)
	text, err := t.Bytes()
	if err != nil {
		g.log.Error("MetricsLeftOut", "exception", err.Error())
	}
	if text == nil {
		http.Error(w, "there are no metrics; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", exposition.ContentType)
	_, _ = w.Write(text) // the scraper went away
}

// tell writes what there is to tell of this process.
func (g *Gateway) tell(t *exposition.Text) {
	st, now := g.link.State(), g.o.Now()
	t.Family("postern_gateway_info", exposition.Gauge, "The version and the name of this instance.")
	t.Sample(1, "gateway", g.s.Name, "instance", g.instance(), "version", g.o.Version)
	g.engine.Metrics(t)
	t.Family("postern_configuration_ready", exposition.Gauge, "1 if there is a configuration to serve, by where it came from.")
	if s := g.served.Load(); s == nil {
		t.Sample(0, "source", "")
	} else {
		t.Sample(1, "source", s.source)
		t.Family("postern_configuration_revision", exposition.Gauge, "Revision of the configuration that is served.")
		t.Sample(float64(s.doc.Revision))
		t.Family("postern_configuration_applied_timestamp_seconds", exposition.Gauge, "When it began to be served.")
		t.Sample(float64(s.at.Unix()))
	}
	if !st.Confirmed.IsZero() {
		t.Family("postern_configuration_age_seconds", exposition.Gauge, "For how long the management plane has not confirmed it.")
		t.Sample(float64(max(0, int64(now.Sub(st.Confirmed)/time.Second))))
	}
	t.Family("postern_control_connected", exposition.Gauge, "1 if the management plane answers, by protocol and address, and why those.")
	t.Flag(st.Connected, "protocol", string(st.Protocol), "address", st.Address, "why", st.Why)
	t.Family("postern_control_failures_total", exposition.Counter, "Failures on the way to the management plane, by kind.")
	for _, k := range slices.Sorted(maps.Keys(st.Failures)) {
		t.Sample(float64(st.Failures[k]), "kind", string(k))
	}
	if !st.Expires.IsZero() {
		t.Family("postern_control_token_expiry_timestamp_seconds", exposition.Gauge, "When the token or the certificate ends.")
		t.Sample(float64(st.Expires.Unix()))
	}
	siblings, charged := g.share.State()
	t.Family("postern_limit_instances", exposition.Gauge, "Other instances that limits are shared with at present.")
	t.Sample(float64(siblings))
	t.Family("postern_limit_shared_requests_total", exposition.Counter, "Requests that other instances let through, as counted here.")
	t.Sample(float64(charged))
	t.Process()
}
