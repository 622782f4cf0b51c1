// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"postern.dev/postern/store"
)

// wrap turns an error of the etcd client into one of the store's.
func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	var own *store.Error
	if errors.As(err, &own) {
		return err
	}
	reason := store.ErrUnavailable
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		reason = store.ErrFull
		doing += ": etcd has reached its space quota"
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		reason = store.ErrTooLarge
		doing += ": the cluster's limits are below etcd's defaults"
	}
	return store.NewError(reason, doing, err)
}

// caused replaces the plain context error by its cause, which knows whether
// the store was closed or its server died.
func caused(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		var own *store.Error
		if cause := context.Cause(ctx); errors.As(cause, &own) {
			return cause
		}
	}
	return err
}

func corrupt(doing string, err error) error {
	return store.NewError(store.ErrCorrupt, doing, err)
}

// refused reports whether etcd said that it did not take a write. After any
// other error the write may have happened, or may still happen.
func refused(err error) bool {
	for _, e := range []error{
		rpctypes.ErrNoSpace, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrPermissionDenied,
		rpctypes.ErrTooManyRequests, rpctypes.ErrLeaseNotFound, rpctypes.ErrUserEmpty,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return status.Code(err) == codes.Unauthenticated || status.Code(err) == codes.InvalidArgument
}

// gone reports whether a read failed because its etcd revision no longer (or,
// after a restore, not yet) exists.
func gone(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
}
