// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/setting"
)

// Enrol asks for a client certificate for the key of a certificate request: with
// an enrolment, or, if that is empty, with the certificate that connections show.
// What stands in the way is logged, as for everything else.
func (l *Link) Enrol(ctx context.Context, request string, enrolment model.Secret) (*configuration.Enrolled, error) {
	body, err := json.Marshal(configuration.Enrol{Request: request})
	if err != nil {
		return nil, err
	}
	places := []string{l.host()}
	if l.o.Endpoint.Protocol == setting.V2 {
		places = candidates(l.o.Endpoint)
	}
	var failure *Failure
	for _, address := range places {
		out, f := l.enrol(ctx, address, body, enrolment)
		if f == nil {
			// Connections that showed the certificate before are not used again.
			l.client.CloseIdleConnections()
			return out, nil
		}
		if failure == nil || f.settles() {
			failure = f
		}
		if f.settles() || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() == nil {
		l.fail(failure)
	}
	return nil, failure
}

func (l *Link) enrol(ctx context.Context, address string, body []byte, enrolment model.Secret) (*configuration.Enrolled, *Failure) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+configuration.EnrolPath, bytes.NewReader(body))
	if err != nil {
		return nil, &Failure{Kind: KindRequest, Address: address, Message: err.Error(), Err: err}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(configuration.HeaderInstance, l.o.Instance)
	if !enrolment.IsZero() {
		r.Header.Set("Authorization", configuration.EnrolScheme+" "+enrolment.Reveal())
	}
	res, release, err := l.do(r)
	if err != nil {
		return nil, unreached(address, err, l.o.Now())
	}
	defer release()
	defer func() { _ = res.Body.Close() }() // it has been read
	l.clock(address, res)
	if res.StatusCode != http.StatusOK {
		f := answered(address, res)
		if f.Kind == KindToken {
			f.Advice = "make an enrolment with postern token create --role selfhosted --enrol, and give it as config.service.auth.enrolment"
		}
		return nil, f
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	out := &configuration.Enrolled{}
	if err = errors.Join(err, json.Unmarshal(b, out)); err != nil {
		return nil, &Failure{Kind: KindRequest, Address: address, Message: "the answer to the enrolment does not parse", Err: err}
	}
	return out, nil
}

// Wait waits before the next of several attempts that failed, and reports false
// if ctx ended before.
func Wait(ctx context.Context, attempt int, err error) bool {
	var f *Failure
	errors.As(err, &f)
	return sleep(ctx, wait(attempt, f))
}
