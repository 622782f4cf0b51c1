// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestItIsSmall reads the packages that are linked. A self-hosted gateway has
// neither a store nor a management plane, and whoever takes it over takes over
// neither.
func TestItIsSmall(t *testing.T) {
	list := exec.Command("go", "list", "-deps", ".")
	list.Env = append(os.Environ(), "GOFLAGS=-mod=readonly") // flags for go test are none of its
	out, err := list.Output()
	if err != nil {
		t.Fatalf("the go command does not list the packages: %v", err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 50 {
		t.Fatalf("only %d packages are listed", len(packages))
	}
	seen := false
	for _, p := range packages {
		seen = seen || p == "postern.dev/postern/selfhosted"
		for _, forbidden := range []string{
			"go.etcd.io/", "google.golang.org/grpc", "gvisor.dev/", "golang.zx2c4.com/", "github.com/spf13/",
			"postern.dev/postern/store", "postern.dev/postern/control", "postern.dev/postern/instance", "postern.dev/postern/client", "postern.dev/postern/engine/network",
		} {
			if strings.HasPrefix(p, forbidden) {
				t.Errorf("%s is linked", p)
			}
		}
	}
	if !seen {
		t.Error("the gateway itself is not linked: the test looks in the wrong place")
	}
}

func TestCommandLines(t *testing.T) {
	f := func(code int, wantOut, wantErr string, environ []string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs bytes.Buffer
		if got := run(ctx, args, environ, &out, &errs); got != code {
			t.Errorf("%v ends with %d, want %d", args, got, code)
		}
		if !strings.Contains(out.String(), wantOut) || !strings.Contains(errs.String(), wantErr) {
			t.Errorf("%v prints\n%s%s", args, &out, &errs)
		}
	}
	f(0, "postern-gateway ", "", nil, "--version")
	f(0, "", "-config.service.endpoint", nil, "--help")
	f(1, "", "it takes flags alone", nil, "serve")
	f(1, "", "postern-gateway: flag provided but not defined: -config.service.endpont; did you mean --config.service.endpoint?\n", nil, "--config.service.endpont=x")
	f(1, "", "-frobnicate; postern-gateway --help lists what there is\n", nil, "--frobnicate")
	f(1, "[Error]", "no valid authentication was configured for the configuration API", nil, "--config.service.endpoint=corp.configuration.x")
	// It starts, and ends as it is told to.
	f(0, "[GatewayStartup], gateway: edge", "", []string{"config.service.auth=GatewayKey edge&203001010000&c2ln"},
		"--config.service.endpoint=corp.configuration.invalid", "--config.backup.path", t.TempDir(), "--net.server.http.address=127.0.0.1:0",
		"--net.server.https.address=127.0.0.1:0", "--telemetry.logs.std.color=false", "--certificates.local.ca.enabled=false")
}
