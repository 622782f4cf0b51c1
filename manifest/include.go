// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/model/tree"
)

// includeKey is the one key of an object that stands for a file's content.
const includeKey = "$file"

// maxIncluded bounds what the includes of one folder hold together.
const maxIncluded = 64 << 20

// includes reads the files that manifests of one folder include. Nothing
// outside the folder can be read, not by .. and not through a link.
type includes struct {
	folder string
	root   *os.Root
	read   map[string]string
	total  int
	// used holds the paths that were asked for.
	used map[string]bool
}

func (in *includes) close() {
	if in.root != nil {
		in.root.Close()
	}
}

// resolve replaces each {$file: PATH} within n by the content of the file: n
// itself if there is none.
func (in *includes) resolve(n *tree.Node) (*tree.Node, []*tree.Problem) {
	var problems []*tree.Problem
	return in.walk(n, "", &problems), problems
}

func (in *includes) walk(n *tree.Node, path string, problems *[]*tree.Problem) *tree.Node {
	switch n.Kind {
	case tree.List:
		var items []*tree.Node
		for i, x := range n.Items {
			y := in.walk(x, fmt.Sprintf("%s[%d]", path, i), problems)
			if y != x && items == nil {
				items = append([]*tree.Node(nil), n.Items...)
			}
			if items != nil {
				items[i] = y
			}
		}
		if items != nil {
			c := *n
			c.Items = items
			return &c
		}
	case tree.Map:
		if at := n.Get(includeKey); at != nil {
			return in.include(n, at, path, problems)
		}
		var fields []tree.Field
		for i := range n.Fields {
			x := n.Fields[i].Value
			y := in.walk(x, tree.Join(path, n.Fields[i].Name), problems)
			if y != x && fields == nil {
				fields = append([]tree.Field(nil), n.Fields...)
			}
			if fields != nil {
				fields[i].Value = y
			}
		}
		if fields != nil {
			c := *n
			c.Fields = fields
			return &c
		}
	}
	return n
}

func (in *includes) include(n, at *tree.Node, path string, problems *[]*tree.Problem) *tree.Node {
	out := &tree.Node{Line: n.Line, Column: n.Column}
	fail := func(format string, args ...any) *tree.Node {
		*problems = append(*problems, &tree.Problem{Field: path, Line: at.Line, Column: at.Column, Msg: fmt.Sprintf(format, args...)})
		return out
	}
	if at.Kind != tree.String || at.Text == "" {
		return fail("$file wants the path of a file")
	}
	if len(n.Fields) > 1 {
		return fail("$file stands alone in its object; remove the other keys")
	}
	text, err := in.content(at.Text)
	if err != nil {
		return fail("$file %q %s", at.Text, err)
	}
	out.Kind, out.Text = tree.String, text
	return out
}

// content reads one file.
func (in *includes) content(path string) (string, error) {
	if in.used == nil {
		in.used, in.read = map[string]bool{}, map[string]string{}
	}
	name := filepath.Clean(filepath.FromSlash(path))
	in.used[name] = true
	if s, ok := in.read[name]; ok {
		return s, nil
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("lies outside the manifest's folder; move it below %s", in.folder)
	}
	if in.root == nil {
		r, err := os.OpenRoot(in.folder)
		if err != nil {
			return "", fmt.Errorf("cannot be read: %w", cause(err))
		}
		in.root = r
	}
	// A pipe would block when it is opened.
	info, err := in.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("is not there; its path is relative to %s", in.folder)
	case err != nil && strings.Contains(err.Error(), "escapes"):
		return "", fmt.Errorf("leads outside the manifest's folder through a link; copy it below %s", in.folder)
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", cause(err))
	case !info.Mode().IsRegular():
		return "", errors.New("is no regular file")
	}
	f, err := in.root.Open(name)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", cause(err))
	}
	defer f.Close()
	data, err := readAll(f)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	if in.total += len(data); in.total > maxIncluded {
		return "", fmt.Errorf("is too much: files included from one folder hold at most %d MiB together", maxIncluded>>20)
	}
	if !utf8.Valid(data) {
		return "", errors.New("is not UTF-8 text")
	}
	in.read[name] = string(data)
	return string(data), nil
}
