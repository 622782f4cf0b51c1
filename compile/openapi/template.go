// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"postern.dev/postern/snapshot/operation"
)

// directive finds what makes a template a program: VTL directives and comments.
var directive = regexp.MustCompile(`#\{?(set|if|elseif|else|end|foreach|include|parse|stop|break|evaluate|define|macro)\b|##|#\*|#\[\[`)

// parseTemplate reads a mapping template. Values are put in, nothing is
// computed: a template that does more is refused with what it does.
func parseTemplate(s string) (operation.Template, error) {
	t := operation.Template{Source: strings.Clone(s)}
	if d := directive.FindString(s); d != "" {
		return t, fmt.Errorf("%s in a template: directives are not carried out, only $context.x, $stageVariables.x, $input.body, $input.params('x') and $input.json('$') are replaced", d)
	}
	s = t.Source
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			t.Pieces = join(t.Pieces, s)
			break
		}
		t.Pieces = join(t.Pieces, s[:i])
		piece, rest, err := reference(s[i:])
		if err != nil {
			return t, err
		}
		if piece.Kind == operation.PieceText {
			t.Pieces = join(t.Pieces, piece.Value)
		} else {
			t.Pieces = append(t.Pieces, piece)
		}
		s = rest
	}
	return t, nil
}

// join appends text, joining it with text before it.
func join(ps []operation.Piece, s string) []operation.Piece {
	if s == "" {
		return ps
	}
	if n := len(ps); n > 0 && ps[n-1].Kind == operation.PieceText {
		ps[n-1].Value += s
		return ps
	}
	return append(ps, operation.Piece{Kind: operation.PieceText, Value: s})
}

// reference reads what follows a dollar sign. A dollar before anything but a
// name is itself.
func reference(s string) (operation.Piece, string, error) {
	if strings.HasPrefix(s, "$!") {
		return operation.Piece{}, "", errors.New("$! in a template: quiet references are not carried out; leave the ! out")
	}
	body, braced := strings.CutPrefix(s[1:], "{")
	n := 0
	for n < len(body) && (nameByte(body[n]) || n > 0 && (body[n] == '.' || body[n] == '-')) {
		n++
	}
	for n > 0 && (body[n-1] == '.' || body[n-1] == '-') {
		n--
	}
	name := body[:n]
	if name == "" || '0' <= name[0] && name[0] <= '9' {
		return operation.Piece{Kind: operation.PieceText, Value: "$"}, s[1:], nil
	}
	piece, rest, err := named(name, body[n:])
	if err != nil {
		return piece, "", err
	}
	if braced {
		var closed bool
		if rest, closed = strings.CutPrefix(rest, "}"); !closed {
			return piece, "", fmt.Errorf("${%s in a template has no closing brace", name)
		}
	}
	return piece, rest, nil
}

func named(name, rest string) (operation.Piece, string, error) {
	root, member, _ := strings.Cut(name, ".")
	switch {
	case root == "context" && strings.HasPrefix(member, "error."):
		return operation.Piece{Kind: operation.PieceError, Value: member[len("error."):]}, rest, nil
	case root == "context" && member != "":
		return operation.Piece{Kind: operation.PieceContext, Value: member}, rest, nil
	case root == "stageVariables" && member != "":
		return operation.Piece{Kind: operation.PieceStageVariable, Value: member}, rest, nil
	case name == "input.body":
		return operation.Piece{Kind: operation.PieceBody}, rest, nil
	case name == "input.params" || name == "input.json":
		arg, rest, err := argument(rest)
		if err != nil {
			return operation.Piece{}, "", fmt.Errorf("$%s: %w", name, err)
		}
		if name == "input.params" {
			return operation.Piece{Kind: operation.PieceParam, Value: arg}, rest, nil
		}
		if arg != "$" && !strings.HasPrefix(arg, "$.") && !strings.HasPrefix(arg, "$[") {
			return operation.Piece{}, "", fmt.Errorf("$input.json('%s'): a path begins with $", arg)
		}
		return operation.Piece{Kind: operation.PieceJSON, Value: arg}, rest, nil
	}
	return operation.Piece{}, "", fmt.Errorf("$%s in a template is not known; $context.x, $stageVariables.x, $input.body, $input.params('x') and $input.json('$') are", name)
}

// argument reads ('x') or ("x").
func argument(s string) (arg, rest string, err error) {
	s, ok := strings.CutPrefix(s, "(")
	s = strings.TrimLeft(s, " ")
	if !ok || s == "" || s[0] != '\'' && s[0] != '"' {
		return "", "", errors.New("wants one argument in quotes")
	}
	arg, rest, ok = strings.Cut(s[1:], s[:1])
	rest, closed := strings.CutPrefix(strings.TrimLeft(rest, " "), ")")
	if !ok || !closed || arg == "" {
		return "", "", errors.New("wants one argument in quotes")
	}
	return arg, rest, nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// parseURI reads the URI of an integration, with ${stageVariables.x} and
// {param} in it.
func parseURI(s string) (operation.Template, error) {
	t := operation.Template{Source: strings.Clone(s)}
	for s = t.Source; s != ""; {
		i := strings.IndexAny(s, "${")
		if i < 0 {
			t.Pieces = join(t.Pieces, s)
			break
		}
		t.Pieces = join(t.Pieces, s[:i])
		s = s[i:]
		end := strings.IndexByte(s, '}')
		switch {
		case strings.HasPrefix(s, "${"):
			name, ok := strings.CutPrefix(s[:max(end, 0)], "${stageVariables.")
			if !ok || name == "" {
				return t, fmt.Errorf("%s: only ${stageVariables.name} may stand in a URI", s)
			}
			t.Pieces = append(t.Pieces, operation.Piece{Kind: operation.PieceStageVariable, Value: name})
			s = s[end+1:]
		case s[0] == '$':
			t.Pieces = join(t.Pieces, "$")
			s = s[1:]
		case end < 0 || end == 1:
			return t, fmt.Errorf("%s: a parameter is written {name}", s)
		default:
			name := strings.TrimSuffix(s[1:end], "+")
			t.Pieces = append(t.Pieces, operation.Piece{Kind: operation.PieceParam, Value: name})
			s = s[end+1:]
		}
	}
	return t, nil
}
