// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/selfhosted/setting"
)

// poll carries protocol v1: it asks for the whole document every few seconds,
// and tells how it is every minute and after each change.
func (l *Link) poll(ctx context.Context) {
	attempt, beat := 0, time.Time{}
	for ctx.Err() == nil {
		l.ends(time.Time{}, "")
		changed, failure := l.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		next := configuration.PollEvery*8/10 + rand.N(configuration.PollEvery*4/10)
		if failure != nil {
			l.fail(failure)
			attempt++
			next = max(wait(attempt, failure), wait(attempt, nil))
		} else {
			attempt = 0
			if now := l.o.Now(); changed || now.Sub(beat) >= configuration.HeartbeatEvery {
				if f := l.report(ctx); f != nil && ctx.Err() == nil {
					l.note(f)
				} else {
					beat = now
				}
			}
		}
		if !sleep(ctx, next) {
			return
		}
	}
}

// url is where protocol v1 finds something, with the query as it was set.
func (l *Link) url(path func(resource, name string) string) string {
	e := l.o.Endpoint
	u := "https://" + net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) + path(e.Path, l.o.Name)
	if e.Query != "" {
		u += "?" + e.Query
	}
	return u
}

func (l *Link) host() string {
	return net.JoinHostPort(l.o.Endpoint.Host, strconv.Itoa(int(l.o.Endpoint.Port)))
}

// fetch asks for the document once.
func (l *Link) fetch(ctx context.Context) (changed bool, failure *Failure) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url(configuration.ConfigurationPath), nil)
	if err != nil {
		return false, &Failure{Kind: KindRequest, Address: l.host(), Message: err.Error(), Err: err}
	}
	l.introduce(r)
	if have := l.o.Have(); have != nil {
		r.Header.Set("If-None-Match", `"`+have.Hash()+`"`)
		r.Header.Set(configuration.HeaderRevision, strconv.FormatInt(have.Revision, 10))
		r.Header.Set(configuration.HeaderHash, have.Hash())
	}
	res, release, err := l.do(r)
	if err != nil {
		return false, unreached(l.host(), err, l.o.Now())
	}
	defer release()
	defer func() { _ = res.Body.Close() }() // it has been read
	l.clock(l.host(), res)
	switch res.StatusCode {
	case http.StatusOK, http.StatusNotModified:
	default:
		return false, answered(l.host(), res)
	}
	l.connected(setting.V1, l.host(), "the endpoint that is set is of protocol v1")
	l.expiry(res.Header)
	if res.StatusCode == http.StatusNotModified {
		l.confirmed()
		return false, nil
	}
	if err := l.body(res.Body); err != nil {
		f := unserved(l.host(), err)
		if ctx.Err() != nil {
			f.Kind, f.Message = KindTimeout, fmt.Sprintf("the document did not come whole within %s", l.o.Timeout)
		}
		return false, f
	}
	l.confirmed()
	return true, nil
}

// body reads a document and serves it.
func (l *Link) body(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, configuration.MaxFrame+1))
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	if len(b) > configuration.MaxFrame {
		return fmt.Errorf("the document is larger than %d bytes", configuration.MaxFrame)
	}
	doc, err := configuration.DecodeDocument(b)
	if err != nil {
		return err
	}
	return l.o.Take(doc)
}

// report sends one heartbeat.
func (l *Link) report(ctx context.Context) *Failure {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	body, err := json.Marshal(l.beat())
	var r *http.Request
	if err == nil {
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, l.url(configuration.HeartbeatPath), bytes.NewReader(body))
	}
	if err != nil {
		return &Failure{Kind: KindHeartbeat, Address: l.host(), Message: err.Error(), Err: err}
	}
	r.Header.Set("Content-Type", "application/json")
	l.introduce(r)
	res, release, err := l.do(r)
	if err != nil {
		f := unreached(l.host(), err, l.o.Now())
		f.Kind = KindHeartbeat
		return f
	}
	defer release()
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode/100 != 2 {
		f := answered(l.host(), res)
		f.Kind = KindHeartbeat
		return f
	}
	if res.StatusCode == http.StatusNoContent {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, configuration.MaxReply))
	s := &configuration.Standing{}
	if err = errors.Join(err, json.Unmarshal(b, s)); err != nil {
		return &Failure{Kind: KindHeartbeat, Address: l.host(), Message: "the answer to the heartbeat does not parse: " + err.Error(), Err: err}
	}
	l.standing(s)
	return nil
}
