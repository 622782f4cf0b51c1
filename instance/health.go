// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/model"
)

// conditionHealthy tells on a Backend whether its targets answer the probes.
const conditionHealthy = "Healthy"

// targets says what the Gateways that probe a Backend find; nothing if none does.
func (i *Instance) targets(backend string) []model.Condition {
	var out []string
	probed, waits := 0, 0
	for _, g := range i.gateway.Probing(backend) {
		for _, t := range i.gateway.Health(g, backend) {
			probed++
			switch {
			case !t.Known:
				waits++
			case !t.Healthy:
				out = append(out, fmt.Sprintf("%s from Gateway/%s since %s: %s", place(&t), g, t.Since.UTC().Format(time.RFC3339), t.Err))
			}
		}
	}
	c := model.Condition{Type: conditionHealthy, Status: true}
	switch {
	case probed == 0:
		return nil
	case len(out) > 0:
		c.Status, c.Reason, c.Message = false, "TargetsOut", "no calls go to "+strings.Join(out, "; ")
	case waits > 0:
		c.Reason, c.Message = "NotProbed", "not every target has been probed yet; those take calls too"
	default:
		c.Reason, c.Message = "TargetsAnswer", "every target answers its probes"
	}
	return []model.Condition{c}
}

func place(t *health.Target) string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// healthOf is what a Gateway's probes found of a target, host:port, of a Backend.
func (i *Instance) healthOf(gateway, backend, target string) (healthy, known bool, reason string) {
	for _, t := range i.gateway.Health(gateway, backend) {
		if place(&t) != target {
			continue
		}
		since := t.Since.UTC().Format(time.RFC3339)
		switch {
		case !t.Known:
			return true, false, ""
		case t.Healthy:
			return true, true, fmt.Sprintf("The probes of Gateway/%s find %s healthy since %s.", gateway, target, since)
		}
		return false, true, fmt.Sprintf("The probes of Gateway/%s find %s unhealthy since %s: %s.", gateway, target, since, t.Err)
	}
	return false, false, ""
}
