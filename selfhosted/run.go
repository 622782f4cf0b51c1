// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/selfhosted/eventlog"
	"postern.dev/postern/selfhosted/setting"
)

// grace is how long requests under way have to finish: less than the 60 seconds
// after which the original's manifests kill.
const grace = 50 * time.Second

// Run runs a gateway as a process until ctx ends. Settings that are wrong are an
// error; they are in the log too, where those who look after deployments look.
func Run(ctx context.Context, src setting.Sources, out io.Writer, version string) error {
	return RunTracing(ctx, src, out, version, nil)
}

// RunTracing is Run in a program that can send traces, with what export makes.
func RunTracing(ctx context.Context, src setting.Sources, out io.Writer, version string, export func(context.Context, otlp.Options) (otlp.Exporter, error)) error {
	s, notes, err := setting.Read(src)
	if err != nil {
		log := eventlog.New(out, setting.Log{Form: "text"}, false)
		text := strings.ReplaceAll(err.Error(), "\n", "; ") // one event is one line
		log.Error("GatewayStartup", "message", text)
		for _, n := range notes {
			log.Warn("GatewayStartup", "name", n.Name, "from", n.Where, "message", n.Message)
		}
		return errors.New("settings of the gateway: " + text)
	}
	log := eventlog.New(out, s.Log, terminal(out))
	g, err := Start(ctx, Options{Settings: s, Notes: notes, Log: log, Stdout: out, Exporter: export, Version: version, Proxy: http.ProxyFromEnvironment})
	if err != nil {
		log.Error("GatewayStartup", "message", err.Error())
		return err
	}
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := g.Shutdown(ending); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// terminal reports whether colours are of use.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
