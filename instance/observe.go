// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/model"
)

// Recent returns what the gateway remembers of a request, by the id that the
// answer carried in x-postern-request-id.
func (i *Instance) Recent(id string) (gateway.Record, bool) { return i.gateway.Recent(id) }

// Resources returns the resources as they were last published.
func (i *Instance) Resources() *model.Set { return i.registry.Published().Set() }
