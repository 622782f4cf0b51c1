// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package setting

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern.dev/postern/model/near"
)

// Sources are where settings come from: flags come before the environment, that
// before files, and a later file before an earlier one.
type Sources struct {
	// Flags holds values by name, only of flags that were given.
	Flags map[string]string
	// Environ is as of os.Environ.
	Environ []string
	// Files are files, or folders with a file for each name as Kubernetes mounts
	// a ConfigMap or Secret.
	Files []string
}

// Note is something to say about the settings, once, at start.
type Note struct {
	// Name is the setting, Where the place that it was read from.
	Name, Where string
	Message     string
	// Unknown says that nobody knows the name.
	Unknown bool
}

// values are by the names of settings.
type values map[string]string

// Read reads settings. The notes are good for reading also where it fails.
func Read(src Sources) (*Settings, []Note, error) {
	r := reader{values: values{}}
	var errs []error
	for _, name := range src.Files {
		if err := r.file(name); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, r.notes, errors.Join(errs...) // what seems not to be set may be there
	}
	r.environ(src.Environ)
	names := make([]string, 0, len(src.Flags))
	for name := range src.Flags {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.take(name, src.Flags[name], "a flag")
	}
	for _, s := range settings {
		if v, given := r.values[s.Name]; s.Without != "" && given && v != "" && !strings.EqualFold(v, s.Default) && !off(s.Name, v) {
			r.notes = append(r.notes, Note{Name: s.Name, Where: r.where[s.Name], Message: "it has no effect: " + s.Without})
		}
		if r.values[s.Name] == "" {
			r.values[s.Name] = s.Default
		}
	}
	s, err := read(r.values)
	return s, r.notes, err
}

// off reports whether a value asks for nothing.
func off(name, value string) bool {
	switch strings.ToLower(value) {
	case "false", "none", "auto":
		return !strings.HasSuffix(name, "Tls12") && !strings.HasSuffix(name, "Tls13")
	}
	return false
}

type reader struct {
	values values
	where  map[string]string
	notes  []Note
}

// take notes a value.
func (r *reader) take(name, value, where string) {
	s := find(name)
	if s == nil {
		r.unknown(name, where)
		return
	}
	if r.where == nil {
		r.where = map[string]string{}
	}
	r.values[s.Name], r.where[s.Name] = strings.TrimSpace(value), where
}

func (r *reader) unknown(name, where string) {
	name = strings.ToValidUTF8(name, "?")
	if len(name) > 200 {
		name = name[:200]
	}
	r.notes = append(r.notes, Note{
		Name: name, Where: where, Unknown: true,
		Message: "no setting has this name" + hint(name),
	})
}

func hint(name string) string {
	all := make([]string, 0, len(settings))
	upper := name == Variable(name)
	for _, s := range settings {
		n := s.Name
		if upper {
			n = Variable(n)
		}
		all = append(all, n)
	}
	return near.Hint(name, all)
}

// families are how the names of settings begin.
var families = func() []string {
	var out []string
	for _, s := range settings {
		first, _, _ := strings.Cut(s.Name, ".")
		if first = strings.ToLower(first); !slices.Contains(out, first) {
			out = append(out, first)
		}
	}
	return out
}()

// environ reads the environment. As written a name comes before the same in
// upper case. The environment is full of what is none of ours: a name is called
// unknown only if it begins like one of ours with a dot, or is nearly one.
func (r *reader) environ(environ []string) {
	var dotted [][2]string
	for _, e := range environ {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
		case strings.Contains(name, "."):
			dotted = append(dotted, [2]string{name, value})
		case name == Variable(name) && byName[name] != nil:
			r.take(name, value, "the environment")
		case name == Variable(name) && strings.Count(name, "_") > 0 && nearly(name):
			r.unknown(name, "the environment")
		}
	}
	for _, d := range dotted {
		first, _, _ := strings.Cut(strings.ToLower(d[0]), ".")
		if find(d[0]) != nil || slices.Contains(families, first) {
			r.take(d[0], d[1], "the environment")
		}
	}
}

// nearly reports whether a variable is a mistyped one of ours. Those that
// Kubernetes makes for each Service are not.
func nearly(name string) bool {
	for _, suffix := range []string{"_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_UDP", "_PROTO", "_ADDR", "_PORT"} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	all := make([]string, len(settings))
	for i, s := range settings {
		all[i] = Variable(s.Name)
	}
	return len(name) >= 12 && near.To(name, all) != ""
}

// maxFile bounds a file of settings.
const maxFile = 1 << 20

// file reads a file or folder.
func (r *reader) file(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if info.IsDir() {
		return r.folder(name)
	}
	b, err := readSmall(name)
	if err != nil {
		return err
	}
	return r.lines(name, b)
}

// folder reads a file for each name. Kubernetes keeps what it swaps under names
// that begin with dots.
func (r *reader) folder(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // through the link
		if strings.HasPrefix(e.Name(), ".") || err == nil && info.IsDir() {
			continue
		}
		b, err := readSmall(path)
		if err != nil {
			return err
		}
		r.take(e.Name(), string(b), path)
	}
	return nil
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("settings: %s: %w", name, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("settings: %s has more than %d bytes", name, maxFile)
	}
	return b, nil
}

// lines reads lines of the form key: value or KEY=VALUE. Empty ones and those
// that begin with # are passed over; quotes around a value are taken off.
func (r *reader) lines(name string, b []byte) error {
	var errs []error
	for n, line := range strings.Split(string(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line == "---" {
			continue
		}
		where := fmt.Sprintf("%s:%d", name, n+1)
		i := strings.IndexAny(line, ":=")
		if i <= 0 {
			// The line may be a piece of a token, and is not repeated.
			errs = append(errs, fmt.Errorf("settings: %s: the line is not of the form key: value or KEY=VALUE", where))
			continue
		}
		key := strings.Trim(strings.TrimSpace(strings.TrimPrefix(line[:i], "export ")), `"'`)
		r.take(key, unquote(strings.TrimSpace(line[i+1:])), where)
	}
	return errors.Join(errs...)
}

// unquote takes one pair of quotes off.
func unquote(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		return s[1 : n-1]
	}
	return s
}
