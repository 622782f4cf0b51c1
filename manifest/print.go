// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"regexp"
	"strings"
	"unicode"

	"postern.dev/postern/model"
	"postern.dev/postern/model/tree"
)

// MarshalYAML writes resources as YAML documents, secrets redacted.
func MarshalYAML(objects ...model.Object) ([]byte, error) {
	var b strings.Builder
	for i, o := range objects {
		n, err := model.ToTree(o, false)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		if err := writeMap(&b, n, ""); err != nil {
			return nil, err
		}
	}
	return []byte(b.String()), nil
}

// open returns n, or what it holds if it is encoded JSON.
func open(n *tree.Node) (*tree.Node, error) {
	if n.Kind != tree.JSON {
		return n, nil
	}
	list, problems := tree.ParseJSON([]byte(n.Text))
	if len(problems) > 0 {
		return nil, problems[0]
	}
	if len(list) == 0 {
		return &tree.Node{}, nil
	}
	return list[0], nil
}

func writeMap(b *strings.Builder, n *tree.Node, indent string) error {
	for _, f := range n.Fields {
		b.WriteString(indent)
		b.WriteString(scalar(f.Name))
		b.WriteByte(':')
		if err := writeValue(b, f.Value, indent, indent+"  "); err != nil {
			return err
		}
	}
	return nil
}

// writeValue writes what stands after a key: on the same line, or below it at
// the indentation inner.
func writeValue(b *strings.Builder, n *tree.Node, indent, inner string) error {
	n, err := open(n)
	if err != nil {
		return err
	}
	switch {
	case n.Kind == tree.Map && len(n.Fields) > 0:
		b.WriteByte('\n')
		return writeMap(b, n, inner)
	case n.Kind == tree.List && len(n.Items) > 0:
		if line, ok := flow(n); ok {
			b.WriteString(" " + line + "\n")
			return nil
		}
		b.WriteByte('\n')
		return writeList(b, n, indent)
	case n.Kind == tree.String && block(n.Text):
		b.WriteString(" |")
		switch {
		case !strings.HasSuffix(n.Text, "\n"):
			b.WriteByte('-')
		case strings.HasSuffix(n.Text, "\n\n"):
			b.WriteByte('+')
		}
		b.WriteByte('\n')
		for line := range strings.SplitSeq(strings.TrimSuffix(n.Text, "\n"), "\n") {
			if line != "" {
				b.WriteString(inner)
			}
			b.WriteString(line)
			b.WriteByte('\n')
		}
		return nil
	default:
		b.WriteByte(' ')
		b.WriteString(literal(n))
		b.WriteByte('\n')
		return nil
	}
}

func writeList(b *strings.Builder, n *tree.Node, indent string) error {
	for _, x := range n.Items {
		x, err := open(x)
		if err != nil {
			return err
		}
		b.WriteString(indent)
		b.WriteByte('-')
		if x.Kind == tree.Map && len(x.Fields) > 0 {
			// The first key stands beside the dash.
			var inner strings.Builder
			if err := writeMap(&inner, x, indent+"  "); err != nil {
				return err
			}
			b.WriteString(" " + strings.TrimPrefix(inner.String(), indent+"  "))
			continue
		}
		if x.Kind == tree.List && len(x.Items) > 0 {
			b.WriteByte(' ')
			b.Write(x.AppendJSON(nil))
			b.WriteByte('\n')
			continue
		}
		if err := writeValue(b, x, indent, indent+"  "); err != nil {
			return err
		}
	}
	return nil
}

// flow writes a short list of scalars on one line.
func flow(n *tree.Node) (string, bool) {
	const width = 60
	parts := make([]string, len(n.Items))
	for i, x := range n.Items {
		if x.Kind == tree.Map || x.Kind == tree.List || x.Kind == tree.JSON {
			return "", false
		}
		parts[i] = literal(x)
	}
	s := "[" + strings.Join(parts, ", ") + "]"
	return s, len(s) <= width
}

// literal writes a scalar or an empty container.
func literal(n *tree.Node) string {
	if n.Kind == tree.String {
		return scalar(n.Text)
	}
	return string(n.AppendJSON(nil))
}

var (
	plainText = regexp.MustCompile(`^([A-Za-z_/]|[0-9]+\.[0-9]+\.|[0-9]+[A-Za-z]+[G-Zg-z])[A-Za-z0-9_./@-]*$`)
	reserved  = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|nan|inf)$`)
	exponent  = regexp.MustCompile(`^[0-9.]+[eE][0-9]+$`)
)

// scalar writes text plainly where no reader of YAML, new or old, takes it for
// anything else, else in double quotes as JSON does.
func scalar(s string) string {
	if plainText.MatchString(s) && !reserved.MatchString(s) && !exponent.MatchString(s) {
		return s
	}
	n := tree.Node{Kind: tree.String, Text: s}
	return string(n.AppendJSON(nil))
}

// block reports whether text is fit for a literal block: several lines that
// print, the first of which is not indented.
func block(s string) bool {
	if !strings.Contains(s, "\n") || strings.HasPrefix(s, " ") || strings.HasPrefix(s, "\n") || strings.TrimRight(s, "\n") == "" {
		return false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if strings.TrimSpace(line) == "" && line != "" || strings.HasSuffix(line, " ") {
			return false
		}
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar || r == '\uFEFF')
	})
}
