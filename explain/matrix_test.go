// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
	"postern.dev/postern/model"
)

// matrixWorld reads testdata/worlds/models.yaml with what a file changes of it.
func matrixWorld(t *testing.T, file string) (*explain.World, *txtar.Archive) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile("testdata/worlds/models.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := documents{}
	docs.read(t, "models.yaml", base)
	docs.read(t, file, a.Files[0].Data)
	return docs.world(t, false, nil), a
}

// TestMatrixOfEveryModel compares the tables of the networking models.
func TestMatrixOfEveryModel(t *testing.T) {
	files, err := filepath.Glob("testdata/matrix/*.txtar")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d models: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			w, a := matrixWorld(t, file)
			m, err := explain.Matrix(w, "main", false)
			if err != nil {
				t.Fatal(err)
			}
			var table strings.Builder
			if err := render.Matrix(&table, m, render.Options{}); err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = append(a.Files[:1], txtar.File{Name: "table.txt", Data: []byte(table.String())})
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(a.Files[1].Data), table.String()); d != "" {
				t.Errorf("differs; look, then run with -update:\n%s", d)
			}
			for _, r := range m.Rows {
				for i, from := range m.Sources {
					one := ask(t, w, answer.Question{From: from, URL: r.URL, ConnectTo: r.Cells[i].ConnectTo})
					if c := r.Cells[i]; c.Verdict != one.Verdict || c.Code != one.Code || c.By != one.Hops[one.DecidedBy].Component {
						t.Errorf("%s to %s: %s %s, but asked alone %s %s", from, r.URL, c.Verdict, c.Code, one.Verdict, one.Code)
					}
				}
			}
		})
	}
}

func TestMatrixWithAllAsksEveryHost(t *testing.T) {
	w, _ := matrixWorld(t, "testdata/matrix/none.txtar")
	few, err := explain.Matrix(w, "main", false)
	if err != nil {
		t.Fatal(err)
	}
	all, err := explain.Matrix(w, "main", true)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(few.Sources, " "), "host/second") || !strings.Contains(strings.Join(all.Sources, " "), "host/second") {
		t.Errorf("%v, with all %v", few.Sources, all.Sources)
	}
}

func TestMatrixOfNoGatewayIsAnError(t *testing.T) {
	w, _ := matrixWorld(t, "testdata/matrix/none.txtar")
	_, err := explain.Matrix(w, "mian", false)
	if es := model.AsErrors(err); len(es) != 1 || es[0].Kind != model.NotFound {
		t.Errorf("%v", err)
	}
}
