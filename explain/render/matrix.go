// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// maxWidth is how wide a table may be before its rows become columns: there are
// more callers than components.
const maxWidth = 120

// Matrix writes a table of components and callers, and below it what is in the
// way of each that is not let through.
func Matrix(w io.Writer, m *answer.Matrix, o Options) error {
	p := &page{paint: paint(o.Color)}
	grid, notes, at := cells(m)
	if width(grid) > maxWidth {
		grid = turned(grid)
	}
	p.line("Gateway/%s, networkMode %s", m.Gateway, networking(m))
	p.line("")
	p.grid(grid)
	if m.Omitted > 0 {
		p.line("and %d more callers", m.Omitted)
	}
	p.line("")
	p.line("yes: the component answers; no: it is not reached; ?: not known")
	if len(at) > 0 {
		p.line("*: not by its name, but at the private address %s (as with curl --connect-to)", strings.Join(at, " or "))
	}
	for i, n := range notes {
		p.line("[%d] %s", i+1, n)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// networking names how a Gateway is networked: its mode, and what is added to it.
func networking(m *answer.Matrix) string {
	out := m.Mode
	if m.Outbound != "" {
		out += " + outbound integration"
	}
	open, others := 0, map[string]bool{}
	for _, state := range m.Endpoints {
		if state == model.Approved {
			open++
		} else {
			others[state] = true
		}
	}
	switch {
	case open > 0:
		out += " + private endpoint"
	case len(others) > 0:
		out += " + private endpoint (" + strings.Join(slices.Sorted(maps.Keys(others)), ", ") + ")"
	}
	return out
}

// cells are the table with its headings, the notes that it refers to, and the
// addresses that some callers have to be told.
func cells(m *answer.Matrix) (grid [][]string, notes, at []string) {
	grid = append(grid, append([]string{""}, m.Sources...))
	known := map[string]int{}
	for i := range m.Rows {
		r := &m.Rows[i]
		line := []string{r.Component + " " + strconv.Itoa(r.Port)}
		for k := range r.Cells {
			c := &r.Cells[k]
			told := ""
			if c.ConnectTo != "" {
				told = "*"
				if !slices.Contains(at, c.ConnectTo) {
					at = append(at, c.ConnectTo)
				}
			}
			if c.Verdict == answer.Allow {
				line = append(line, "yes"+told)
				continue
			}
			note := c.Code + " at " + c.By + ": " + short(&c.Symptom)
			if known[note] == 0 {
				notes = append(notes, note)
				known[note] = len(notes)
			}
			word := "no"
			if c.Verdict == answer.Unknown {
				word = "?"
			}
			line = append(line, fmt.Sprintf("%s%s [%d]", word, told, known[note]))
		}
		grid = append(grid, line)
	}
	return grid, notes, at
}

// short is a symptom without the body, which may differ from caller to caller.
func short(s *answer.Symptom) string {
	x := *s
	x.Body = ""
	return Symptom(&answer.Answer{Symptom: x})
}

func turned(grid [][]string) [][]string {
	out := make([][]string, len(grid[0]))
	for i := range out {
		out[i] = make([]string, len(grid))
		for k := range grid {
			out[i][k] = grid[k][i]
		}
	}
	return out
}

// widths are those of the columns.
func widths(grid [][]string) []int {
	out := make([]int, len(grid[0]))
	for _, line := range grid {
		for i, c := range line {
			out[i] = max(out[i], len(c))
		}
	}
	return out
}

func width(grid [][]string) int {
	n := 0
	for _, w := range widths(grid) {
		n += w + 2
	}
	return n
}

func (p *page) grid(grid [][]string) {
	ws := widths(grid)
	for _, line := range grid {
		var b strings.Builder
		for i, c := range line {
			text := fmt.Sprintf("%-*s", ws[i], c)
			switch {
			case strings.HasPrefix(c, "yes"):
				text = p.with(green, text)
			case strings.HasPrefix(c, "no"):
				text = p.with(red, text)
			case strings.HasPrefix(c, "?"):
				text = p.with(yellow, text)
			}
			b.WriteString(text + "  ")
		}
		p.line("%s", b.String())
	}
}
