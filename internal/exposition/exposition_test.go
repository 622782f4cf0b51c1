// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"strings"
	"testing"
)

func TestTextIsAsPrometheusReadsIt(t *testing.T) {
	var x Text
	x.Family("up", Gauge, `whether it is up, by C:\ and`+"\nmore")
	x.Flag(true, "name", "a \"quoted\" \\ name\nof two lines", "zone", "")
	x.Flag(false, "name", "\xff")
	x.Family("seconds", Counter, "time")
	x.Sample(1.5)
	x.Family("took", Histogram, "how long")
	x.Distribution([]float64{0.5, 1}, []uint64{1, 3, 4}, 7.5, "of", "a")
	const want = `# HELP seconds time
# TYPE seconds counter
seconds 1.5
# HELP took how long
# TYPE took histogram
took_bucket{of="a",le="0.5"} 1
took_bucket{of="a",le="1"} 3
took_bucket{of="a",le="+Inf"} 4
took_sum{of="a"} 7.5
took_count{of="a"} 4
# HELP up whether it is up, by C:\\ and\nmore
# TYPE up gauge
up{name="` + "\uFFFD" + `"} 0
up{name="a \"quoted\" \\ name\nof two lines",zone=""} 1
`
	got, err := x.Bytes()
	if string(got) != want || err != nil {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
}

func TestASampleThatStandsTwiceIsLeftOutAndTold(t *testing.T) {
	var x Text
	x.Family("up", Gauge, "whether it is up")
	x.Flag(true, "name", "a")
	x.Flag(false, "name", "a")
	x.Family("seconds", Counter, "time")
	x.Sample(1.5)
	got, err := x.Bytes()
	if err == nil || !strings.Contains(string(got), "seconds 1.5") || strings.Count(string(got), "up{") != 1 {
		t.Errorf("%v, %s", err, got)
	}
}

func TestAProcessTellsOfItself(t *testing.T) {
	var x Text
	x.Process()
	got, err := x.Bytes()
	if err != nil || !strings.Contains(string(got), "\ngo_goroutines ") {
		t.Errorf("%v, %s", err, got)
	}
}
