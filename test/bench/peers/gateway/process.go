// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Process is a program that runs, with those that it has started.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string // file of what it says
	done chan struct{}
	err  error // of its end, once done is closed
}

// start runs a program in dir; what it says goes to dir/NAME.log.
func start(dir, name string, command ...string) (*Process, error) {
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	// They end with the benchmark, and are not interrupted before it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Close ends the program and waits for that.
func (p *Process) Close() error {
	select {
	case <-p.done: // by itself, which somebody has noticed
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	// What the program leaves behind, or all of it if it does not end: the
	// group is of this program alone.
	defer func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	return nil
}

// said is the end of what the program has said.
func (p *Process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-2000):])
}

// Await asks again and again until there is no error, or the program has ended.
func (p *Process) Await(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(p.err, err), p.said())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, p.said())
		}
	}
}

// Use is what a Process has used, with those that it has started.
type Use struct {
	CPU    time.Duration // since each began
	Memory int64         // bytes; what several share is counted once
}

// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// Use reads what the program uses.
func (p *Process) Use() (Use, error) {
	pids, err := tree(p.cmd.Process.Pid)
	if err != nil {
		return Use{}, err
	}
	var u Use
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			return Use{}, fmt.Errorf("%s: %w", p.name, err)
		}
		u.CPU += s.cpu
		m, err := proportional(pid)
		if err != nil {
			return Use{}, fmt.Errorf("%s: %w", p.name, err)
		}
		u.Memory += m
	}
	return u, nil
}

// CPU is the processor time of Use alone, which is cheaper to read.
func (p *Process) CPU() (time.Duration, error) {
	pids, err := tree(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		sum += s.cpu
	}
	return sum, nil
}

type stat struct {
	parent int
	cpu    time.Duration
}

// readStat reads /proc/PID/stat: the time of all threads, in user and kernel.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

func parseStat(text []byte) (stat, error) {
	// The name, in brackets, may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return stat{}, fmt.Errorf("/proc/PID/stat: %q", text)
	}
	parent, err := strconv.Atoi(string(fields[1]))
	user, errU := strconv.ParseInt(string(fields[11]), 10, 64)
	system, errS := strconv.ParseInt(string(fields[12]), 10, 64)
	return stat{parent, time.Duration(user+system) * clockTick}, errors.Join(err, errU, errS)
}

// tree lists a process and all that come from it.
func tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // else it has just ended
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	out := []int{root}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out, nil
}

// proportional reads how much memory a process has, by halves of what it shares
// with one other, and so on.
func proportional(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parseRollup(text)
}

func parseRollup(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "Pss:" {
			kb, err := strconv.ParseInt(string(f[1]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/PID/smaps_rollup does not say how much memory it is")
}

// freeAddress is an address on this machine where nothing listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
