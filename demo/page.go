// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is how wide what is printed is; only what has no space in it, such as a
// URL, is wider.
const width = 80

// page prints blocks with one empty line between them. It remembers the first
// error of its writer.
type page struct {
	to    io.Writer
	color bool
	begun bool
	err   error
}

// The marks of a page, as terminals know them.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

// in gives text a mark, on a terminal.
func (p *page) in(mark, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + mark + "m" + text + "\x1b[0m"
}

// gap begins a block.
func (p *page) gap() {
	if p.begun {
		p.line("")
	}
	p.begun = true
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.to, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

// text prints a paragraph.
func (p *page) text(indent, text string) {
	for _, l := range wrap(text, width-len(indent)) {
		p.line("%s%s", indent, l)
	}
}

// field prints a word and, beside it, what it says.
func (p *page) field(mark, word, text string) {
	const indent, beside = "     ", 11
	for i, l := range wrap(text, width-len(indent)-beside) {
		head := strings.Repeat(" ", beside)
		if i == 0 {
			head = p.in(mark, word) + strings.Repeat(" ", max(1, beside-len(word)))
		}
		p.line("%s%s%s", indent, head, l)
	}
}

// wrap breaks a text into lines of at most n characters, at spaces.
func wrap(text string, n int) []string {
	var out []string
	line, length := "", 0
	for _, word := range strings.Fields(text) {
		l := utf8.RuneCountInString(word)
		switch {
		case line == "":
			line, length = word, l
		case length+1+l <= n:
			line, length = line+" "+word, length+1+l
		default:
			out = append(out, line)
			line, length = word, l
		}
	}
	return append(out, line)
}
