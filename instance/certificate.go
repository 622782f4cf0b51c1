// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/control/acme"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// warnBefore is how long before its end a given certificate is warned of.
const warnBefore = 30 * 24 * time.Hour

// certificate says what there is to say, at this moment, of the certificate of
// a Domain.
func (i *Instance) certificate(name string) []model.Condition {
	for _, g := range i.Snapshot().Gateways {
		if h := g.Hosts[name]; h != nil && h.Domain != nil {
			return i.certificateOf(h.Domain)
		}
	}
	return nil
}

func (i *Instance) certificateOf(d *snapshot.Domain) []model.Condition {
	switch {
	case d.Certificate != "":
		return givenCertificate(d.Certificate, i.opts.Now())
	case d.ACME != nil:
		return i.acmeCertificate(d.Name)
	}
	return nil
}

// foresee adds what time will make of the certificates in r, which was compiled
// without a clock.
func (i *Instance) foresee(r *compile.Result) {
	for _, g := range r.Snapshot.Gateways {
		for name, h := range g.Hosts {
			if h.Domain == nil || h.Domain.Certificate == "" {
				continue
			}
			ref := model.Ref{Kind: model.KindDomain, Name: name}
			r.Conditions[ref] = append(r.Conditions[ref], givenCertificate(h.Domain.Certificate, i.opts.Now())...)
		}
	}
}

func certificateCondition(valid bool, reason, format string, args ...any) model.Condition {
	return model.Condition{Type: compile.ConditionCertificate, Status: valid, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// givenCertificate judges the time of a chain: it ends with the first of its
// certificates that does.
func givenCertificate(chain string, now time.Time) []model.Condition {
	from, until := time.Time{}, time.Time{}
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil // it was read before it was served
		}
		if from.IsZero() || c.NotBefore.After(from) {
			from = c.NotBefore
		}
		if until.IsZero() || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	advice := func(format string, args ...any) model.Condition {
		return model.Condition{Type: compile.ConditionAdvice, Status: true, Reason: compile.ReasonExpires, Message: fmt.Sprintf(format, args...)}
	}
	const field, replace = "spec.tls.certificate", "give a new one with its key"
	switch left := until.Sub(now); {
	case left <= 0:
		return []model.Condition{
			certificateCondition(false, "Ended", "%s has ended at %s: callers refuse it; %s", field, stamp(until), replace),
			advice("%s has ended at %s; %s", field, stamp(until), replace),
		}
	case now.Before(from):
		return []model.Condition{certificateCondition(false, "NotYet", "%s is not valid before %s: callers refuse it until then", field, stamp(from))}
	case left < warnBefore:
		return []model.Condition{
			certificateCondition(true, "Given", "valid until %s", stamp(until)),
			advice("%s ends in %s, at %s; %s", field, days(left), stamp(until), replace),
		}
	}
	return []model.Condition{certificateCondition(true, "Given", "valid until %s", stamp(until))}
}

// acmeCertificate tells how far an ACME authority has come.
func (i *Instance) acmeCertificate(name string) []model.Condition {
	k := i.acme.Load()
	if k == nil {
		return nil
	}
	s, ok := k.State(name)
	if !ok {
		return nil
	}
	return []model.Condition{obtainedCertificate(s, i.opts.Now())}
}

func obtainedCertificate(s acme.State, now time.Time) model.Condition {
	again := ""
	if s.Err != nil {
		again = fmt.Sprintf(": %s; it is tried again at %s", s.Err, stamp(s.Next))
	}
	switch {
	case s.Leaf == nil && s.Err == nil:
		return certificateCondition(false, "Pending", "a certificate is being obtained from %s; until then the private CA's is served", s.Directory)
	case s.Leaf == nil:
		return certificateCondition(false, "NotObtained", "the private CA's certificate is served, because %s has issued none%s", s.Directory, again)
	case !now.Before(s.Leaf.NotAfter):
		return certificateCondition(false, "Ended", "the certificate has ended at %s, and %s has not renewed it%s", stamp(s.Leaf.NotAfter), s.Directory, again)
	case s.Err != nil:
		return certificateCondition(true, "NotRenewed", "valid until %s, but %s has not renewed it%s", stamp(s.Leaf.NotAfter), s.Directory, again)
	}
	return certificateCondition(true, "Obtained", "valid until %s, from %s", stamp(s.Leaf.NotAfter), s.Directory)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// days is a length of time as people say it.
func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}
