// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/upstream/multiplex"
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
	// What else HTTP/1.1 can change to would take the requests on it out of sight.
	j.call.Upgrade = proxy && exchange.EqualFold(j.Exchange.Request.Upgrade, "websocket")
	if proxy { // what else is said before the response cannot be mapped as it is
		if j.informs == nil {
			j.informs = j.interim
		}
		j.call.Interim = j.informs
	}
	j.trace()
	j.calling()
	err := r.call(j)
	j.called(err)
	if err != nil {
		return j.failed(err)
	}
	j.turn(proxy)
	return CodeOK, nil
}

// call makes the call by the version of HTTP that the target speaks. An https
// target is asked which where the request needs HTTP/2, as gRPC does.
func (r *Runner) call(j *Job) error {
	ctx, e := j.Exchange.Context(), j.Exchange
	switch j.call.Target.Scheme {
	case multiplex.H2C, multiplex.GRPC, multiplex.GRPCS:
		return r.multi.Do(ctx, &j.call, e)
	case "https":
		if !multiplex.Needed(j.header.Get("Content-Type")) {
			break
		}
		if err := r.multi.Do(ctx, &j.call, e); !errors.Is(err, multiplex.ErrOldVersion) {
			return err
		}
	}
	return r.pool.Do(ctx, &j.call, e)
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
