// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

func TestApplyTellsWhatBecameOfEachResource(t *testing.T) {
	sh := newShell(t)
	f := sh.file("world.yaml", world)
	if out := sh.ok("apply", "-f", f, "--dry-run"); !strings.Contains(out, "Network/corp created (dry run)\n") {
		t.Errorf("dry run: %s", out)
	}
	if out := sh.ok("apply", "-f", f); !strings.Contains(out, "Network/corp created vpc-") || strings.Count(out, "created") != 7 {
		t.Errorf("first: %s", out)
	}
	if out := sh.ok("apply", "-f", f); strings.Count(out, "unchanged") != 7 {
		t.Errorf("again: %s", out)
	}
	r := sh.runWith(strings.Replace(world, "team: a", "team: b", 1), "apply", "-f", "-", "-o", "json")
	var done wire.Applied
	if err := json.Unmarshal([]byte(r.out), &done); err != nil || done.Results[0].Action != wire.Configured {
		t.Errorf("%s, %v", r.out, err)
	}
}

func TestConfigPrintsTheCA(t *testing.T) {
	sh := newShell(t)
	text := sh.ok("config", "ca")
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("no PEM, or more than that: %q", text)
	}
	if c, err := x509.ParseCertificate(block.Bytes); err != nil || !c.IsCA {
		t.Errorf("no CA: %v, %v", c, err)
	}
	sh.fails([]string{"config", "ca", "--config", sh.file("bare.yaml", "address: https://192.0.2.1\n")}, "bare.yaml", "holds no ca")
}

func TestGatewaysShowBothAddresses(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	if out := sh.ok("get", "gateways"); strings.Contains(out, "PUBLIC") || strings.Count(out, "198.18.") != 1 {
		t.Errorf("a Gateway that is not injected has one address: %s", out)
	}
	sh.ok("apply", "-f", sh.file("inner.yaml", "apiVersion: postern/v1\nkind: Subnet\nmetadata: {name: nodes}\nspec: {network: corp, cidr: 10.0.9.0/28}\n---\napiVersion: postern/v1\nkind: Gateway\nmetadata: {name: inner}\nspec: {region: eu-1, networkMode: external, subnet: nodes}\n"))
	lines := strings.Split(sh.ok("get", "gateways"), "\n")
	if !strings.Contains(lines[0], "PUBLIC") || !strings.Contains(lines[2], "198.18.") || !strings.Contains(lines[2], "10.0.9.") {
		t.Errorf("an injected Gateway: %q", lines)
	}
}

func TestErrorsOfManifestsNameFileLineAndColumn(t *testing.T) {
	sh := newShell(t)
	sh.fails([]string{"apply", "-f", sh.file("typo.yaml", "apiVersion: postern/v1\nkind: Network\nmetadata: {name: a}\nspec:\n  cidr: [10.0.0.0/16]\n")},
		"typo.yaml:5:3:", "did you mean")
	// An error that only the server can find has its place too.
	sh.fails([]string{"apply", "-f", sh.file("lost.yaml", "apiVersion: postern/v1\nkind: Host\nmetadata: {name: lost}\nspec:\n  subnet: nowhere\n")},
		"lost.yaml:5:", "Host/lost", "spec.subnet")
	sh.fails([]string{"apply", "-f", "absent.yaml"}, "absent.yaml")
	sh.fails([]string{"apply"}, "-f")
	r := sh.run("apply", "-f", sh.file("two.yaml", "apiVersion: postern/v1\nkind: Host\nmetadata: {name: a}\nspec: {subnet: x}\n---\napiVersion: postern/v1\nkind: Host\nmetadata: {name: b}\nspec: {subnet: y}\n"))
	if r.code != 1 || strings.Count(r.err, "\n") != 2 {
		t.Errorf("two errors: exit %d %s", r.code, r.err)
	}
}

