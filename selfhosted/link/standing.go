// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"postern.dev/postern/configuration"
)

const (
	// skewed is how far two clocks may be apart.
	skewed = 5 * time.Minute
	// warnEvery is how often an expiry that is near is said.
	warnEvery = 24 * time.Hour
	// nearExpiry is from when on it is, while the management plane cannot say.
	nearExpiry = 24 * time.Hour
)

// standing takes the answer to a heartbeat.
func (l *Link) standing(s *configuration.Standing) {
	if have := l.o.Have(); have != nil && have.Hash() == s.Hash {
		l.confirmed()
	}
	l.ends(s.Expires, s.Warning)
}

// expiry reads what an answer says of the token.
func (l *Link) expiry(h http.Header) {
	at, err := time.Parse(time.RFC3339, h.Get(configuration.HeaderExpires))
	if err != nil {
		at = time.Time{} // it is not said, or not understood
	}
	l.ends(at, h.Get(configuration.HeaderWarning))
}

// ends notes when the token ends, and warns of it once a day. That it has ended is
// said at once, whenever it was warned of.
func (l *Link) ends(at time.Time, warning string) {
	now := l.o.Now()
	l.mu.Lock()
	if !at.IsZero() {
		l.state.Expires = at
	}
	at = l.state.Expires
	due := !at.IsZero() && (warning != "" || now.After(at) || !l.state.Connected && at.Sub(now) < nearExpiry) &&
		(now.Sub(l.near) >= warnEvery || now.After(at) && !l.near.After(at))
	if due {
		l.near = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	if now.After(at) {
		l.o.Log.Warn("GatewayTokenExpired", "expiredAtUtc", at.UTC().Format(time.RFC3339), "advice", "make another with postern token create --role selfhosted; what was received before is served on")
		return
	}
	if warning == "" {
		warning = "make another with postern token create --role selfhosted before it ends"
	}
	l.o.Log.Warn("GatewayTokenNearExpiry", "expiresAtUtc", at.UTC().Format(time.RFC3339), "advice", warning)
}

// clock compares the clock of an answer with one's own. It warns once of each
// new difference.
func (l *Link) clock(address string, r *http.Response) {
	at, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return // not said
	}
	skew := l.o.Now().Sub(at)
	l.mu.Lock()
	far := skew.Abs() > skewed
	say := far && (skew-l.skew).Abs() > skewed
	switch {
	case say:
		l.skew = skew
	case !far:
		l.skew = 0
	}
	l.mu.Unlock()
	if say {
		side := "ahead of"
		if skew < 0 {
			side = "behind"
		}
		l.note(&Failure{
			Kind: KindClock, Address: address,
			Message: fmt.Sprintf("this machine's clock is %s %s that of the management plane", skew.Abs().Round(time.Second), side),
			Advice:  "set the clocks by NTP: tokens and certificates seem to end or begin at another time than they do",
		})
	}
}

// detail reads problem+json, or takes a short text as it is.
func detail(b []byte) string {
	var p struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(b, &p) == nil && (p.Detail != "" || p.Title != "") {
		if p.Detail != "" {
			return clip(oneLine(p.Detail))
		}
		return clip(oneLine(p.Title))
	}
	if s := oneLine(string(b)); len(s) < 300 && !strings.HasPrefix(s, "<") {
		return s
	}
	return ""
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
