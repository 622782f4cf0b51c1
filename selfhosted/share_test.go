// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model"
)

// measures waits until a metric has a value.
func (n *node) measures(line string) {
	n.t.Helper()
	text := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		res, err := http.Get("http://" + n.metrics + "/metrics")
		if err != nil {
			n.t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err := fmt.Sprint(err, res.Body.Close()); err != "<nil> <nil>" {
			n.t.Fatal(err)
		}
		if text = string(b); strings.Contains(text, line+"\n") {
			return
		}
	}
	n.t.Fatalf("the metrics lack %s:\n%s", line, text)
}

func TestSiblingsCountTogetherWhatIsLimited(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	d := assignedWith(t, 3, map[string]string{"orders": backend(t, "here")}, func(s *model.Stage) {
		s.Spec.Throttle = &model.Throttle{Rate: 0.001, Burst: 5}
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
	two.measures("postern_limit_instances 1")
	for range 5 {
		if got := one.get("/orders"); got != "200 here" {
			t.Fatal(got)
		}
	}
	two.measures("postern_limit_shared_requests_total 5")
	if got := two.get("/orders"); !strings.HasPrefix(got, "429 ") {
		t.Errorf("what the other let through is let through again: %s", got)
	}
	if got := one.get("/internal-limits-0123456789abcdef"); !strings.HasPrefix(got, "403") {
		t.Errorf("a stranger gets %s", got)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	two.logs("[LimitsNotShared]")
}
