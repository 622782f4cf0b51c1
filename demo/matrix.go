// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// atOnce bounds the requests of a matrix that are on their way together.
const atOnce = 64

// Matrix is what postern get matrix tells of a Gateway, and what came of each
// of its requests: a row of Outcomes for each of its rows, in the order of its
// sources.
type Matrix struct {
	answer.Matrix
	Seen [][]Outcome
}

// Matrix asks for the matrix of a Gateway and sends the request of every cell
// for real.
func (s *Stage) Matrix(ctx context.Context, gateway string) (*Matrix, error) {
	// Tunnels come up first: whether a Link carries anything is part of what is
	// told.
	set := s.inst.Resources()
	for _, l := range model.All[*model.Link](set) {
		if source, err := full(set, "link/"+l.Metadata.Name); err == nil {
			s.callers.ready(ctx, source)
		}
	}
	told, err := s.api.Matrix(ctx, gateway, true)
	if err != nil {
		return nil, err
	}
	m := &Matrix{Matrix: told, Seen: make([][]Outcome, len(told.Rows))}
	sources := make([]string, len(told.Sources))
	for i, source := range told.Sources {
		if sources[i], err = full(set, source); err != nil {
			return nil, err
		}
		s.callers.ready(ctx, sources[i])
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	failed := make([]error, len(told.Rows)*len(sources))
	for r := range told.Rows {
		m.Seen[r] = make([]Outcome, len(sources))
		for c, source := range sources {
			cell := told.Rows[r].Cells[c]
			q := answer.Question{From: source, URL: told.Rows[r].URL, ConnectTo: cell.ConnectTo}
			a := answer.Answer{Verdict: cell.Verdict, Code: cell.Code, Symptom: cell.Symptom}
			slots <- struct{}{}
			wait.Go(func() {
				defer func() { <-slots }()
				o, err := s.send(ctx, q, a)
				if err != nil {
					err = fmt.Errorf("%s to %s: %w", source, q.URL, err)
				}
				m.Seen[r][c], failed[r*len(sources)+c] = o, err
			})
		}
	}
	wait.Wait()
	return m, errors.Join(failed...)
}

// Differences lists the cells in which what was seen is not what was told, and
// how many cells were compared.
func (m *Matrix) Differences() (differ []error, compared int) {
	for r, row := range m.Seen {
		for c := range row {
			compared++
			if err := row[c].Agrees(); err != nil {
				differ = append(differ, fmt.Errorf("%s from %s: %w", rowName(&m.Rows[r]), m.Sources[c], err))
			}
		}
	}
	return differ, compared
}

// full gives a source the address that it has where none is named: that of
// documentation for the internet, a Link's first.
func full(set *model.Set, source string) (string, error) {
	kind, rest, _ := strings.Cut(source, "/")
	switch {
	case source == "internet":
		return "internet/203.0.113.10", nil
	case kind == "selfhosted":
		// On the internet it calls from the address that stands for it.
		if g, ok := model.Get[*model.SelfHostedGateway](set, rest); ok && g.Spec.Attach == "" {
			return source + "/198.51.100.10", nil
		}
	case kind == "link" && !strings.Contains(rest, "/"):
		l, ok := model.Get[*model.Link](set, rest)
		if !ok || len(l.Spec.CIDRs) == 0 {
			return "", fmt.Errorf("there is no Link %q", rest)
		}
		cidr, err := model.ExpandString(l.Spec.CIDRs[0], set)
		if err != nil {
			return "", err
		}
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return "", fmt.Errorf("prefix of Link %q: %w", rest, err)
		}
		first := p.Masked().Addr()
		if p.Bits() < first.BitLen()-1 {
			first = first.Next()
		}
		return source + "/" + first.String(), nil
	}
	return source, nil
}

// matrix plays a matrix command: every cell is a request of its own.
func (p *player) matrix(ctx context.Context, gateway string) error {
	p.gap()
	p.line("  %s", p.in(bold, "$ postern get matrix "+gateway))
	m, err := p.stage.Matrix(ctx, gateway)
	if err != nil {
		return err
	}
	differ, compared := m.Differences()
	p.calls += compared
	p.gap()
	p.table(m)
	p.gap()
	p.text("  ", fmt.Sprintf("%d requests were sent, one a cell; what each saw stands there. Where a star stands the name does not lead to the Gateway, and the caller was told a private address.", compared))
	for _, err := range differ {
		p.check(err)
	}
	return nil
}

// table prints what was seen: components down, sources across, as many beside
// each other as there is room for.
func (p *player) table(m *Matrix) {
	names := make([]string, len(m.Rows))
	first := 0
	for r := range m.Rows {
		names[r] = rowName(&m.Rows[r])
		first = max(first, len(names[r]))
	}
	for from := 0; from < len(m.Sources); {
		var widths []int
		to, total := from, 4+first
		for ; to < len(m.Sources); to++ {
			w := 0
			for _, part := range heading(m.Sources[to]) {
				w = max(w, utf8.RuneCountInString(part))
			}
			for r := range m.Rows {
				w = max(w, len(word(&m.Seen[r][to])))
			}
			if total += w + 2; total > width && to > from {
				break
			}
			widths = append(widths, w)
		}
		if from > 0 {
			p.line("")
		}
		for part := range 2 {
			l := fmt.Sprintf("    %-*s", first, "")
			for i, w := range widths {
				l += fmt.Sprintf("  %-*s", w, heading(m.Sources[from+i])[part])
			}
			p.line("%s", p.in(bold, strings.TrimRight(l, " ")))
		}
		for r, name := range names {
			l := fmt.Sprintf("    %-*s", first, name)
			for i, w := range widths {
				o := &m.Seen[r][from+i]
				mark := green
				switch {
				case o.Agrees() != nil:
					mark = red
				case o.Answer.Verdict != answer.Allow:
					mark = dim
				}
				l += "  " + p.in(mark, word(o)) + strings.Repeat(" ", w-len(word(o)))
			}
			p.line("%s", l)
		}
		from = to
	}
}

// rowName is a component and its port.
func rowName(r *answer.MatrixRow) string { return r.Component + " " + strconv.Itoa(r.Port) }

// heading is a source in two lines: what it is, and which.
func heading(source string) [2]string {
	kind, name, _ := strings.Cut(source, "/")
	return [2]string{kind, name}
}

// word is what was seen; a star tells that the caller was told the address.
func word(o *Outcome) string {
	if o.Question.ConnectTo != "" {
		return short(o.Seen) + "*"
	}
	return short(o.Seen)
}

// short is a symptom in a word.
func short(s answer.Symptom) string {
	if s.Kind == answer.Response {
		return strconv.Itoa(s.Status)
	}
	return string(s.Kind)
}
