// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"net/http"
	"strings"
)

// names are the fields that responses most often have, as net/http spells them.
var names = func() map[string]string {
	m := map[string]string{}
	for _, n := range [...]string{
		"Age", "Allow", "Alt-Svc", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
		"Content-Security-Policy", "Content-Type", "Date", "ETag", "Expires", "Grpc-Message", "Grpc-Status",
		"Last-Modified", "Link", "Location", "Retry-After", "Server", "Set-Cookie", "Strict-Transport-Security", "Vary",
		"Via", "X-Amzn-Trace-Id", "X-Content-Type-Options", "x-amz-apigw-id", "x-amzn-ErrorType", "x-amzn-Remapped-Date",
		"x-amzn-Remapped-Server", "x-amzn-RequestId", "x-postern-request-id",
	} {
		c := http.CanonicalHeaderKey(n)
		m[n], m[c], m[strings.ToLower(n)] = c, c, c
	}
	return m
}()

// canonical is a name as net/http spells it, in memory of its own.
func canonical(name string) string {
	if c, ok := names[name]; ok {
		return c
	}
	return http.CanonicalHeaderKey(strings.Clone(name))
}
