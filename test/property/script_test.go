// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// script is how a world comes about: resources that are applied together, then
// steps in order.
type script struct {
	objects []model.Object
	steps   []step
}

// step is one thing done to a world. One field is set.
type step struct {
	deploy          string // an API; stage is the Stage it is deployed to
	stage           string
	approve, reject string         // an Endpoint
	apply           []model.Object // what is changed
	remove          model.Ref      // what is deleted, with what it granted if cascade
	cascade         bool
	join            model.Ref // a Host or Link that joins
	serve, stop     string    // a Host that serves on a port, or no longer
	port            int
	revoke, rule    string // a SecurityGroup, and a rule it was granted
	key             string // a Subscription that a key is issued for
}

// openBackend and closedBackend stand in documents for the address of a backend
// that answers and of one that refuses; nothing listens at closedAddress.
const (
	openBackend   = "127.0.0.1:65001"
	closedBackend = "127.0.0.1:65002"
	closedAddress = "127.0.0.1:1"
)

var errNoStep = errors.New("there is no such step")

// The files of a txtar archive.
const (
	fileWorld    = "world.yaml"
	fileSteps    = "steps"
	fileQuestion = "question.json"
	fileWant     = "want"
)

// archive writes a script and one question as a txtar file. want says which
// outcome is right; it is a line "KIND [STATUS] CODE", or empty.
func (s *script) archive(comment string, q answer.Question, want string) ([]byte, error) {
	world, err := manifest.MarshalYAML(s.objects...)
	if err != nil {
		return nil, err
	}
	a := &txtar.Archive{Comment: []byte(comment), Files: []txtar.File{{Name: fileWorld, Data: world}}}
	var steps strings.Builder
	for i, st := range s.steps {
		switch {
		case st.deploy != "":
			fmt.Fprintf(&steps, "deploy %s %s\n", st.deploy, st.stage)
		case st.approve != "":
			fmt.Fprintf(&steps, "approve %s\n", st.approve)
		case st.reject != "":
			fmt.Fprintf(&steps, "reject %s\n", st.reject)
		case st.join != (model.Ref{}):
			fmt.Fprintf(&steps, "join %s %s\n", st.join.Kind, st.join.Name)
		case st.serve != "":
			fmt.Fprintf(&steps, "serve %s %d\n", st.serve, st.port)
		case st.stop != "":
			fmt.Fprintf(&steps, "stop %s %d\n", st.stop, st.port)
		case st.key != "":
			fmt.Fprintf(&steps, "key %s\n", st.key)
		case st.revoke != "":
			fmt.Fprintf(&steps, "revoke %s %s\n", st.revoke, st.rule)
		case st.remove != (model.Ref{}):
			fmt.Fprintf(&steps, "%s %s %s\n", map[bool]string{false: "delete", true: "cascade"}[st.cascade], st.remove.Kind, st.remove.Name)
		default:
			name := fmt.Sprintf("change-%d.yaml", i)
			fmt.Fprintf(&steps, "apply %s\n", name)
			text, err := manifest.MarshalYAML(st.apply...)
			if err != nil {
				return nil, err
			}
			a.Files = append(a.Files, txtar.File{Name: name, Data: text})
		}
	}
	if steps.Len() > 0 {
		a.Files = append(a.Files, txtar.File{Name: fileSteps, Data: []byte(steps.String())})
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(q); err != nil {
		return nil, err
	}
	a.Files = append(a.Files, txtar.File{Name: fileQuestion, Data: text.Bytes()})
	if want != "" {
		a.Files = append(a.Files, txtar.File{Name: fileWant, Data: []byte(want + "\n")})
	}
	return txtar.Format(a), nil
}

// parseArchive reads what archive wrote.
func parseArchive(data []byte) (s *script, q answer.Question, want string, err error) {
	a := txtar.Parse(data)
	files := map[string][]byte{}
	for _, f := range a.Files {
		files[f.Name] = f.Data
	}
	s = &script{}
	if s.objects, err = manifest.Decode(fileWorld, files[fileWorld]); err != nil {
		return nil, q, "", err
	}
	for line := range strings.Lines(string(files[fileSteps])) {
		words := strings.Fields(line)
		st := step{}
		switch {
		case len(words) == 0:
			continue
		case words[0] == "deploy" && len(words) == 3:
			st.deploy, st.stage = words[1], words[2]
		case words[0] == "approve" && len(words) == 2:
			st.approve = words[1]
		case words[0] == "reject" && len(words) == 2:
			st.reject = words[1]
		case words[0] == "serve" && len(words) == 3:
			st.serve = words[1]
			st.port, err = strconv.Atoi(words[2])
		case words[0] == "stop" && len(words) == 3:
			st.stop = words[1]
			st.port, err = strconv.Atoi(words[2])
		case words[0] == "revoke" && len(words) == 3:
			st.revoke, st.rule = words[1], words[2]
		case words[0] == "key" && len(words) == 2:
			st.key = words[1]
		case words[0] == "join" && len(words) == 3:
			st.join = model.Ref{Kind: model.Kind(words[1]), Name: words[2]}
		case (words[0] == "delete" || words[0] == "cascade") && len(words) == 3:
			st.cascade = words[0] == "cascade"
			st.remove = model.Ref{Kind: model.Kind(words[1]), Name: words[2]}
		case words[0] == "apply" && len(words) == 2:
			st.apply, err = manifest.Decode(words[1], files[words[1]])
		default:
			err = errNoStep
		}
		if err != nil {
			return nil, q, "", fmt.Errorf("%s: %q: %w", fileSteps, line, err)
		}
		s.steps = append(s.steps, st)
	}
	if err := json.Unmarshal(files[fileQuestion], &q); err != nil {
		return nil, q, "", fmt.Errorf("%s: %w", fileQuestion, err)
	}
	return s, q, strings.TrimSpace(string(files[fileWant])), nil
}
