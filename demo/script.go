// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
)

//go:embed walkthroughs/*.txt
var walkthroughs embed.FS

// Script is one walk-through: a testscript file, whose comments tell the story
// and whose commands play it.
type Script struct {
	Name  string // such as 1-private-api-over-a-site-link
	Title string
	Lines []Line
	Files []txtar.File
}

// Line is one line of a Script: words, or a command, perhaps one that is to
// fail.
type Line struct {
	Text string   // of a comment
	Args []string // of a command
	Not  bool
}

// Scripts lists the walk-throughs in order.
func Scripts() ([]Script, error) {
	entries, err := walkthroughs.ReadDir("walkthroughs")
	if err != nil {
		return nil, err
	}
	var out []Script
	for _, e := range entries {
		data, err := walkthroughs.ReadFile(path.Join("walkthroughs", e.Name()))
		if err != nil {
			return nil, err
		}
		s, err := parse(strings.TrimSuffix(e.Name(), ".txt"), data)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Script) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func parse(name string, data []byte) (Script, error) {
	a := txtar.Parse(data)
	s := Script{Name: name, Files: a.Files}
	for n, l := range strings.Split(string(a.Comment), "\n") {
		l = strings.TrimSpace(l)
		if text, ok := strings.CutPrefix(l, "#"); ok {
			text = strings.TrimSpace(text)
			if s.Title == "" {
				s.Title = text
				continue
			}
			s.Lines = append(s.Lines, Line{Text: text})
			continue
		}
		if l == "" {
			s.Lines = append(s.Lines, Line{})
			continue
		}
		args, err := split(l)
		if err != nil {
			return s, fmt.Errorf("%s.txt:%d: %w", name, n+1, err)
		}
		not := args[0] == "!"
		if not {
			args = args[1:]
		}
		s.Lines = append(s.Lines, Line{Args: args, Not: not})
	}
	return s, nil
}

// split cuts a command line into words as testscript does: single quotes group,
// and two of them within stand for one.
func split(l string) ([]string, error) {
	var out []string
	var word strings.Builder
	started, quoted := false, false
	for i := 0; i < len(l); i++ {
		c := l[i]
		switch {
		case c == '\'' && quoted && i+1 < len(l) && l[i+1] == '\'':
			word.WriteByte(c)
			i++
		case c == '\'':
			quoted, started = !quoted, true
		case !quoted && (c == ' ' || c == '\t'):
			if started {
				out = append(out, word.String())
				word.Reset()
				started = false
			}
		default:
			started = true
			word.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed: %s", l)
	}
	if started {
		out = append(out, word.String())
	}
	return out, nil
}
