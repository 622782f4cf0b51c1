// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"postern.dev/postern/model/near"
)

func hint(got string, candidates []string) string { return near.Hint(got, candidates) }

var errNoName = errors.New("is missing")

// checkLabel says what is wrong with s as a DNS label: 1-63 of a-z, 0-9 and
// "-", not at either end.
func checkLabel(s string) error {
	if s == "" {
		return errNoName
	}
	if len(s) > 63 {
		return fmt.Errorf("%q is longer than 63 characters", s[:20]+"...")
	}
	for i, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-' && i > 0 && i < len(s)-1:
		case c >= 'A' && c <= 'Z' && checkLabel(strings.ToLower(s)) == nil:
			return fmt.Errorf("%q has capital letters; write %q", s, strings.ToLower(s))
		case c == '-':
			return fmt.Errorf("%q begins or ends with a hyphen", s)
		default:
			return fmt.Errorf("%q has the character %q; use a-z, 0-9 and -", s, c)
		}
	}
	return nil
}

// checkHostName says what is wrong with s as a lower-case host name of labels;
// star allows a first label "*", and under allows labels with an underscore.
func checkHostName(s string, star, under bool) error {
	if s == "" {
		return errNoName
	}
	if len(s) > 253 {
		return fmt.Errorf("%q is longer than 253 characters", s[:20]+"...")
	}
	if strings.HasSuffix(s, ".") {
		return fmt.Errorf("%q ends with a dot; write it without", s)
	}
	rest := s
	if star {
		rest = strings.TrimPrefix(s, "*.")
	}
	for l := range strings.SplitSeq(rest, ".") {
		if under {
			l = strings.ReplaceAll(l, "_", "x")
		}
		switch err := checkLabel(l); {
		case errors.Is(err, errNoName):
			return fmt.Errorf("%q has an empty label", s)
		case l == "*":
			return fmt.Errorf("%q has a * that is not its whole first label", s)
		case err != nil:
			return fmt.Errorf("in %q the label %w", s, err)
		}
	}
	return nil
}

var stageName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// checkName says what is wrong with the name of a resource of kind k.
func checkName(k Kind, name string) error {
	if name == "" {
		return errNoName
	}
	switch k {
	case KindStage:
		api, stage, ok := strings.Cut(name, ".")
		if !ok {
			return fmt.Errorf("%q names no API; write <api>.<stage>", name)
		}
		if err := checkLabel(api); err != nil {
			return fmt.Errorf("the API's name %w", err)
		}
		if !stageName.MatchString(stage) {
			return fmt.Errorf("the stage's name %q must be 1 to 128 of A-Z, a-z, 0-9, _ and -", stage)
		}
		return nil
	case KindDeployment:
		api, num, _ := strings.Cut(name, ".")
		if err := checkLabel(api); err != nil {
			return fmt.Errorf("the API's name %w", err)
		}
		if n, err := strconv.Atoi(num); err != nil || n < 1 || strconv.Itoa(n) != num {
			return fmt.Errorf("%q has no number; write <api>.<n>", name)
		}
		return nil
	case KindDomain:
		if err := checkHostName(name, true, false); err != nil {
			return err
		}
		if !strings.Contains(strings.TrimPrefix(name, "*."), ".") {
			return fmt.Errorf("%q is no full host name; write one like api.example.com", name)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			return fmt.Errorf("%q is an address; write a host name like api.example.com", name)
		}
		return nil
	case KindSecurityGroup:
		if g, ok := strings.CutSuffix(name, ManagedSuffix); ok && g != "" {
			return fmt.Errorf("%q is kept for the managed group of a Gateway %q; choose a name that does not end in %s", name, g, ManagedSuffix)
		}
	}
	return checkLabel(name)
}

// APIName returns the API that a Stage or Deployment belongs to, by the
// latter's name.
func APIName(name string) string {
	api, _, _ := strings.Cut(name, ".")
	return api
}

// ShortName returns a Stage's name without that of its API.
func (s *Stage) ShortName() string {
	_, short, _ := strings.Cut(s.Metadata.Name, ".")
	return short
}
