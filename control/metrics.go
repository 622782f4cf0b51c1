// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import "postern.dev/postern/internal/exposition"

// metrics answers with what is known of self-hosted gateways. What each is
// assigned is what is published.
func metrics(c *call) (any, error) {
	c.publish()
	var t exposition.Text
	c.fleet.Metrics(&t)
	return t.Bytes(), nil
}
