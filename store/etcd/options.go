// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/tls"
	"log/slog"
	"time"

	"postern.dev/postern/store"
)

// Codec turns records into what is written, and back. The context given to
// Seal binds a record to its place; Open must fail with another one.
type Codec interface {
	// ID names the algorithm and the key. It is stored in the clear and
	// compared when the store is opened.
	ID() string
	Seal(context, plain []byte) []byte
	Open(context, sealed []byte) ([]byte, error)
}

// Options configure a store. The zero value is ready for use.
type Options struct {
	// Codec encrypts what is written; nil writes it in the clear.
	Codec  Codec
	Limits store.Limits
	// Logger gets what the store and etcd have to say; nil drops it.
	Logger *slog.Logger
	// Prefix is put before every key in etcd; default "/postern/".
	Prefix string
	// CheckpointChanges and CheckpointBytes say after how much log the whole
	// state is written again and older log removed; defaults 1000 and 16 MiB
	// (or the size of the state, whichever is more).
	CheckpointChanges int
	CheckpointBytes   int64
	// Upkeep is the interval of housekeeping; default 5 minutes.
	Upkeep time.Duration
	// StagingTTL is how long a writer may take to write the chunks of one
	// large change, and so how long the chunks of a crashed writer stay;
	// default 2 minutes. Embedded stores clean up at once.
	StagingTTL time.Duration
	// Timeout bounds a request when the caller's context does not; default
	// 15 seconds.
	Timeout time.Duration
}

// Cluster says where a cluster is and how to log in.
type Cluster struct {
	// Addresses are host:port, https:// URLs or unix:// paths.
	Addresses []string
	// TLS is used for https:// addresses; nil uses the system's roots.
	TLS                *tls.Config
	Username, Password string
	// KeepHistory leaves the compaction of etcd's own history, which is one
	// for the whole cluster, to the cluster's operator.
	KeepHistory bool
}

func (o Options) withDefaults() Options {
	if o.Codec == nil {
		o.Codec = clear{}
	}
	o.Limits = o.Limits.WithDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Prefix == "" {
		o.Prefix = "/postern/"
	}
	if o.CheckpointChanges <= 0 {
		o.CheckpointChanges = 1000
	}
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = 16 << 20
	}
	if o.Upkeep <= 0 {
		o.Upkeep = 5 * time.Minute
	}
	if o.StagingTTL <= 0 {
		o.StagingTTL = 2 * time.Minute
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	return o
}

// clear is the codec of an unencrypted store.
type clear struct{}

func (clear) ID() string                            { return "clear" }
func (clear) Seal(_, plain []byte) []byte           { return plain }
func (clear) Open(_, sealed []byte) ([]byte, error) { return sealed, nil }
