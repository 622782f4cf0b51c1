// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern.dev/postern/engine/gateway/meter/ledger"
)

const (
	quotaFile = "quotas."
	// quotaGone is after how long what an instance counted that is not there any
	// more is of no period that goes on.
	quotaGone = 32 * 24 * time.Hour
)

// openQuotas counts on from what is kept beside the backup, in a file of this
// instance alone: others may share the folder.
func (g *Gateway) openQuotas() {
	if g.backup == nil {
		return
	}
	path := filepath.Join(g.s.BackupDir, quotaFile+plainName(g.instance())+".json")
	g.sweepQuotas(filepath.Base(path))
	var err error
	g.quotas, err = ledger.Open(ledger.Options{Path: path, Counter: g.engine, Failed: func(err error) {
		if err != nil {
			g.log.Error("QuotasNotKept", "exception", err.Error(), "message", "a restart lets the keys of quotas begin anew")
			return
		}
		g.log.Info("QuotasKept")
	}})
	if err != nil {
		g.log.Error("QuotasLost", "exception", err.Error())
	}
}

// sweepQuotas removes what instances left that ended long ago.
func (g *Gateway) sweepQuotas(own string) {
	list, err := os.ReadDir(g.s.BackupDir)
	if err != nil {
		return // the backup says what is wrong with the folder
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), quotaFile) || e.Name() == own || g.o.Now().Sub(info.ModTime()) < quotaGone {
			continue
		}
		if err := os.Remove(filepath.Join(g.s.BackupDir, e.Name())); err != nil {
			g.log.Debug("QuotasNotSwept", "exception", err.Error())
		}
	}
}

// plainName is an instance's name as part of a file's name.
func plainName(instance string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		}
		return '_'
	}, instance)
	return plain[:min(len(plain), 128)]
}
