// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command postern is the gateway, the management plane and the virtual network
// of a private API gateway, and the command line that drives them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
