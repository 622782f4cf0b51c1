// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model"
)

// measured is the value of a metric without labels.
func (n *node) measured(name string) int {
	n.t.Helper()
	res, err := http.Get("http://" + n.metrics + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n"+name+" ")
	text, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.Atoi(text)
	if !ok || err != nil {
		n.t.Fatalf("no %s in the metrics: %v\n%s", name, err, b)
	}
	return v
}

func TestSiblingsCountTogetherWhatIsLimited(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	d := assignedWith(t, 3, map[string]string{"orders": backend(t, "here")}, func(s *model.Stage) {
		s.Spec.Throttle = &model.Throttle{Rate: 0.001, Burst: 500}
	})
	p := newPlane(t, ca, ca.sign(t, d))
	one := start(t, ca, p)
	p.acked()
	_, port, err := net.SplitHostPort(one.plain)
	if err != nil {
		t.Fatal(err)
	}
	two := start(t, ca, p, "neighborhood.host=127.0.0.1", "neighborhood.port="+port, "telemetry.metrics.address=127.0.0.1:0")
	p.acked()
	// However slow all this is: in the end one that is let through here is heard of
	// there.
	heard := 0
	for range 400 {
		if got := one.get("/orders"); got != "200 here" {
			t.Fatal(got)
		}
		if heard = two.measured("postern_limit_shared_requests_total"); heard > 0 {
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	if heard == 0 {
		t.Fatalf("nothing is heard of the other:\n%s", two.log)
	}
	through := 0
	for range 501 {
		if two.get("/orders") == "200 here" {
			through++
		}
	}
	if through == 0 || through > 500-heard {
		t.Errorf("%d are let through beside %d of the other, of 500", through, heard)
	}
	if got := one.get("/internal-limits-0123456789abcdef"); !strings.HasPrefix(got, "403") {
		t.Errorf("a stranger gets %s", got)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	two.logs("[LimitsNotShared]")
}