func TestGetWritesTablesAndManifests(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	if out := sh.ok("get", "networks"); !strings.HasPrefix(out, "NAME") || !strings.Contains(out, "corp") || !strings.Contains(out, "team=a") {
		t.Errorf("table: %s", out)
	}
	lines := strings.Split(sh.ok("get", "all"), "\n")
	for _, head := range []string{"READY", "ID"} {
		at := strings.Index(lines[0], " "+head+" ") + 1
		for _, l := range lines[1 : len(lines)-1] {
			if at == 0 || len(l) <= at || l[at] == ' ' || l[at-1] != ' ' {
				t.Errorf("%q does not stand under %s of %q", l, head, lines[0])
			}
		}
	}
	text := sh.ok("get", "all", "-o", "yaml")
	back, err := manifest.Decode("all.yaml", []byte(text))
	if err != nil || len(back) != 7 {
		t.Fatalf("%d resources, %v", len(back), err)
	}
	// A backup is applied as it was read.
	if out := sh.ok("apply", "-f", sh.file("all.yaml", text)); strings.Count(out, "unchanged") != 7 {
		t.Errorf("the backup: %s", out)
	}
	var one wire.Resource
	if err := json.Unmarshal([]byte(sh.ok("get", "host", "laptop", "-o", "json")), &one); err != nil || one.Status.Addresses[0] != "10.0.1.4" {
		t.Errorf("%+v, %v", one, err)
	}
	if out := sh.ok("get", "host/laptop", "link/hq"); !strings.Contains(out, "Host/laptop") || !strings.Contains(out, "Link/hq") {
		t.Errorf("two kinds: %s", out)
	}
	if out := sh.ok("get", "networks", "-l", "team=b"); strings.Contains(out, "corp") {
		t.Errorf("filtered: %s", out)
	}
	if out := sh.ok("get", "-f", "world.yaml"); strings.Count(out, "\n") != 8 {
		t.Errorf("those of a file: %s", out)
	}
	if out := sh.ok("describe", "endpoint", "corp-ep"); !strings.Contains(out, "Endpoint/corp-ep (revision") || !strings.Contains(out, "Ready: ") || !strings.Contains(out, "kind: Endpoint") {
		t.Errorf("described: %s", out)
	}
	if out := sh.ok("get", "subnets"); !strings.Contains(out, "NETWORK") || !strings.Contains(out, "10.0.1.0/24") {
		t.Errorf("the columns of a kind: %s", out)
	}
	if r := sh.run("get", "zones"); r.code != 0 || r.out != "" || r.err != "there are no zones\n" {
		t.Errorf("an empty list: %+v", r)
	}
	sh.fails([]string{"get", "networts"}, "networts", "networks")
	sh.fails([]string{"get", "network", "none"}, "Network/none", "does not exist")
	sh.fails([]string{"get", "networks", "-o", "xml"}, "yaml, json and table")
}

func TestABackupIsReadBackIntoAnEmptyServer(t *testing.T) {
	what := func(text string) map[string]any {
		var rs []wire.Resource
		if err := json.Unmarshal([]byte(text), &rs); err != nil {
			t.Fatal(err)
		}
		out := map[string]any{}
		for _, r := range rs {
			r.Status.PublicKey, r.Status.Port, r.Status.Conditions = "", 0, nil // hubs have keys of their own
			out[r.Ref().String()] = []any{r.Spec, r.Status}
		}
		return out
	}
	var first result
	var yaml string
	{
		sh := newShell(t)
		sh.ok("apply", "-f", sh.file("world.yaml", world))
		// What came later has the higher address, whatever its name.
		sh.runWith("apiVersion: postern/v1\nkind: Host\nmetadata: {name: a}\nspec: {subnet: apps}\n---\n"+
			"apiVersion: postern/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {region: eu-2}\n", "apply", "-f", "-")
		sh.ok("endpoint", "reject", "corp-ep")
		sh.ok("deploy", "pets", "--stage", "prod")
		sh.ok("deploy", "pets", "--stage", "prod")
		sh.ok("delete", "deployment", "pets.1")
		sh.runWith(authorized, "apply", "-f", "-")
		sh.ok("delete", "securitygroupauthorization", "catalog")
		sh.ok("revoke", "service-sg1", "orders-80-90")
		first, yaml = sh.run("get", "all", "-o", "json"), sh.ok("get", "all", "-o", "yaml")
	}
	for name, text := range map[string]string{"backup.json": first.out, "backup.yaml": yaml} {
		sh := newShell(t)
		sh.ok("apply", "-f", sh.file(name, text))
		if d := cmp.Diff(what(first.out), what(sh.ok("get", "all", "-o", "json"))); d != "" {
			t.Errorf("%s: (- before, + restored)\n%s", name, d)
		}
	}
}

