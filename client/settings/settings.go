// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package settings finds and keeps what a client needs to call a server: its
// address, its CA and a token.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"postern.dev/postern/model"
)

// Variable names the environment variable that may hold the settings' path.
const Variable = "POSTERN_CONFIG"

// FileName is the name of the settings in a server's data folder and in the
// user's configuration folder.
const FileName = "client.yaml"

const maxSize = 1 << 20

// Settings are what a client needs. They hold a secret: keep them in a file of
// mode 0600.
type Settings struct {
	Address string       // https://host:port
	CA      string       // PEM
	Token   model.Secret // postern_...
}

type file struct {
	Address string `yaml:"address"`
	CA      string `yaml:"ca"`
	Token   string `yaml:"token"`
}

// Candidates lists where settings are looked for, first come first served:
// explicit, the environment, the data folder here, the user's folder. The first
// two, if given, are the only ones.
func Candidates(explicit string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	if p := os.Getenv(Variable); p != "" {
		return []string{p}
	}
	out := []string{filepath.Join("postern-data", FileName)}
	if d, err := os.UserConfigDir(); err == nil {
		out = append(out, filepath.Join(d, "postern", FileName))
	}
	return out
}

// Discover reads the settings that are meant, and tells from where.
func Discover(explicit string) (Settings, string, error) {
	paths := Candidates(explicit)
	for _, p := range paths {
		s, err := Load(p)
		if errors.Is(err, fs.ErrNotExist) && len(paths) > 1 {
			continue
		}
		return s, p, err
	}
	return Settings{}, "", &model.Error{Kind: model.NotFound, Msg: fmt.Sprintf("no client settings at %s or %s; start postern server here, or name them with --config or %s", paths[0], paths[len(paths)-1], Variable)}
}

// Load reads one file.
func Load(path string) (Settings, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Settings{}, fmt.Errorf("read the client settings: %w", err)
	}
	if info.Size() > maxSize {
		return Settings{}, fmt.Errorf("read the client settings %s: the file is too large", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Settings{}, fmt.Errorf("read the client settings: %w", err)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.Strict()); err != nil {
		// The error of the parser would quote the file, the token too.
		return Settings{}, &model.Error{Kind: model.Invalid, Position: model.Position{File: path}, Msg: "it is not YAML with address, ca and token; let postern server write it again"}
	}
	if f.Address == "" {
		return Settings{}, &model.Error{Kind: model.Invalid, Position: model.Position{File: path}, Msg: "it names no address; let postern server write it again"}
	}
	return Settings{Address: f.Address, CA: f.CA, Token: model.NewSecret(f.Token)}, nil
}

// Save keeps settings in a file of mode 0600, whole or not at all.
func Save(path string, s Settings) error {
	data, err := yaml.MarshalWithOptions(file{s.Address, s.CA, s.Token.Reveal()}, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return fmt.Errorf("write the client settings: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".client-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the client settings: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the client settings: %w", err)
	}
	return nil
}
