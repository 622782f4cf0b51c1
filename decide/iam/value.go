// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/snapshot/iam"
)

// kind says which field of a value is set.
type kind uint8

const (
	missing kind = iota
	kindString
	kindStrings
	kindAddr
	kindBool
	kindTime
	kindEpoch
)

// value is what a request holds under a condition key, as it came: it becomes
// text only where an operator wants text.
type value struct {
	kind kind
	yes  bool
	str  string
	many []string
	addr netip.Addr
	time time.Time
}

// formatted is enough for the text of any value that is not a string: the longest
// are an IPv6 address with four digits a group and a time.
const formatted = 64

// append writes a value that is not a string as text.
func (v *value) append(b []byte) []byte {
	switch v.kind {
	case kindAddr:
		return v.addr.AppendTo(b)
	case kindBool:
		return strconv.AppendBool(b, v.yes)
	case kindTime:
		return v.time.AppendFormat(b, "2006-01-02T15:04:05Z")
	case kindEpoch:
		return strconv.AppendInt(b, v.time.Unix(), 10)
	}
	return b
}

func textValue(s string) value {
	if s == "" {
		return value{}
	}
	return value{kind: kindString, str: s}
}

func addrValue(a netip.Addr) value {
	if !a.IsValid() {
		return value{}
	}
	// A zone is a name of the host's, not part of the address.
	return value{kind: kindAddr, addr: a.Unmap().WithZone("")}
}

func timeValue(t time.Time, k kind) value {
	if t.IsZero() {
		return value{}
	}
	return value{kind: k, time: t.UTC()}
}

// value returns what r holds under k.
func (r *Request) value(k *iam.Key) value {
	c, p := &r.Context, &r.Principal
	switch k.ID {
	case iam.KeySourceVpce:
		return textValue(c.SourceVpce)
	case iam.KeySourceVpc:
		return textValue(c.SourceVpc)
	case iam.KeyVpcSourceIP:
		return addrValue(c.VpcSourceIP)
	case iam.KeySourceIP:
		return addrValue(c.SourceIP)
	case iam.KeyCurrentTime:
		return timeValue(c.Time, kindTime)
	case iam.KeyEpochTime:
		return timeValue(c.Time, kindEpoch)
	case iam.KeyReferer:
		return textValue(c.Referer)
	case iam.KeyUserAgent:
		return textValue(c.UserAgent)
	case iam.KeySecureTransport:
		return value{kind: kindBool, yes: c.SecureTransport}
	case iam.KeySourceArn:
		return textValue(c.SourceArn)
	case iam.KeyViaDomainArn:
		return textValue(c.ViaDomainArn)
	case iam.KeySourceEndpoint:
		return textValue(c.SourceEndpoint)
	case iam.KeySourceNetwork:
		return textValue(c.SourceNetwork)
	case iam.KeySourceHost:
		return textValue(c.SourceHost)
	case iam.KeySourceLink:
		return textValue(c.SourceLink)
	case iam.KeySourceGateway:
		return textValue(c.SourceGateway)
	case iam.KeyClientCertSubject:
		return textValue(c.ClientCertSubject)
	case iam.KeyPrincipalArn:
		if p.Role != "" {
			return textValue(p.Role)
		}
		return textValue(p.ARN)
	case iam.KeyPrincipalAccount:
		return textValue(p.Account)
	case iam.KeyPrincipalType:
		return textValue(p.Type)
	case iam.KeyUserID:
		return textValue(p.UserID)
	case iam.KeyUsername:
		return textValue(p.UserName)
	}
	for i := range c.Extra {
		if a := &c.Extra[i]; strings.EqualFold(a.Key, k.Name) {
			return attributeValue(a.Values)
		}
	}
	return value{}
}

func attributeValue(values []string) value {
	if len(values) == 1 {
		return textValue(values[0])
	}
	for _, s := range values {
		if s != "" {
			return value{kind: kindStrings, many: values}
		}
	}
	return value{}
}

// number reads v for a numeric operator.
func (v *value) number() (float64, bool) {
	switch v.kind {
	case kindString:
		return ParseNumber(v.str)
	case kindEpoch:
		return float64(v.time.Unix()), true
	}
	return 0, false
}

// instant reads v for a date operator.
func (v *value) instant() (time.Time, bool) {
	switch v.kind {
	case kindString:
		return ParseTime(v.str)
	case kindTime, kindEpoch:
		return v.time, true
	}
	return time.Time{}, false
}

// address reads v for an IP operator.
func (v *value) address() (netip.Addr, bool) {
	switch v.kind {
	case kindAddr:
		return v.addr, true
	case kindString:
		a, err := netip.ParseAddr(v.str)
		return a.Unmap().WithZone(""), err == nil
	}
	return netip.Addr{}, false
}

// ParseNumber reads an integer or decimal as numeric operators do.
func ParseNumber(s string) (float64, bool) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, dotted := strings.Cut(digits, ".")
	if !allDigits(whole) || dotted && !allDigits(fraction) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// timeLayouts are the W3C forms of ISO 8601. A lone year is left out: it cannot
// be told from seconds since 1970.
var timeLayouts = [...]string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01"}

// ParseTime reads a date as date operators do: ISO 8601 in a W3C form, or seconds
// since 1970. Four digits alone are refused as ambiguous.
func ParseTime(s string) (time.Time, bool) {
	if seconds := strings.TrimPrefix(s, "-"); allDigits(seconds) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || len(seconds) == 4 || len(seconds) > 12 {
			return time.Time{}, false
		}
		return inCalendar(time.Unix(n, 0).UTC())
	}
	for _, l := range timeLayouts {
		if t, err := time.Parse(l, s); err == nil {
			return inCalendar(t.UTC())
		}
	}
	return time.Time{}, false
}

// inCalendar refuses what ISO 8601 cannot write.
func inCalendar(t time.Time) (time.Time, bool) { return t, 0 <= t.Year() && t.Year() <= 9999 }

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