func TestAMisspeltCommandLineIsPutRight(t *testing.T) {
	sh := newShell(t)
	sh.fails([]string{"aply"}, `unknown command "aply"; did you mean apply?`)
	sh.fails([]string{"frobnicate"}, `unknown command "frobnicate"`, "postern --help")
	sh.fails([]string{"endpoint", "aprove", "x"}, `unknown command "aprove"; did you mean approve?`)
	sh.fails([]string{"token", "frobnicate"}, `unknown command "frobnicate"; postern token --help`)
	sh.fails([]string{"get", "gatway"}, `"gatway"; did you mean gateways?`)
	sh.fails([]string{"explain", "--from", "internet"}, "accepts 1 arg(s)", "postern explain --from SOURCE", "URL")
	sh.fails([]string{"explain", "https://x/"}, `"from" not set`, "--from SOURCE")
	sh.fails([]string{"get", "networks", "--lable", "a"}, "unknown flag: --lable", "postern get")
	sh.fails([]string{"gateway", "--config.service.endpont", "x"}, "unknown flag: --config.service.endpont; did you mean --config.service.endpoint?")
	sh.fails([]string{"gateway", "-settings", "x"}, "did you mean --settings?")
	sh.fails([]string{"get", "networks", "--confg", "a"}, "did you mean --config?")
	sh.fails([]string{"get", "networks", "--frobnicate"}, "unknown flag: --frobnicate; write postern get")
	sh.fails([]string{"token", "create", "--role", "viewer", "--lifetime", "-5h"}, `"-5h" would have ended before it begins`)
	if r := sh.run("server", "--public", "x", "--wireguard", "y"); r.code != exitError || strings.Count(r.err, "postern: --") != 2 {
		t.Errorf("two mistakes: %s", r.err)
	}
}

func TestNamesAreCompleted(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	for line, want := range map[string]string{
		"get net": "networks", "get host ": "laptop", "describe host/l": "host/laptop", "connect ": "laptop", "deploy ": "pets",
		"config wireguard ": "hq", "endpoint approve ": "corp-ep", "get -o ": "yaml", "token create --role ": "viewer",
	} {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		if out := sh.ok(args...); !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("%s: %s", line, out)
		}
	}
}

func TestDeleteIsAtomic(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	sh.fails([]string{"delete", "network", "corp"}, "Network/corp", "refer to it")
	sh.fails([]string{"delete", "host/laptop", "host/none"}, "Host/none", "--ignore-not-found")
	sh.ok("get", "host", "laptop")
	sh.ok("delete", "host/laptop", "host/none", "--ignore-not-found")
	sh.fails([]string{"get", "host", "laptop"}, "does not exist")
	if out := sh.ok("delete", "-f", "world.yaml", "--ignore-not-found"); strings.Count(out, "deleted") != 6 {
		t.Errorf("the rest: %s", out)
	}
}

