// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/upstream"
)

// errUnhealthy is why no target was picked.
var errUnhealthy = errors.New("all targets of the Backend are unhealthy")

// aimless turns that no target was found into what the caller is told.
func (j *Job) aimless(err error) (code string, answer *request.Response) {
	j.Failed = err
	if errors.Is(err, errUnhealthy) {
		return CodeUnhealthy, &request.Unavailable
	}
	return CodeNone, &request.ConfigurationError
}

// failed turns the failure of a call into what the caller is told.
func (j *Job) failed(err error) (code string, answer *request.Response) {
	j.Failed = err
	if code, answer, ok := request.DialFailed(err); ok {
		return code, answer
	}
	var f *upstream.Failure
	if !errors.As(err, &f) {
		return CodeRefused, &request.NetworkError
	}
	switch f.Kind {
	case upstream.Timeout:
		if f.Phase == upstream.Connecting || f.Phase == upstream.Securing {
			return CodeTimeout, request.ConnectTimedOut(j.call.Timeout)
		}
		return CodeTimeout, &request.TimedOut
	case upstream.DNS:
		return request.CodeNoName, &request.NetworkError
	case upstream.TLS:
		return CodeTLS, request.SecureFailed(err)
	case upstream.Request:
		return CodeRefused, &request.ConfigurationError
	}
	return CodeRefused, &request.NetworkError
}
