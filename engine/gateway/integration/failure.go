// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/x509"
	"errors"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/upstream"
)

// failed turns the failure of a call into what the caller is told.
func (j *Job) failed(err error) (code string, answer *request.Response) {
	j.Failed = err
	var f *upstream.Failure
	if !errors.As(err, &f) {
		return CodeRefused, &request.NetworkError
	}
	switch f.Kind {
	case upstream.Timeout:
		return CodeTimeout, &request.TimedOut
	case upstream.TLS:
		// A certificate for another name is a mistake in the API, not a state
		// of the network.
		var name x509.HostnameError
		if errors.As(err, &name) {
			return CodeTLS, &request.ConfigurationError
		}
		return CodeTLS, &request.NetworkError
	case upstream.Request:
		return CodeRefused, &request.ConfigurationError
	}
	return CodeRefused, &request.NetworkError
}
