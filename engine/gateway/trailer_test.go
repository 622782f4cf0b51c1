// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTrailersThatACallerAnnouncesAreAnnouncedToBackendsOverHTTP2(t *testing.T) {
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		announced := len(r.Trailer) // what is not announced the server drops
		_, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, announced, r.Trailer.Get("X-Sum"), r.Trailer.Get("X-Other"), len(r.Trailer), r.Header.Get("Trailer"), err)
	})
	for name, c := range map[string]*http.Client{
		"HTTP/1.1": l.h1client(t), "HTTP/2": l.h2client(t, false, ""), "HTTP/3": l.h3client(t, l.socket(t), "", nil),
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.pub.Host+"/prod/rpc", io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": {"8"}, "X-Other": {"9"}}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(name, err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if want := fmt.Sprint(2, "8", "9", 2, "", nil); err != nil || string(b) != want {
			t.Errorf("%s: the backend saw %q, want %q; %v", name, b, want, err)
		}
	}
}
