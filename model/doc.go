// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package model holds the nouns of Postern: the resources that people write in
// manifests, their names, defaults and validation. It does no input or output,
// reads no clock and keeps no log, so that the server, the command and the
// tests judge a manifest by the very same rules.
package model
