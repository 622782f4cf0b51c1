// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"math"
	"testing"
)

func TestTextIsAsPrometheusReadsIt(t *testing.T) {
	var x Text
	x.Family("up", Gauge, `whether it is up, by C:\ and`+"\nmore")
	x.Flag(true, "name", "a \"quoted\" \\ name\nof two lines", "zone", "")
	x.Flag(false, "name", "\xff")
	x.Family("seconds", Counter, "time")
	x.Sample(1.5)
	x.Sample(1795000000)
	x.Sample(math.Inf(1))
	const want = `# HELP up whether it is up, by C:\\ and\nmore
# TYPE up gauge
up{name="a \"quoted\" \\ name\nof two lines",zone=""} 1
up{name="` + "\uFFFD" + `"} 0
# HELP seconds time
# TYPE seconds counter
seconds 1.5
seconds 1795000000
seconds +Inf
`
	if got := string(x.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
