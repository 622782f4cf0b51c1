// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"os"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/observe"
	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/internal/otlp/otlphttp"
	"postern.dev/postern/model"
)

// Recent returns what the gateway remembers of a request, by the id that the
// answer carried in x-postern-request-id.
func (i *Instance) Recent(id string) (gateway.Record, bool) { return i.gateway.Recent(id) }

// Resources returns the resources as they were last published.
func (i *Instance) Resources() *model.Set { return i.registry.Published().Set() }

// telemetry is what this process tells of the gateway's requests.
func (i *Instance) telemetry() observe.Options {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return observe.Options{
		AccessLog: i.opts.AccessLog, Stdout: i.opts.Stdout, Collector: i.opts.Collector, Exporter: otlphttp.New, Ratio: i.opts.Ratio,
		Service: "postern", Version: i.opts.Version, Instance: host, Log: i.opts.Log,
	}
}

// metrics writes what this process tells Prometheus beside what the management
// plane knows of self-hosted gateways.
func (i *Instance) metrics(t *exposition.Text) {
	i.gateway.Metrics(t)
	p := i.registry.Published()
	applied := i.gateway.Applied().Unix()
	t.Family("postern_configuration_revision", exposition.Gauge, "Revision of the configuration that is served.")
	t.Sample(float64(p.Snapshot.Revision))
	t.Family("postern_configuration_applied_timestamp_seconds", exposition.Gauge, "When it began to be served.")
	t.Sample(float64(applied))
	age := int64(0)
	if since := i.registry.Behind(); !since.IsZero() {
		age = max(0, i.opts.Now().Unix()-since.Unix())
	}
	t.Family("postern_configuration_age_seconds", exposition.Gauge, "For how long something has been stored that is not served; 0 if nothing is.")
	t.Sample(float64(age))
	t.Process()
}
