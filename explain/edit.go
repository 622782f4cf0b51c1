// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"strconv"
	"strings"

	"postern.dev/postern/explain/answer"
)

// edit is one change of a policy document.
type edit struct {
	what      string
	statement int // index, or -1 for a new one
	remove    bool
	allow     map[string]any
	// A value is added to a condition, whose key may be renamed, or to an
	// element of the statement.
	operator, key, rename string
	element               string
	value                 string
	// or is a larger edit, to try if this one is not enough.
	or *edit
}

// apply changes a policy, which is an object or a string that holds one, and
// returns the operations that do the same to the manifest; nil if the policy
// cannot be changed in this way. Only what changes is written, so that the rest
// of a document keeps its form.
func (e *edit) apply(raw *json.RawMessage) []answer.PatchOperation {
	body := []byte(*raw)
	var text string
	quoted := json.Unmarshal(body, &text) == nil
	if quoted {
		body = []byte(text)
	}
	var doc map[string]any
	if json.Unmarshal(body, &doc) != nil {
		return nil
	}
	ops := e.document(doc)
	if ops == nil {
		return nil
	}
	out, err := json.Marshal(doc)
	if err == nil && quoted {
		out, err = json.Marshal(string(out))
		ops = []answer.PatchOperation{{Op: "replace", Path: "/spec/policy", Value: json.RawMessage(out)}}
	}
	if err != nil {
		return nil
	}
	*raw = out
	return ops
}

// statements is where the statements stand.
const statements = "/spec/policy/Statement"

func (e *edit) document(doc map[string]any) []answer.PatchOperation {
	list, several := doc["Statement"].([]any)
	at := statements + "/" + strconv.Itoa(e.statement)
	if !several {
		list, at = []any{doc["Statement"]}, statements
	}
	switch {
	case e.statement < 0:
		list = append(list, e.allow)
		doc["Statement"] = list
		if several {
			return []answer.PatchOperation{{Op: "add", Path: statements + "/-", Value: e.allow}}
		}
		return []answer.PatchOperation{{Op: "replace", Path: statements, Value: list}}
	case e.statement >= len(list):
		return nil
	case e.remove:
		if len(list) == 1 {
			return nil // a policy without statements is none
		}
		doc["Statement"] = append(append([]any{}, list[:e.statement]...), list[e.statement+1:]...)
		return []answer.PatchOperation{{Op: "remove", Path: at}}
	}
	s, ok := list[e.statement].(map[string]any)
	if !ok {
		return nil
	}
	return e.widen(s, at)
}

// widen changes the condition or element of a statement.
func (e *edit) widen(s map[string]any, at string) []answer.PatchOperation {
	if e.element != "" {
		for k := range s {
			if strings.EqualFold(k, e.element) {
				return e.more(s, k, at+"/"+k)
			}
		}
		return nil
	}
	conditions, _ := s["Condition"].(map[string]any)
	for op, v := range conditions {
		keys, _ := v.(map[string]any)
		if !strings.EqualFold(op, e.operator) {
			continue
		}
		at := at + "/Condition/" + escape(op)
		for k := range keys {
			if !strings.EqualFold(k, e.key) {
				continue
			}
			if e.rename == "" {
				return e.more(keys, k, at+"/"+escape(k))
			}
			v := keys[k]
			if e.value != "" {
				v = appended(v, e.value)
			}
			delete(keys, k)
			keys[e.rename] = v
			return []answer.PatchOperation{
				{Op: "remove", Path: at + "/" + escape(k)},
				{Op: "add", Path: at + "/" + escape(e.rename), Value: v},
			}
		}
	}
	return nil
}

// more adds the value to those of a key.
func (e *edit) more(in map[string]any, key, at string) []answer.PatchOperation {
	_, several := in[key].([]any)
	in[key] = appended(in[key], e.value)
	if several {
		return []answer.PatchOperation{{Op: "add", Path: at + "/-", Value: e.value}}
	}
	return []answer.PatchOperation{{Op: "replace", Path: at, Value: in[key]}}
}

// appended is a value of a policy, one or a list, with one more.
func appended(v any, more string) any {
	switch x := v.(type) {
	case []any:
		return append(append([]any{}, x...), more)
	case nil:
		return more
	default:
		return []any{x, more}
	}
}

// escape writes a key as it stands in a JSON Pointer (RFC 6901).
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