func TestPlanExitsByWhetherAnythingChanges(t *testing.T) {
	sh := newShell(t)
	f := sh.file("world.yaml", world)
	r := sh.run("plan", "-f", f)
	if r.code != exitChanges || !strings.Contains(r.out, "+ Network/corp") || !strings.Contains(r.out, "gains access: internet to https://x/") {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
	sh.ok("apply", "-f", f)
	if r := sh.run("plan", "-f", f); r.code != exitOK {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
	sh.file("world.yaml", strings.Replace(world, "192.168.0.0", "192.168.8.0", 1))
	if r := sh.run("plan", "-f", f); r.code != exitChanges || !strings.Contains(r.out, `spec.cidrs[0]: "192.168.0.0/24" -> "192.168.8.0/24"`) {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
	sh.fails([]string{"plan", "-f", sh.file("bad.yaml", "apiVersion: postern/v1\nkind: Networt\n")}, "bad.yaml", "Network")
}

func TestAPlanThatChangesNothingStillWarns(t *testing.T) {
	var out, errs strings.Builder
	a := &app{streams: streams{nil, &out, &errs}}
	if err := a.plan(wire.Plan{Warnings: []string{"Gateway/gw: look here"}}); err != nil || out.String() != "Nothing would change.\n" || errs.String() != "warning: Gateway/gw: look here\n" {
		t.Errorf("%q, %q, %v", out.String(), errs.String(), err)
	}
}

func TestReasonIsThatOfWhatIsNotReady(t *testing.T) {
	reachable := model.Condition{Type: "ManagementReachable", Status: true, Reason: "Reachable"}
	for _, ready := range []bool{true, false} {
		want := "yes Reachable"
		if !ready {
			want = "no PortTaken"
		}
		state, why := readiness(model.Status{Conditions: []model.Condition{reachable, {Type: "Ready", Status: ready, Reason: "PortTaken"}}})
		if got := state + " " + why; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestDeployAndApprove(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	if out := sh.ok("deploy", "pets", "--stage", "prod"); out != "Deployment/pets.1 created, served by the new Stage/pets.prod\n" {
		t.Errorf("deploy: %s", out)
	}
	if out := sh.ok("deploy", "pets"); out != "Deployment/pets.2 created, served by Stage/pets.prod\n" {
		t.Errorf("again: %s", out)
	}
	if out := sh.ok("describe", "api/pets"); !strings.Contains(out, ".execute-api.eu-1.postern.internal/prod/pets\n") {
		t.Errorf("how to call it: %s", out)
	}
	if out := sh.ok("endpoint", "approve", "corp-ep"); out != "Endpoint/corp-ep Approved\n" {
		t.Errorf("approve: %s", out)
	}
	if out := sh.ok("deploy", "API/pets"); !strings.HasPrefix(out, "Deployment/pets.3 created") {
		t.Errorf("the name as it is printed: %s", out)
	}
	if out := sh.ok("endpoint", "reject", "Endpoint/corp-ep"); out != "Endpoint/corp-ep Rejected\n" {
		t.Errorf("reject: %s", out)
	}
	sh.ok("apply", "-f", sh.file("private.yaml", strings.Replace(world, "type: regional", "type: private", 1)))
	sh.fails([]string{"deploy", "pets"}, "Private REST API doesn't have a resource policy attached to it", "write spec.policy")
}

func TestExplainExitsByVerdict(t *testing.T) {
	sh := newShell(t)
	for verdict, want := range map[answer.Verdict]int{answer.Allow: exitOK, answer.Deny: exitDenied, answer.Unknown: exitUnknown} {
		sh.answer = answer.Answer{
			Verdict: verdict, Code: "policy/allow", Symptom: answer.Symptom{Kind: answer.Response, Status: 200},
			Hops:  []answer.Hop{{Layer: answer.LayerPolicy, Component: "API/pets", Outcome: answer.Pass, Code: "policy/allow", Reason: "it is allowed"}},
			Fixes: []answer.Fix{{For: "x/y", Summary: "do this", Commands: []string{"postern deploy pets"}}},
		}
		r := sh.run("explain", "--from", "host/laptop", "-X", "POST", "-H", "a: b", "https://x/")
		if r.code != want || !strings.Contains(r.out, string(verdict)+"  policy/allow  the caller sees status 200") || !strings.Contains(r.out, "it is allowed") || !strings.Contains(r.out, "postern deploy pets") {
			t.Errorf("%s: exit %d %s%s", verdict, r.code, r.out, r.err)
		}
		r = sh.run("explain", "--from", "host/laptop", "https://x/", "-o", "json")
		var got answer.Answer
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Verdict != verdict || r.code != want {
			t.Errorf("%s: exit %d, %v", verdict, r.code, err)
		}
	}
	if out := sh.ok("why", "abc"); !strings.Contains(out, "GET https://x/ from host/a") ||
		!strings.Contains(out, "recorded: status 504, backend/refused, at revision 3\n") || !strings.Contains(out, "differs: the backend was dead\n") {
		t.Errorf("why: %s", out)
	}
	sh.fails([]string{"explain", "https://x/"}, "from")
	sh.fails([]string{"explain", "--from", "host/a", "-H", "nonsense", "https://x/"}, "nonsense")
}

// TestExplainNeedsNoServer asks manifests alone.
func TestExplainNeedsNoServer(t *testing.T) {
	sh := newShell(t)
	if err := os.RemoveAll("postern-data"); err != nil {
		t.Fatal(err)
	}
	f := sh.file("world.yaml", world+"---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.prod}\nspec: {autoDeploy: true}\n")
	r := sh.run("explain", "-k", "-f", f, "--from", "internet", "-o", "json", "https://${API/pets.host}/prod/pets")
	var got answer.Answer
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatalf("exit %d %s%s", r.code, r.out, r.err)
	}
	if r.code != exitOK || got.Verdict != answer.Allow || len(got.Assumptions) == 0 {
		t.Errorf("exit %d %+v", r.code, got)
	}
	if r := sh.run("explain", "-k", "-f", f, "--from", "internet", "https://${API/pets.host}/none/pets"); r.code != exitDenied || !strings.Contains(r.out, "stage/missing") {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
	sh.fails([]string{"explain", "--from", "internet", "https://x/"}, "client settings")
	if out := sh.ok("get", "matrix", "gw", "-f", f); !strings.Contains(out, "gateway 443") || !strings.Contains(out, "internet") || !strings.Contains(out, "listen/refused at Gateway/gw") {
		t.Errorf("matrix: %s", out)
	}
	var m answer.Matrix
	if err := json.Unmarshal([]byte(sh.ok("get", "matrix", "gateway/gw", "-f", f, "-o", "json")), &m); err != nil || len(m.Rows) != 7 || len(m.Rows[0].Cells) != len(m.Sources) {
		t.Errorf("matrix: %+v, %v", m, err)
	}
	sh.fails([]string{"get", "matrix", "none", "-f", f}, "none")
	sh.fails([]string{"get", "matrix", "-f", f}, "one Gateway")
}

func TestVerifyExitsByWhetherAllHold(t *testing.T) {
	sh := newShell(t)
	if r := sh.run("verify"); r.code != exitDenied || !strings.Contains(r.out, "FAIL  t: expected allow, found deny") {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
	sh.holds.Store(true)
	if r := sh.run("verify"); r.code != exitOK || r.out != "ok    t\n" {
		t.Errorf("exit %d %s%s", r.code, r.out, r.err)
	}
}

func TestTokensAreShownOnce(t *testing.T) {
	sh := newShell(t)
	value := strings.TrimSpace(sh.ok("token", "create", "--role", "viewer", "--comment", "ci", "--lifetime", "1h"))
	if !strings.HasPrefix(value, "postern_") || strings.Contains(value, "\n") {
		t.Errorf("got %q", value)
	}
	list := sh.ok("token", "list")
	id := strings.Split(value, "_")[1]
	if !strings.Contains(list, id) || !strings.Contains(list, "viewer") || strings.Contains(list, value) {
		t.Errorf("list: %s", list)
	}
	sh.ok("token", "revoke", id)
	sh.fails([]string{"token", "revoke", id}, id, "no token")
	sh.fails([]string{"token", "create", "--role", "root"}, "root")
	if out := sh.ok("token", "create", "--role", "viewer", "--settings", "view.yaml"); strings.Contains(out, "postern_") {
		t.Errorf("printed although kept: %s", out)
	}
	if info, err := os.Stat("view.yaml"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	sh.ok("get", "all", "--config", "view.yaml")
	sh.fails([]string{"token", "list", "--config", "view.yaml"}, "role viewer", "use one with the role admin")
	sh.fails([]string{"token", "create", "--role", "viewer", "--settings", "view.yaml"}, "exists already")
}

func TestConfigWireguardIsAFileThatStockClientsRead(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	conf, err := quick.Parse([]byte(sh.ok("config", "wireguard", "laptop")))
	if err != nil {
		t.Fatal(err)
	}
	p := conf.Peers[0]
	if fmt.Sprintf("%v %v %v %v", conf.Interface.Addresses, conf.Interface.DNS, p.Endpoint, p.AllowedIPs) != "[10.0.1.4/32] [10.0.0.2] 192.0.2.1:51820 [10.0.0.0/16 192.168.0.0/24]" {
		t.Errorf("%s", conf)
	}
	public, err := conf.Interface.PrivateKey.Public()
	if err != nil {
		t.Fatal(err)
	}
	if out := sh.ok("get", "host", "laptop", "-o", "yaml"); !strings.Contains(out, public.String()) || strings.Contains(out, conf.Interface.PrivateKey.Reveal()) {
		t.Errorf("registered: %s", out)
	}
	// With a key of one's own the server never sees the private half.
	key := sh.file("key", conf.Interface.PrivateKey.Reveal()+"\n")
	again, err := quick.Parse([]byte(sh.ok("config", "wireguard", "host/laptop", "--private-key", key)))
	if err != nil || !again.Interface.PrivateKey.Equal(conf.Interface.PrivateKey) {
		t.Errorf("with its own key: %v", err)
	}
	if r := sh.run("config", "wireguard", "laptop"); r.code != 0 || !strings.Contains(r.err, "Host/laptop had before is replaced") || !strings.HasPrefix(r.out, "# Host/laptop of Network/corp") {
		t.Errorf("another key: %+v", r)
	}
	if out := sh.ok("config", "wireguard", "hq"); !strings.Contains(out, "AllowedIPs = 10.0.0.0/16\n") {
		t.Errorf("a Link: %s", out)
	}
	sh.fails([]string{"config", "wireguard", "none"}, "neither a Host nor a Link")
	sh.fails([]string{"config", "wireguard", "network/corp"}, "host/NAME nor link/NAME")
}

func TestKeyOfAHostIsMadeOnceAndKeptPrivate(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	path, err := hostFile("https://[::1]:3443", "laptop", ".key")
	if err != nil {
		t.Fatal(err)
	}
	first, kept, err := hostKey(path)
	if err != nil || kept {
		t.Fatalf("kept %v, %v", kept, err)
	}
	if err := writePrivate(path, []byte(first.Reveal())); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, kept, err := hostKey(path); err != nil || !kept || !again.Equal(first) {
		t.Errorf("the second time: kept %v, %v", kept, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := hostKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	other, err := hostFile("https://other:3443", "laptop", ".key")
	if err != nil || other == path || filepath.Dir(other) != filepath.Dir(path) {
		t.Errorf("another server's: %s, %v", other, err)
	}
}

func TestLocalForwardsAreRead(t *testing.T) {
	for _, good := range []string{"8080:web.lan:80", "0:10.0.0.1:443", "8443:[fd00::1]:443"} {
		if err := checkLocal(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "8080", "8080:web.lan", "x:web.lan:80", "8080:web.lan:0", "8080:web.lan:99999"} {
		if err := checkLocal(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestOffersAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"8080": "8080 127.0.0.1:8080", "80:8080": "80 127.0.0.1:8080", "80:web.lan:8080": "80 web.lan:8080", "443:[::1]:8443": "443 [::1]:8443",
	} {
		port, local, err := parseOffer(text)
		if got := fmt.Sprintf("%d %s", port, local); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "x", "70000", "80:", "80:x", "80:h:x", "80:h:99999"} {
		if _, _, err := parseOffer(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCommandRunsBehindTheProxy(t *testing.T) {
	sh := newShell(t)
	var out strings.Builder
	a := &app{streams: streams{strings.NewReader(""), &out, &out}}
	t.Setenv("NO_PROXY", "10.0.0.0/8")
	err := a.runThrough(t.Context(), []string{"sh", "-c", "echo $ALL_PROXY $https_proxy [$NO_PROXY] $POSTERN_CA_FILE; exit 7"}, "socks5h://u:p@127.0.0.1:1", sh.folder)
	if code, ok := err.(exit); !ok || code != 7 {
		t.Errorf("got %v, want its exit code", err)
	}
	if want := "socks5h://u:p@127.0.0.1:1 socks5h://u:p@127.0.0.1:1 [] " + sh.folder + "\n"; out.String() != want {
		t.Errorf("environment: %s", out.String())
	}
	if err := a.runThrough(t.Context(), []string{"no-such-command-here"}, "", ""); err == nil || !strings.Contains(err.Error(), "no-such-command-here") {
		t.Errorf("a command that does not exist: %v", err)
	}
}

func TestMistakesInTheCommandLineAreOneLine(t *testing.T) {
	sh := newShell(t)
	sh.fails([]string{"aply"}, "aply")
	sh.fails([]string{"get"}, "KIND")
	sh.fails([]string{"connect"}, "postern connect HOST")
	sh.fails([]string{"connect", "a", "b"}, "behind --")
	sh.fails([]string{"deploy"}, "arg")
	sh.fails([]string{"get", "networks", "--config", "absent.yaml"}, "absent.yaml")
	if out := sh.ok("version"); !strings.HasPrefix(out, "postern ") {
		t.Errorf("version: %s", out)
	}
	if out := sh.ok("--version"); out != sh.ok("version") {
		t.Errorf("--version: %s", out)
	}
	if out := sh.ok("completion", "bash"); !strings.Contains(out, "postern") {
		t.Error("no completion")
	}
}
