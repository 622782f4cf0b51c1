// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"path/filepath"

	"postern.dev/postern/engine/gateway/meter/ledger"
)

// openQuotas has the gateway count on from what the data folder has of quotas.
// Without that, or where it cannot be written, requests are served all the same.
func (i *Instance) openQuotas() *ledger.Ledger {
	l, err := ledger.Open(ledger.Options{
		Path: filepath.Join(i.opts.Data, "quotas.json"), Counter: i.gateway,
		Failed: func(err error) {
			if err != nil {
				i.opts.Log.Error("what quotas have counted is not kept: a restart lets their keys begin anew", "error", err)
				return
			}
			i.opts.Log.Info("what quotas have counted is kept again")
		},
	})
	if err != nil {
		i.opts.Log.Error("what quotas had counted before is lost", "error", err)
	}
	return l
}
