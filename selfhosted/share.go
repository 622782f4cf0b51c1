// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"context"
	"net/http"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/selfhosted/sibling"
)

// limitAnswers is how many questions for what was counted are answered in a
// minute: twice those of as many instances as there may be.
const limitAnswers = 2 * 64 * int(time.Minute/sibling.Interval)

var limitsText = []exchange.Field{{Name: "Content-Type", Value: sibling.LimitsType}, {Name: "Cache-Control", Value: "no-store"}}

func (g *Gateway) newShare() {
	g.share, g.counts = sibling.NewShare(g.engine.Limits, g.o.Now), newPace(limitAnswers, g.o.Now)
	if g.quotas != nil {
		g.share.Kept = g.quotas.ID()
	}
}

// shareLimits counts what the other instances let through.
func (g *Gateway) shareLimits(ctx context.Context) {
	n := &sibling.Neighborhood{Key: g.key, Host: g.s.Neighborhood, Port: g.s.NeighborhoodPort, Lookup: g.names.lookup, Dial: g.names.dial}
	n.Poll(ctx, g.share, func(err error) {
		if err != nil {
			g.log.Warn("LimitsNotShared", "exception", err.Error(), "message", "what this instance is not told of counts by itself: limits let through more")
			return
		}
		g.log.Info("LimitsShared")
	})
}

// answerLimits tells another instance what was counted here.
func (g *Gateway) answerLimits(x *exchange.Exchange) {
	if g.key == nil {
		x.Reply(http.StatusNotFound, plainText, nil)
		return
	}
	asked, question, err := g.key.ReadLimits(x.Request.Header.Get(sibling.Header), x.Request.Header.Get(sibling.LimitsHeader))
	if err != nil {
		x.Reply(http.StatusForbidden, plainText, nil)
		g.log.Debug("SiblingRefused", "from", x.Origin.Source, "exception", err.Error())
		return
	}
	if !g.counts.step() {
		x.Reply(http.StatusTooManyRequests, plainText, nil)
		return
	}
	report, err := g.share.Report(question)
	var sealed []byte
	if err == nil {
		sealed, err = asked.Answer(report)
	}
	if err != nil {
		x.Reply(http.StatusInternalServerError, plainText, nil)
		g.log.Error("SiblingNotAnswered", "from", x.Origin.Source, "exception", err.Error())
		return
	}
	x.Reply(http.StatusOK, limitsText, sealed)
}
