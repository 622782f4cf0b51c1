// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot/operation"
)

// proxy sends the request on as it is and the response back as it comes.
func (r *Runner) proxy(j *Job, in *operation.Integration) (string, *request.Response) {
	if err := r.aim(j, in); err != nil {
		return j.aimless(err)
	}
	j.pass()
	j.query = appendQuery(j.query[:0], j.call.RawQuery)
	j.query = appendQuery(j.query, j.Exchange.Request.RawQuery)
	if err := j.maps(in.Request); err != nil {
		j.Failed = err
		return CodeNone, &request.ConfigurationError
	}
	j.announce()
	return r.send(j, in, true)
}

// send makes the call.
func (r *Runner) send(j *Job, in *operation.Integration, proxy bool) (string, *request.Response) {
	j.call.RawQuery = view(j.query)
	j.call.Header = &j.header
	j.call.Method = in.Method
	if j.call.Method == "" {
		j.call.Method = j.Verdict.Method
	}
	j.trace()
	j.calling()
	err := r.pool.Do(j.Exchange.Context(), &j.call, j.Exchange)
	j.called(err)
	if err != nil {
		return j.failed(err)
	}
	j.turn(proxy)
	return CodeOK, nil
}

// appendQuery appends a part of a query, raw.
func appendQuery(b []byte, raw string) []byte {
	if raw == "" {
		return b
	}
	if len(b) > 0 {
		b = append(b, '&')
	}
	return append(b, raw...)
}
