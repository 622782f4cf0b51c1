// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"postern.dev/postern/decide/request"
)

func TestACallThatGoesInACircleEnds(t *testing.T) {
	self := `"x-amazon-apigateway-integration":{"uri":"http://` + pubID + restOf + `/prod/`
	l := newLab(t, `{"openapi":"3.0.1","paths":{
		"/passed":{"get":{`+self+`passed","type":"http_proxy","httpMethod":"GET"}}},
		"/covered":{"get":{`+self+`covered","type":"http_proxy","httpMethod":"GET","requestParameters":{"integration.request.header.cdn-loop":"'mine'"}}}},
		"/mapped":{"get":{`+self+`mapped","type":"http","httpMethod":"GET","responses":{"default":{"statusCode":"200"},"500":{"statusCode":"500"}}}}}
	}}`)
	l.g.HTTP = "serve"
	var dialled atomic.Int32
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		if dialled.Add(1) > 2*request.MaxPasses {
			return nil, errors.New("it goes on and on")
		}
		return l.connect(t, false, 80), nil
	}
	for _, path := range []string{"passed", "covered", "mapped"} {
		dialled.Store(0)
		res, body := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/"+path, nil, "")
		if res.StatusCode != 500 || !strings.Contains(body, "Internal server error") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
		if n := dialled.Load(); n > request.MaxPasses {
			t.Errorf("%s: %d calls", path, n)
		}
	}
}

func TestWhatOtherProxiesSayOfALoopIsPassedOn(t *testing.T) {
	l := newLab(t, `{"openapi":"3.0.1","paths":{"/x":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"http://up.example/"}}}}}`)
	l.g.HTTP = "serve"
	said := make(chan string, 1)
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		c, s := loopback(t)
		go func() {
			defer s.Close()
			b := make([]byte, 4096)
			n, _ := s.Read(b)
			said <- string(b[:n])
			_, _ = s.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
		}()
		return c, nil
	}
	l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/x", map[string]string{"CDN-Loop": "other; v=1"}, "")
	if got := <-said; strings.Count(got, "Loop: other; v=1\r\n") != 1 || strings.Count(got, "CDN-Loop: postern\r\n") != 1 {
		t.Errorf("the backend is told\n%s", got)
	}
}
