// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/test/bench/peers/gateway"
	"postern.dev/postern/test/bench/peers/load"
)

// figures are what one gateway did in one round.
type figures struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // for each request
	memory    float64       // bytes
}

// results are of one scenario.
type results struct {
	scenario
	of    map[string][]figures // by gateway, one a round
	notes map[string]string    // why a gateway has none, or what it lacks
	rate  float64              // of all, where it is fixed
}

func (o *options) run(ctx context.Context) error {
	bin := filepath.Join(o.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	done := map[string]*results{}
	fmt.Fprint(o.out, machine())
	for i := 0; i < len(o.scenarios); {
		// Scenarios beside each other that need the same gateways share them.
		first := find(o.scenarios[i])
		group := []scenario{first}
		for i++; i < len(o.scenarios); i++ {
			s := find(o.scenarios[i])
			if !s.same(&first) {
				break
			}
			group = append(group, s)
		}
		if err := o.group(ctx, group, bin, done); err != nil {
			return err
		}
	}
	return nil
}

// group measures scenarios with one set of gateways.
func (o *options) group(ctx context.Context, group []scenario, bin string, done map[string]*results) (err error) {
	s := group[0]
	backend, err := startOrigin(s.answer)
	if err != nil {
		return fmt.Errorf("start the backend: %w", err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()

	notes := map[string]string{}
	var running []*gateway.Running
	defer func() {
		for _, r := range running {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, g := range gateway.All {
		if !slices.Contains(o.gateways, g.Name) {
			continue
		}
		t := &gateway.Task{
			Backend: backend.address, APIs: s.apis, Keys: s.keys, Rate: o.rate, TLS: s.tls, HTTP2: s.http2, Conns: o.limit,
			Root: o.root, Bin: bin, Dir: filepath.Join(o.dir, s.name), Profile: o.profile != "",
		}
		fmt.Fprintf(o.log, "peers: %s: starting %s\n", s.name, g.Name)
		r, err := g.Start(ctx, t)
		if errors.Is(err, gateway.ErrUnfit) {
			notes[g.Name] = err.Error()
			continue
		}
		if err != nil {
			return err
		}
		running = append(running, r)
		if err := prove(ctx, &s, r); err != nil {
			return fmt.Errorf("%s does not do what scenario %s asks for: %w", g.Name, s.name, err)
		}
	}
	for _, s := range group {
		res := &results{scenario: s, of: map[string][]figures{}, notes: notes}
		done[s.name] = res
		if s.idle > 0 {
			err = o.rest(ctx, res, running)
		} else {
			err = o.inTurn(ctx, res, running, done)
		}
		if err != nil {
			return err
		}
		res.print(o.out)
	}
	return nil
}

// inTurn measures all gateways in turn, each round beginning with the next.
func (o *options) inTurn(ctx context.Context, res *results, running []*gateway.Running, done map[string]*results) error {
	if res.share > 0 {
		of := done[res.scenario.of]
		if of == nil || len(of.of["nginx"]) == 0 {
			return fmt.Errorf("scenario %s needs nginx's maximum in %s: measure both, and nginx", res.name, res.scenario.of)
		}
		res.rate = res.share * of.median("nginx", perSecond)
	}
	for round := range o.rounds {
		for i := range running {
			r := running[(round+i)%len(running)]
			profile := o.profile != "" && r.Name == "postern" && round == o.rounds-1
			f, err := o.measure(ctx, &res.scenario, r, res.rate, profile)
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("scenario %s, round %d, %s: %w", res.name, round+1, r.Name, err)
			}
			res.of[r.Name] = append(res.of[r.Name], f)
			fmt.Fprintf(o.log, "peers: %s: round %d of %d: %-8s %8.0f/s %8.1f us CPU a request\n", res.name, round+1, o.rounds, r.Name, f.perSecond, us(f.cpu))
		}
	}
	return nil
}

// measure has one gateway work for a while.
func (o *options) measure(ctx context.Context, s *scenario, r *gateway.Running, rate float64, profile bool) (figures, error) {
	p := s.plan(r, o)
	p.Rate = rate
	var from, to time.Duration
	var errFrom, errTo, errProfile error
	p.Began = func() {
		if profile {
			errProfile = r.Profile(true)
		}
		from, errFrom = r.CPU()
	}
	p.Ended = func() {
		to, errTo = r.CPU()
		if profile {
			errProfile = errors.Join(errProfile, r.Profile(false))
		}
	}
	out, err := load.Run(ctx, p)
	if err != nil {
		return figures{}, err
	}
	use, err := r.Use()
	if err := errors.Join(err, errFrom, errTo, errProfile); err != nil {
		return figures{}, err
	}
	if r.AccessLog != "" { // it would fill the disk
		if err := os.Truncate(r.AccessLog, 0); err != nil {
			return figures{}, err
		}
	}
	if profile {
		if err := o.saveProfile(ctx, s, r); err != nil {
			return figures{}, err
		}
	}
	return figures{
		perSecond: out.PerSecond(), p50: out.Latency.Quantile(0.5), p99: out.Latency.Quantile(0.99),
		cpu: (to - from) / time.Duration(out.Latency.Count()), memory: float64(use.Memory),
	}, nil
}

// saveProfile waits until Postern has written its profile, and copies it.
func (o *options) saveProfile(ctx context.Context, s *scenario, r *gateway.Running) error {
	written, err := r.AwaitProfile(ctx)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(o.profile, "SCENARIO", s.name)
	fmt.Fprintf(o.log, "peers: %s: a profile of Postern is in %s\n", s.name, name)
	return os.WriteFile(name, written, 0o644)
}

// backend is the origin as a process of its own.
type backend struct {
	cmd     *exec.Cmd
	address string
}

func startOrigin(size int) (*backend, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, asOrigin, strconv.Itoa(size))
	c.Env = append(os.Environ(), "GOGC=off", "GOMAXPROCS=1") // it makes no garbage to speak of
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	b := &backend{cmd: c}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.address = strings.TrimSpace(line)
	return b, nil
}

// Close ends the process and waits for that.
func (b *backend) Close() error {
	if err := b.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = b.cmd.Wait() // it was killed, which is what it says
	return nil
}

func machine() string {
	var cpu string
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		text, _ := io.ReadAll(io.LimitReader(f, 1<<16)) // a name for the reader, no more
		_ = f.Close()
		_, rest, _ := strings.Cut(string(text), "model name")
		cpu, _, _ = strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	}
	var u syscall.Utsname
	_ = syscall.Uname(&u) // likewise
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return fmt.Sprintf("%s, %d processors (%s), Linux %s, loopback. The processors are shared by clients, gateway and backend;\nCPU and memory are the gateway's alone. Medians, then ratios to nginx.\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), numCPU(), cpu, release)
}
