// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package task is what the programs here have to do, as the benchmark says it.
package task

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Task says what to do.
type Task struct {
	Listen      string   `json:"listen"`  // host:port
	Backend     string   `json:"backend"` // host:port
	Prefixes    []string `json:"prefixes"`
	Keys        []string `json:"keys"` // none: nobody needs one
	Rate        float64  `json:"rate"` // of each key, a second
	Certificate string   `json:"certificate"`
	Key         string   `json:"key"`
	HTTP2       bool     `json:"http2"`
	AccessLog   string   `json:"accessLog"`
	Metrics     string   `json:"metrics"` // host:port
}

// Read reads the task that the first argument names a file of, or ends the
// program.
func Read() *Task {
	var t Task
	if len(os.Args) != 2 {
		End(fmt.Errorf("usage: %s TASK.json", os.Args[0]))
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		End(err)
	}
	if err := json.Unmarshal(text, &t); err != nil {
		End(fmt.Errorf("%s: %w", os.Args[1], err))
	}
	return &t
}

// End ends the program with an error.
func End(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Known are the prefixes without their slash.
func (t *Task) Known() map[string]bool {
	out := map[string]bool{}
	for _, p := range t.Prefixes {
		out[p[1:]] = true
	}
	return out
}

// Split parts the prefix of a path from the rest.
func Split(path string) (prefix, rest string) {
	path = strings.TrimPrefix(path, "/")
	i := strings.IndexByte(path, '/')
	if i < 0 {
		return path, "/"
	}
	return path[:i], path[i:]
}
