// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"postern.dev/postern/internal/wgkey"
)

// hostFile is where something of a Host of a server is kept: in the user's
// configuration folder.
func hostFile(server, host, suffix string) (string, error) {
	d, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the user's configuration folder: %w", err)
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("read the server's address: %w", err)
	}
	dir := filepath.Join(d, "postern", "hosts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for keys: %w", err)
	}
	safe := strings.NewReplacer("/", "_", ":", "_", "[", "", "]", "", "\\", "_")
	return filepath.Join(dir, safe.Replace(host)+"@"+safe.Replace(u.Host)+suffix), nil
}

// hostKey reads the private key of a Host, or makes one, which is not kept yet.
func hostKey(path string) (key wgkey.Private, kept bool, err error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return wgkey.Private{}, false, fmt.Errorf("read the key of the Host: %w", err)
	default:
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			return wgkey.Private{}, false, usage("others may read the key %s; run chmod 600 on it", path)
		}
		key, err = wgkey.ParsePrivate(strings.TrimSpace(string(text)))
		if err != nil {
			return wgkey.Private{}, false, usage("%s holds no WireGuard key; delete it to make another", path)
		}
		return key, true, nil
	}
	key, err = wgkey.Generate()
	return key, false, err
}

// writePrivate writes a file of mode 0600, whole or not at all.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
