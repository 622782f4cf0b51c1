// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package check holds the manifests in deploy/ to the types that they are for.
package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// objects are what stands in the files, by kind and name.
type objects map[string]metav1.Object

// decode reads every document strictly: a field that its type has not, or one
// that stands twice, fails.
func decode(t *testing.T) objects {
	t.Helper()
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	out := objects{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, doc := range bytes.Split(b, []byte("\n---\n")) {
			var kind metav1.TypeMeta
			if err := yaml.Unmarshal(doc, &kind); err != nil {
				t.Fatalf("%s, document %d: %v", file, i, err)
			}
			var o metav1.Object
			switch kind.APIVersion + " " + kind.Kind {
			case "v1 ConfigMap":
				o = &corev1.ConfigMap{}
			case "v1 Secret":
				o = &corev1.Secret{}
			case "v1 Service":
				o = &corev1.Service{}
			case "v1 PersistentVolumeClaim":
				o = &corev1.PersistentVolumeClaim{}
			case "apps/v1 Deployment":
				o = &appsv1.Deployment{}
			default:
				t.Fatalf("%s, document %d: no type for %+v", file, i, kind)
			}
			if err := yaml.UnmarshalStrict(doc, o); err != nil {
				t.Fatalf("%s, document %d: %v", file, i, err)
			}
			name := kind.Kind + "/" + o.GetName()
			if out[name] != nil {
				t.Errorf("%s stands there twice", name)
			}
			out[name] = o
		}
	}
	return out
}

func TestManifestsAreWhatKubernetesTakes(t *testing.T) {
	all := decode(t)
	for _, want := range []string{"Deployment/edge", "Service/edge", "Service/edge-instances", "ConfigMap/edge", "Secret/edge-token"} {
		if all[want] == nil {
			t.Errorf("there is no %s", want)
		}
	}
	if _, err := yaml.YAMLToJSONStrict([]byte("a: 1\na: 2\n")); err == nil {
		t.Error("the decoder is not strict")
	}
	if err := yaml.UnmarshalStrict([]byte("apiVersion: v1\nkind: Service\nspec: {port: []}\n"), &corev1.Service{}); err == nil {
		t.Error("a field that there is not is taken")
	}
}

func TestManifestsReferToWhatThereIs(t *testing.T) {
	all := decode(t)
	d := all["Deployment/edge"].(*appsv1.Deployment)
	pod := d.Spec.Template
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("the Deployment selects %s, its pods are %v: %v", selector, pod.Labels, err)
	}
	if *d.Spec.Replicas < 2 || *pod.Spec.TerminationGracePeriodSeconds < 60 {
		t.Error("fewer than two instances, or less than a minute to end")
	}
	c := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if ports["http"] != 8080 || ports["https"] != 8081 {
		t.Errorf("the ports are %v", ports)
	}
	for name, o := range all {
		s, ok := o.(*corev1.Service)
		if !ok {
			continue
		}
		if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s selects %v", name, s.Spec.Selector)
		}
		for _, p := range s.Spec.Ports {
			if ports[p.TargetPort.StrVal] == 0 {
				t.Errorf("%s leads to port %s, which there is not", name, p.TargetPort.String())
			}
		}
	}
	for _, e := range c.EnvFrom {
		switch {
		case e.ConfigMapRef != nil && all["ConfigMap/"+e.ConfigMapRef.Name] != nil, e.SecretRef != nil && all["Secret/"+e.SecretRef.Name] != nil:
		default:
			t.Errorf("the environment is from %+v, which there is not", e)
		}
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = v.Secret != nil && all["Secret/"+v.Secret.SecretName] != nil || v.PersistentVolumeClaim != nil && all["PersistentVolumeClaim/"+v.PersistentVolumeClaim.ClaimName] != nil ||
			v.ConfigMap != nil && all["ConfigMap/"+v.ConfigMap.Name] != nil
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("%s is mounted and there is nothing of that name", m.Name)
		}
	}
	host := all["ConfigMap/edge"].(*corev1.ConfigMap).Data["neighborhood.host"]
	if s, ok := all["Service/"+host].(*corev1.Service); !ok || s.Spec.ClusterIP != corev1.ClusterIPNone || !s.Spec.PublishNotReadyAddresses || s.Spec.Ports[0].Port != 8080 {
		t.Errorf("neighborhood.host is %s, which is no Service that leads to every instance at 8080", host)
	}
}

// TestTheBackupsKeyIsASecret fails unless the key that seals the backup comes by a
// Secret: who reads the volume of the backup has not the key.
func TestTheBackupsKeyIsASecret(t *testing.T) {
	all := decode(t)
	file := all["ConfigMap/edge"].(*corev1.ConfigMap).Data["config.backup.key"]
	pod := all["Deployment/edge"].(*appsv1.Deployment).Spec.Template.Spec
	var volume string
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.MountPath == filepath.Dir(file) && m.ReadOnly {
			volume = m.Name
		}
	}
	for _, v := range pod.Volumes {
		if v.Name != volume {
			continue
		}
		if v.Secret == nil {
			t.Fatalf("%s is from %+v, which is no Secret", file, v.VolumeSource)
		}
		s, ok := all["Secret/"+v.Secret.SecretName].(*corev1.Secret)
		if !ok {
			t.Fatalf("there is no Secret/%s", v.Secret.SecretName)
		}
		if _, ok := s.StringData[filepath.Base(file)]; !ok || len(s.StringData) != 1 {
			t.Errorf("Secret/%s has %v, and the key is looked for at %s", s.Name, s.StringData, file)
		}
		// The group that the process has, which fsGroup gives the files to, reads it.
		if v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440 {
			t.Errorf("Secret/%s is mounted with mode %v", s.Name, v.Secret.DefaultMode)
		}
		return
	}
	t.Errorf("config.backup.key is %q, where no Secret is mounted", file)
}

// TestTheUnitIsWhatSystemdTakes asks systemd where there is one.
func TestTheUnitIsWhatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	unit, err := os.ReadFile("../systemd/postern-gateway.service")
	if err != nil {
		t.Fatal(err)
	}
	// The binary is not installed here.
	name := filepath.Join(t.TempDir(), "postern-gateway.service")
	if err := os.WriteFile(name, bytes.Replace(unit, []byte("/usr/local/bin/postern-gateway"), []byte("/bin/true"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", name).CombinedOutput()
	var said []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, filepath.Base(name)) { // the rest is of the machine's own units
			said = append(said, line)
		}
	}
	if len(said) > 0 {
		t.Errorf("systemd-analyze says %v: %v", said, err)
	}
}
