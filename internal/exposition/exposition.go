// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package exposition writes metrics in the text form that Prometheus reads. It is
// the one place that knows Prometheus' own library: others say what the samples
// are, and count with what is theirs.
package exposition

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// ContentType is that of the text.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// The types of a family.
const (
	Gauge     = "gauge"
	Counter   = "counter"
	Histogram = "histogram"
)

// Text is metrics as they are written. Its zero value is empty.
type Text struct {
	family, kind, help string
	descs              map[string]*prometheus.Desc // of the family, by its labels' names
	samples            []prometheus.Metric
	runtime            bool
}

// Family begins a family; its samples follow.
func (t *Text) Family(name, kind, help string) {
	t.family, t.kind, t.help = name, kind, help
	t.descs = map[string]*prometheus.Desc{}
}

// Sample writes one sample of the family, with its labels: names and values in
// turn.
func (t *Text) Sample(value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if t.kind == Counter {
		kind = prometheus.CounterValue
	}
	d, values := t.desc(labels)
	m, err := prometheus.NewConstMetric(d, kind, value, values...)
	t.add(d, m, err)
}

// Flag is Sample of 1 or 0.
func (t *Text) Flag(on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	t.Sample(value, labels...)
}

// Distribution writes one sample of a family of the type Histogram: how many
// values there were up to each bound, with all of them at the end, and their sum.
func (t *Text) Distribution(bounds []float64, upTo []uint64, sum float64, labels ...string) {
	buckets := make(map[float64]uint64, len(bounds))
	for i, b := range bounds {
		buckets[b] = upTo[i]
	}
	d, values := t.desc(labels)
	m, err := prometheus.NewConstHistogram(d, upTo[len(upTo)-1], sum, buckets, values...)
	t.add(d, m, err)
}

// Process adds what there is to tell of this process: memory, goroutines,
// processor time, files.
func (t *Text) Process() { t.runtime = true }

func (t *Text) desc(labels []string) (*prometheus.Desc, []string) {
	names, values := make([]string, 0, len(labels)/2), make([]string, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, strings.ToValidUTF8(labels[i+1], "\uFFFD"))
	}
	key := strings.Join(names, ",")
	d := t.descs[key]
	if d == nil {
		d = prometheus.NewDesc(t.family, t.help, names, nil)
		t.descs[key] = d
	}
	return d, values
}

func (t *Text) add(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	t.samples = append(t.samples, m)
}

// Bytes is what was written, families sorted by name. The error tells of samples
// that are left out because they cannot be written, such as one that stands twice.
func (t *Text) Bytes() ([]byte, error) {
	r := prometheus.NewRegistry()
	all := []prometheus.Collector{collector{t}}
	if t.runtime {
		all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	families, err := r.Gather()
	if err != nil {
		err = fmt.Errorf("metrics: %w", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, werr := expfmt.MetricFamilyToText(&b, f); werr != nil {
			return nil, fmt.Errorf("metrics: %w", werr)
		}
	}
	return b.Bytes(), err
}

// collector hands the samples to Prometheus' library, which checks them.
type collector struct{ t *Text }

// Describe tells nothing ahead: which series there are is known when they are.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect hands over the samples.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.t.samples {
		out <- m
	}
}
