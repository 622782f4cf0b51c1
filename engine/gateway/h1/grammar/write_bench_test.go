// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"testing"

	"postern.dev/postern/engine/gateway/exchange"
)

func BenchmarkAppendResponse(b *testing.B) {
	var h exchange.Header
	for _, f := range [][2]string{
		{"Content-Type", "text/plain"},
		{"x-amzn-Remapped-Date", "Sun, 22 Nov 2026 13:57:16 GMT"},
		{"x-amzn-Remapped-Server", "origin"},
		{"x-amzn-RequestId", "0a1b2c3d-0a1b-4c3d-8e5f-0a1b2c3d4e5f"},
		{"x-amz-apigw-id", "AbCdEfGhIjKlMnO="},
		{"x-postern-request-id", "0a1b2c3d-0a1b-4c3d-8e5f-0a1b2c3d4e5f"},
		{"X-Amzn-Trace-Id", "Root=1-0a1b2c3d-0a1b4c3d8e5f0a1b2c3d4e5f"},
	} {
		h.Add(f[0], f[1])
	}
	date := []byte("Sun, 22 Nov 2026 13:57:16 GMT")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendResponse(buf, &Answer{Status: 200, Header: &h, Length: 1024, Date: date}); err != nil {
			b.Fatal(err)
		}
	}
}
