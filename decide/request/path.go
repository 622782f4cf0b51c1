// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import "strings"

// Canonical returns the one spelling of path that is routed, named in ARNs and
// sent on, so that a policy cannot be got round by spelling a path differently:
// escapes of unreserved characters are undone, the rest written in capitals,
// "." and ".." segments resolved (RFC 3986, 6.2.2). So are escapes of the
// characters that mean themselves wherever they may stand in a segment: to
// backends "user%40corp" is "user@corp". Escaped slashes stay escaped, and so
// do characters that some backends take for separators (";", "=", "&", "+"). A
// path that is canonical already is returned as it is.
func Canonical(path string) string {
	if len(path) > 0 && path[0] == '/' && strings.IndexByte(path, '%') < 0 && !dotted(path) {
		return path
	}
	b := make([]byte, 0, len(path)+1)
	if path == "" || path[0] != '/' {
		b = append(b, '/')
	}
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' || i+2 >= len(path) || unhex(path[i+1]) > 15 || unhex(path[i+2]) > 15 {
			b = append(b, c)
			continue
		}
		d := unhex(path[i+1])<<4 | unhex(path[i+2])
		if literal(d) {
			b = append(b, d)
		} else {
			b = append(b, '%', upper(path[i+1]), upper(path[i+2]))
		}
		i += 2
	}
	return undot(string(b))
}

// dotted reports whether a segment is "." or "..".
func dotted(path string) bool {
	for i := strings.Index(path, "/."); i >= 0; {
		rest := path[i+2:]
		if rest == "" || rest[0] == '/' || rest == "." || strings.HasPrefix(rest, "./") {
			return true
		}
		next := strings.Index(rest, "/.")
		if next < 0 {
			return false
		}
		i += 2 + next
	}
	return false
}

// undot resolves "." and "..", which never lead above the root.
func undot(path string) string {
	if !dotted(path) {
		return path
	}
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, s)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// literal reports whether c means itself in a segment, escaped or not.
func literal(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("-._~:@!$'()*,", c) >= 0
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}

// first cuts the first segment off a path: "/a/b" is "a" and "/b". The rest is
// "/" where nothing follows.
func first(path string) (segment, rest string) {
	path = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, "/"
}

// trim takes off trailing slashes, which do not count; the root stays "/".
func trim(path string) string {
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}
