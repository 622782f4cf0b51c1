// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/model"
)

// selfHosted is what a SelfHostedGateway has in the columns of its kind: of its
// instances the versions, the oldest revision and age, who was heard of last,
// and the first error.
func selfHosted(g *model.SelfHostedGateway) []string {
	is := g.Status.Instances
	online := 0
	var versions, errors []string
	var seen time.Time
	for _, i := range is {
		if !i.Offline {
			online++
		}
		versions = append(versions, i.Version)
		if i.LastError != "" {
			errors = append(errors, i.Name+": "+oneLine(i.LastError))
		}
		if i.Seen.After(seen) {
			seen = i.Seen
		}
	}
	slices.Sort(versions)
	out := []string{g.Spec.Gateway, strings.Join(g.Spec.APIs, ","), fmt.Sprintf("%d/%d", online, len(is)), strings.Join(slices.Compact(versions), ","), "", "", "", strings.Join(errors, "; ")}
	if len(is) > 0 {
		oldest := slices.MinFunc(is, func(a, b model.Instance) int { return cmp.Compare(a.Revision, b.Revision) })
		out[4] = strconv.FormatInt(oldest.Revision, 10)
		stale := slices.MaxFunc(is, func(a, b model.Instance) int { return cmp.Compare(a.Age, b.Age) })
		out[5] = (time.Duration(stale.Age) * time.Second).String()
	}
	if !seen.IsZero() {
		out[6] = seen.UTC().Format(time.RFC3339)
	}
	return out
}
