// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/backup"
)

// take serves a document, and keeps it if it is new. Connections and requests
// go on.
func (g *Gateway) take(d *configuration.Document, source string) error {
	if err := g.trust.judge(d); err != nil {
		return err
	}
	set, err := d.Set()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.served.Load()
	if was != nil && source != sourcePlane {
		return errors.New("there is a configuration already, and only the management plane may replace it")
	}
	if was != nil {
		step, err := g.trust.follow(was.doc, d)
		switch {
		case err != nil:
			return err
		case step == configuration.Keep:
			return nil
		case step == configuration.Back:
			g.log.Warn("ConfigFromEarlierRevision", "revision", d.Revision, "served", was.doc.Revision, "signedAt", signedAt(d), "servedSignedAt", signedAt(was.doc),
				"message", "it was signed later than what is served: the management plane was put back to an earlier state, or is another")
		}
	}
	r := g.compiler.Compile(set, compile.Options{Revision: d.Revision, Base: d.Base, Egress: anywhere})
	if r.Snapshot.Gateways[d.Gateway] == nil {
		return fmt.Errorf("the configuration has no Gateway %s", d.Gateway)
	}
	g.names.setBase(d.Base)
	g.served.Store(&served{doc: d, snap: r.Snapshot, source: source, at: g.o.Now()})
	g.engine.Swap(r.Snapshot)
	g.log.Info("ConfigApplied", "source", source, "revision", d.Revision, "hash", d.Hash()[:12], "apis", len(set.Names(model.KindAPI)))
	g.warn(r)
	if g.backup != nil && source != sourceBackup {
		// What is served is served, whether it can be kept or not.
		switch err := g.backup.Save(d); {
		case errors.Is(err, configuration.ErrOlder):
			g.log.Warn("BackupKept", "exception", err.Error(), "message", "another instance that shares the folder has received more; what it kept stays")
		case err != nil:
			g.log.Error("BackupFailed", "exception", err.Error(), "message", "the next start without the management plane serves what was kept before")
		}
	}
	return nil
}

// signedAt is when a document was signed; the zero time if it was not.
func signedAt(d *configuration.Document) time.Time {
	if d.Signature == nil {
		return time.Time{}
	}
	return d.Signature.Time
}

// warn says what of a configuration is not served.
func (g *Gateway) warn(r *compile.Result) {
	refs := make([]model.Ref, 0, len(r.Conditions))
	for ref := range r.Conditions {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b model.Ref) int { return strings.Compare(a.String(), b.String()) })
	for _, ref := range refs {
		if ok, c := r.Ready(ref); !ok {
			g.log.Warn("ResourceNotServed", "resource", ref.String(), "reason", c.Reason, "message", c.Message)
		}
	}
}

// fromBackup serves what was kept.
func (g *Gateway) fromBackup() {
	if g.backup == nil {
		return
	}
	doc, problems, err := g.backup.Load()
	for _, p := range problems {
		g.log.Error("BackupRefused", "exception", p.Error())
	}
	if errors.Is(err, backup.ErrNone) && len(problems) == 0 {
		return // the first start
	}
	if err == nil {
		err = g.take(doc, sourceBackup)
	}
	if err != nil {
		g.log.Error("BackupUnusable", "exception", err.Error())
		return
	}
	at := signedAt(doc)
	if !at.IsZero() {
		g.link.Confirm(at)
	}
	g.log.Info("ConfigLoadedFromBackup", "revision", doc.Revision, "madeAt", at)
}

const (
	// firstAsk is how long the management plane has before siblings are asked,
	// askAgain how often they are asked then.
	firstAsk = 3 * time.Second
	askAgain = 10 * time.Second
)

// fromSiblings asks the other instances until anybody has brought a
// configuration.
func (g *Gateway) fromSiblings(ctx context.Context) {
	for wait := firstAsk; ; wait = askAgain {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if g.served.Load() != nil {
			return
		}
		doc, from, err := g.siblings.Fetch(ctx)
		if err == nil {
			err = g.take(doc, sourceSibling)
		}
		switch {
		case err == nil:
			if at := signedAt(doc); !at.IsZero() {
				g.link.Confirm(at)
			}
			g.log.Info("ConfigLoadedFromSibling", "revision", doc.Revision, "from", from)
			return
		case ctx.Err() != nil, g.served.Load() != nil:
			return
		}
		g.log.Warn("SiblingsWithoutConfig", "exception", err.Error())
	}
}

// anywhere is what backends may be at: the machine is the operator's own, and
// so are the networks that it reaches. What is link-local stays out: in a cloud
// its metadata service gives away credentials. Translators' prefixes are left
// to the rule that looks at the address within.
var anywhere = without(
	[]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"),
)

// without takes prefixes out of others.
func without(from []netip.Prefix, out ...netip.Prefix) []netip.Prefix {
	for _, o := range out {
		var next []netip.Prefix
		for _, p := range from {
			next = append(next, less(p, o)...)
		}
		from = next
	}
	return from
}

// less is p without o: the halves of p that o is not in, down to o.
func less(p, o netip.Prefix) []netip.Prefix {
	switch {
	case !p.Overlaps(o):
		return []netip.Prefix{p}
	case p.Bits() >= o.Bits():
		return nil
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	a, _ := netip.AddrFromSlice(b) // of the length that it had
	return append(less(low, o), less(netip.PrefixFrom(a, p.Bits()+1), o)...)
}
