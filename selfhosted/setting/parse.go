// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package setting

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("it is not of the form hh:mm:ss, such as 00:01:40 for 100 seconds")

// longest is the longest duration that is read: 1000 days.
const longest = 1000 * 24 * time.Hour

// ParseDuration reads [d.]hh:mm[:ss[.fffffff]], or what Go writes: 100s. A bare
// number is refused: it would be days where the first form comes from.
func ParseDuration(text string) (time.Duration, error) {
	if !strings.Contains(text, ":") {
		d, err := time.ParseDuration(text)
		if err != nil || strings.Trim(text, "0123456789") == "" || d < 0 || d > longest {
			return 0, fmt.Errorf("%q: %w", text, errDuration)
		}
		return d, nil
	}
	parts := strings.Split(text, ":")
	days := 0
	if d, hours, ok := strings.Cut(parts[0], "."); ok {
		n, err := digits(d, 1000)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", text, errDuration)
		}
		days, parts[0] = n, hours
	}
	seconds, fraction := "0", ""
	if len(parts) == 3 {
		seconds, fraction, _ = strings.Cut(parts[2], ".")
		if strings.HasSuffix(parts[2], ".") || len(fraction) > 7 {
			return 0, fmt.Errorf("%q: %w", text, errDuration)
		}
	}
	h, errH := digits(parts[0], 23)
	m, errM := digits(parts[min(1, len(parts)-1)], 59)
	s, errS := digits(seconds, 59)
	ticks, errF := 0, error(nil)
	if fraction != "" {
		ticks, errF = digits(fraction+strings.Repeat("0", 7-len(fraction)), 9999999)
	}
	if len(parts) > 3 || errors.Join(errH, errM, errS, errF) != nil {
		return 0, fmt.Errorf("%q: %w", text, errDuration)
	}
	return time.Duration(days)*24*time.Hour + time.Duration(h)*time.Hour + time.Duration(m)*time.Minute +
		time.Duration(s)*time.Second + time.Duration(ticks)*100*time.Nanosecond, nil
}

// digits reads a number without sign up to limit.
func digits(s string, limit int) (int, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, errDuration
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > limit {
		return 0, errDuration
	}
	return n, nil
}

// parseBool reads what .NET and Go write.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false", s)
}
