// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import "postern.dev/postern/internal/exposition"

// metrics answers with what is known of self-hosted gateways, and with what the
// process itself tells. What each gateway is assigned is what is published.
func metrics(c *call) (any, error) {
	c.publish()
	var t exposition.Text
	c.fleet.Metrics(&t)
	if c.opts.Metrics != nil {
		c.opts.Metrics(&t)
	}
	text, err := t.Bytes()
	if text != nil && err != nil {
		c.opts.Log.Error("some metrics are left out", "error", err)
		err = nil
	}
	return text, err
}
