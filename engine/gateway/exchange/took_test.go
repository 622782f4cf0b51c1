// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exchange

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestAnExchangeTakesUntilTheLastOfItsResponseIsOut(t *testing.T) {
	var e Exchange
	start := time.Now().Add(-time.Hour)
	e.Begin(context.Background(), start)
	if e.Took() < time.Hour {
		t.Errorf("an exchange under way has taken %v", e.Took())
	}
	e.Ended = start.Add(time.Minute)
	if e.Took() != time.Minute {
		t.Errorf("it took %v", e.Took())
	}
	if e.Failure = errors.New("the backend broke off"); e.Took() < time.Hour {
		t.Errorf("a response that was cut short took %v", e.Took())
	}
	e.Begin(context.Background(), start)
	if e.Took() < time.Hour {
		t.Error("the next exchange has ended with the one before")
	}
}
