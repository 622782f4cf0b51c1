// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package exposition writes metrics in the text form that Prometheus reads.
package exposition

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// ContentType is that of the text.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// The types of a family.
const (
	Gauge   = "gauge"
	Counter = "counter"
)

// Text is metrics as they are written. Its zero value is empty.
type Text struct {
	b      bytes.Buffer
	family string
}

// Family begins a family; its samples follow.
func (t *Text) Family(name, kind, help string) {
	t.family = name
	t.b.WriteString("# HELP " + name + " " + escapeHelp.Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
}

// Sample writes one sample of the family, with its labels: names and values in
// turn.
func (t *Text) Sample(value float64, labels ...string) {
	t.b.WriteString(t.family)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		t.b.WriteByte(sep)
		t.b.WriteString(labels[i] + `="` + escape.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 1 {
		t.b.WriteByte('}')
	}
	t.b.WriteByte(' ')
	if value == math.Trunc(value) && math.Abs(value) < 1<<53 {
		t.b.WriteString(strconv.FormatInt(int64(value), 10))
	} else {
		t.b.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	}
	t.b.WriteByte('\n')
}

// Flag is Sample of 1 or 0.
func (t *Text) Flag(on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	t.Sample(value, labels...)
}

// Bytes is what was written.
func (t *Text) Bytes() []byte { return t.b.Bytes() }

var (
	escape     = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	escapeHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)
