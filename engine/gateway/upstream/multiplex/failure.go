// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"context"
	"errors"
	"strings"

	"postern.dev/postern/engine/gateway/upstream"
)

// errSilent is why a call that was too slow has been given up.
var errSilent = slow("multiplex: the backend took too long")

// errAborted is what the transport reads of a body whose exchange has ended.
var errAborted = errors.New("multiplex: the request is no longer sent")

// slow is an error of time.
type slow string

func (s slow) Error() string { return string(s) }

// Timeout says that it is one of time.
func (slow) Timeout() bool { return true }

// Is makes it equal to any other deadline.
func (slow) Is(err error) bool { return err == context.DeadlineExceeded }

// streamError is how the transport shows that a stream was reset: its errors fill any struct with these members.
type streamError struct {
	StreamID uint32
	Code     resetCode
	Cause    error
}

type resetCode uint32

// Error has no reader: only the members count.
func (streamError) Error() string { return "multiplex: the stream was reset" }

const (
	resetProtocol    resetCode = 0x1
	resetFlowControl resetCode = 0x3
	resetFrameSize   resetCode = 0x6
	resetRefused     resetCode = 0x7
	resetCompression resetCode = 0x9
	goodbye                    = "received Server's graceful shutdown GOAWAY"
	unusable                   = "client conn not usable"
	closedAlready              = "client conn is closed"
	notSentYet                 = "client conn could not be established"
)

// refused tells whether a backend, or the connection to it, has said of a call that it did nothing about it.
func refused(err error) bool {
	if se := (streamError{}); errors.As(err, &se) {
		return se.Code == resetRefused
	}
	// The transport knows by these what it may send again; it has no other name for them.
	text := err.Error()
	for _, s := range [...]string{goodbye, unusable, closedAlready, notSentYet} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func fail(t upstream.Target, phase upstream.Phase, err error) *upstream.Failure {
	return &upstream.Failure{Kind: classify(err, phase), Phase: phase, Target: t, Err: err}
}

// classify tells the kind of an error of the transport.
func classify(err error, phase upstream.Phase) upstream.Kind {
	if errors.Is(err, ErrOldVersion) {
		return upstream.TLS
	}
	if se := (streamError{}); errors.As(err, &se) {
		switch se.Code {
		case resetProtocol, resetFlowControl, resetFrameSize, resetCompression:
			return upstream.Protocol
		}
		return upstream.Reset
	}
	return upstream.Classify(err, phase)
}
