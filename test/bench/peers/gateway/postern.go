// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"postern.dev/postern/client"
	"postern.dev/postern/client/settings"
	"postern.dev/postern/client/wire"
)

// startPostern runs a server on an empty store, applies what is asked for as a
// user would, and publishes on real sockets.
func startPostern(ctx context.Context, t *Task) (_ *Running, err error) {
	program, err := t.buildPostern(ctx)
	if err != nil {
		return nil, err
	}
	v, err := t.fill()
	if err != nil {
		return nil, err
	}
	management, err := freeAddress()
	if err != nil {
		return nil, err
	}
	// Every published port is moved; the one that is not measured to where it
	// is not in the way.
	ports := "443=" + port(v.Addr) + ",80=" + port(v.Metrics)
	if !t.TLS {
		ports = "80=" + port(v.Addr) + ",443=" + port(v.Metrics)
	}
	args := []string{
		program, "server", "--data", "data", "--management", management, "--public", "127.0.0.1",
		"--public-ports", ports + ",3443=" + port(management), "--allow-egress", "127.0.0.1/32",
		// All clients have one address here.
		"--public-connections", strconv.Itoa(t.Conns), "--public-connections-each", strconv.Itoa(t.Conns),
	}
	if v.WithKeys {
		args = append(args, "--access-log", v.AccessLog)
	}
	p, err := start(t.Dir, "postern", args...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	err = p.Await(ctx, func() error {
		if !strings.Contains(p.said(), "postern is ready") {
			return errors.New("it has not said so")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	manifest, err := t.configure("postern.yaml", v)
	if err != nil {
		return nil, err
	}
	command := func(args ...string) ([]byte, error) {
		c := exec.CommandContext(ctx, program, append([]string{"--config", "data/client.yaml"}, args...)...)
		c.Dir = t.Dir
		var said bytes.Buffer
		c.Stderr = &said
		out, err := c.Output()
		if err != nil {
			return nil, fmt.Errorf("postern %s: %w\n%s", args[0], err, said.String())
		}
		return out, nil
	}
	if _, err := command("apply", "-f", manifest); err != nil {
		return nil, err
	}
	if v.WithKeys {
		if err := issue(ctx, filepath.Join(t.Dir, "data", settings.FileName), v.Keys); err != nil {
			return nil, err
		}
	}
	return v.running(p), nil
}

// issuers is how many keys are being issued at once: the changes that gather
// while a configuration is compiled are compiled together.
const issuers = 64

// issue issues the keys, each to a Subscription of its own, as postern key
// create would.
func issue(ctx context.Context, file string, keys []string) error {
	s, err := settings.Load(file)
	if err != nil {
		return err
	}
	c, err := client.New(client.Options{Address: s.Address, CA: s.CA, Token: s.Token})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range issuers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(keys) {
					return
				}
				if _, err := c.CreateKey(ctx, fmt.Sprintf("consumer%d", i), wire.NewKey{Value: keys[i]}); err != nil {
					cancel(fmt.Errorf("issue a key: %w", err))
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address) // as freeAddress made it
	return p
}

// buildPostern builds the command, with a file more where a profile is wanted:
// the product has no switch for that, and needs none.
func (t *Task) buildPostern(ctx context.Context) (string, error) {
	out := filepath.Join(t.Bin, "postern")
	if !t.Profile {
		return out, build(ctx, t.Root, "./cmd/postern", out)
	}
	text, err := texts.ReadFile("conf/profile.go.txt")
	if err != nil {
		return "", err
	}
	file := filepath.Join(t.Bin, "profile.go")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(t.Root, "cmd", "postern", "bench_profile.go"): file,
	}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(t.Bin, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o644); err != nil {
		return "", err
	}
	return out, build(ctx, t.Root, "./cmd/postern", out, "-overlay", list)
}

// profileFile is where Postern writes its profile, as conf/profile.go.txt says.
func (r *Running) profileFile() string { return filepath.Join(r.cmd.Dir, "cpu.pprof") }

// Profile has Postern begin or end a profile of its processor time.
func (r *Running) Profile(on bool) error {
	sig := syscall.SIGUSR2
	if on {
		sig = syscall.SIGUSR1
	}
	return r.cmd.Process.Signal(sig)
}

// AwaitProfile waits for the profile that has been ended, and takes it.
func (r *Running) AwaitProfile(ctx context.Context) (profile []byte, err error) {
	err = r.Await(ctx, func() error {
		if err := os.Rename(r.profileFile()+".done", r.profileFile()); err != nil {
			return err
		}
		profile, err = os.ReadFile(r.profileFile())
		return err
	})
	return profile, err
}
