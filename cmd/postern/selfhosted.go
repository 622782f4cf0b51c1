// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

// selfHostedRole is the role of a self-hosted gateway's token, and the kind in
// its subject.
const selfHostedRole = "selfhosted"

// gatewaySettings prints the settings of a self-hosted gateway, or writes them to
// a file, and says what will not work.
func (a *app) gatewaySettings(f format, file string, made wire.CreatedToken) error {
	s := made.Settings
	mine, _, err := a.settings()
	if err != nil {
		return err
	}
	text := settingsText(made, mine.CA != "")
	if file != "" {
		if err := writePrivate(file, []byte(text)); err != nil {
			return fmt.Errorf("token %s is made, but not kept: %w", made.ID, err)
		}
		made.Value = ""
	}
	return a.print(f, made, func() error {
		works := map[string]bool{}
		for _, l := range s.Links {
			works[l.Protocol] = works[l.Protocol] || l.Works
		}
		for _, protocol := range []string{"v2", "v1"} {
			if works[protocol] {
				continue
			}
			fmt.Fprintf(a.err, "no way leads from %s to the control plane by protocol %s:\n", s.From, protocol)
			for _, l := range s.Links {
				if l.Protocol == protocol {
					fmt.Fprintf(a.err, "  %s:%d: %s %s\n", l.Host, l.Port, l.Code, l.Reason)
				}
			}
			own := ""
			if s.StandsFor {
				own = "; --from " + s.From + "/IP asks for its own address, which may be let in"
			}
			fmt.Fprintf(a.err, "  postern explain --from %s https://%s:%d/ServiceStatus says what would help%s\n", s.From, s.Links[len(s.Links)-1].Host, s.Links[len(s.Links)-1].Port, own)
		}
		if file != "" {
			next := ""
			if mine.CA != "" {
				next = "postern "
				if a.config != "" {
					next += "--config " + shellWord(a.config) + " "
				}
				next += "config ca > " + caFile + "; "
			}
			_, err := fmt.Fprintf(a.out, "token %s is in %s, with the settings of SelfHostedGateway/%s; it is good until %s\nnext: %spostern gateway --settings %s --config.backup.path %s\n", made.ID, file, s.Name, made.Expires.Format(time.RFC3339), next, shellWord(file), backupFolder)
			return err
		}
		fmt.Fprintln(a.err, "shown this once; give it to postern gateway as a file, or as its environment")
		_, err := a.out.Write([]byte(text))
		return err
	})
}

// caFile is where settings look for the private CA, in the folder that the gateway
// is started in.
const caFile = "ca.pem"

// backupFolder is where a gateway that is started as it is printed keeps its backup:
// the default is a folder that few may make.
const backupFolder = "backup"

// shellWord is text as one word of a shell's command line.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("./_-+:@%,=", r)
	}
	if strings.TrimFunc(text, plain) == "" && text != "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// settingsText is a file of settings for postern gateway. private tells that it is
// the private CA that vouches for the management plane.
func settingsText(made wire.CreatedToken, private bool) string {
	s := made.Settings
	var b strings.Builder
	what := "Token " + made.ID + ", signed with the " + made.Key + " key,"
	if s.Enrol {
		what = "Enrolment " + made.ID
	}
	fmt.Fprintf(&b, "# SelfHostedGateway/%s. %s is good until %s.\n", s.Name, what, made.Expires.Format(time.RFC3339))
	fmt.Fprintf(&b, "# Protocol v2\nconfig.service.endpoint=%s\n", s.V2)
	fmt.Fprintf(&b, "# Protocol v1, in its place\n#config.service.endpoint=%s\n", s.V1)
	if s.Enrol {
		fmt.Fprintf(&b, "gateway.name=%s\nconfig.service.auth=certificate\nconfig.service.auth.enrolment=%s\n", s.Name, made.Value)
	} else {
		fmt.Fprintf(&b, "config.service.auth=%s\n", made.Value)
	}
	off := ""
	if !private {
		off = "#"
	}
	fmt.Fprintf(&b, "# The private CA: postern config ca > %s\n%sconfig.service.ca=%s\n", caFile, off, caFile)
	return b.String()
}

func newTokenRotateCommand(a *app) *cobra.Command {
	var f format
	var key string
	c := &cobra.Command{
		Use: "rotate NAME --key KEY", Short: "Make a key of a self-hosted gateway anew; the tokens that it signed end", Args: cobra.ExactArgs(1),
		Long: "Each SelfHostedGateway has two keys. To change them without a gap: make a token with --key secondary, give it to the\n" +
			"gateway, rotate primary; and the other way round the next time.",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.namesOf(cmd.Context(), []model.Kind{model.KindSelfHosted}), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.RotateKey(cmd.Context(), strings.TrimPrefix(args[0], selfHostedRole+"/"), key)
			if err != nil {
				return err
			}
			return a.print(f, r, func() error {
				if r.Both {
					_, err := fmt.Fprintf(a.out, "SelfHostedGateway/%s has two new keys, for those that it had could not be read; tokens that ended with them: %d\n", r.Name, r.Revoked)
					return err
				}
				_, err := fmt.Fprintf(a.out, "SelfHostedGateway/%s has a new %s key; tokens that ended with the old one: %d\n", r.Name, r.Key, r.Revoked)
				return err
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "primary or secondary")
	_ = c.MarkFlagRequired("key") // fails only for a flag that does not exist
	completeFlag(c, "key", "primary", "secondary")
	outputFlag(c, &f)
	return c
}

// selfHosted is what a SelfHostedGateway has in the columns of its kind: of its
// instances how many are connected, the versions, the oldest revision and age,
// who was heard of last, and the errors that are not over, with when they were
// heard of.
func selfHosted(g *model.SelfHostedGateway) []string {
	is := g.Status.Instances
	online := 0
	var versions, errors []string
	var seen time.Time
	for _, i := range is {
		if i.Connected {
			online++
		}
		versions = append(versions, i.Version)
		if i.LastError != "" && !i.Recovered {
			text := i.Name + ": " + oneLine(i.LastError)
			if !i.ErrorSeen.IsZero() {
				text += ", heard " + i.ErrorSeen.UTC().Format(time.RFC3339)
			}
			errors = append(errors, text)
		}
		if i.Seen.After(seen) {
			seen = i.Seen
		}
	}
	slices.Sort(versions)
	out := []string{g.Spec.Gateway, strings.Join(g.Spec.APIs, ","), fmt.Sprintf("%d/%d", online, len(is)), strings.Join(slices.Compact(versions), ","), "", "", "", strings.Join(errors, "; ")}
	if len(is) > 0 {
		oldest := slices.MinFunc(is, func(a, b model.Instance) int { return cmp.Compare(a.Revision, b.Revision) })
		out[4] = strconv.FormatInt(oldest.Revision, 10)
		stale := slices.MaxFunc(is, func(a, b model.Instance) int { return cmp.Compare(a.Age, b.Age) })
		out[5] = (time.Duration(stale.Age) * time.Second).String()
	}
	if !seen.IsZero() {
		out[6] = seen.UTC().Format(time.RFC3339)
	}
	return out
}
