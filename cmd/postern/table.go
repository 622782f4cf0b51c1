// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

// details are the columns of a table of one kind beside those that every kind
// has, by their headings.
var details = map[model.Kind][]string{
	model.KindNetwork:       {"CIDRS"},
	model.KindSubnet:        {"NETWORK", "CIDR"},
	model.KindSecurityGroup: {"NETWORK", "RULES", "GRANTED"},
	model.KindHost:          {"SUBNET"},
	model.KindLink:          {"NETWORK", "PREFIXES"},
	model.KindPeering:       {"NETWORKS"},
	model.KindGateway:       {"REGION", "PUBLIC"},
	model.KindEndpoint:      {"GATEWAY"},
	model.KindAuthorization: {"GATEWAY", "GROUP", "PORTS"},
	model.KindBackend:       {"TARGETS"},
	model.KindAPI:           {"GATEWAY", "TYPE"},
	model.KindDeployment:    {"API"},
	model.KindStage:         {"API"},
	model.KindDomain:        {"TYPE", "MAPS"},
	model.KindSelfHosted:    {"GATEWAY", "APIS", "INSTANCES", "VERSION", "REVISION", "AGE", "SEEN", "ERROR"},
	model.KindProduct:       {"APIS", "RATE", "QUOTA"},
	model.KindSubscription:  {"PRODUCT", "CONSUMER", "KEYS"},
	model.KindZone:          {"NETWORKS", "DOMAIN", "RECORDS"},
}

// detail is what a resource has in the columns of its kind.
func detail(o model.Object) []string {
	switch o := o.(type) {
	case *model.Network:
		return []string{strings.Join(o.Spec.CIDRs, ",")}
	case *model.Subnet:
		return []string{o.Spec.Network, o.Spec.CIDR}
	case *model.SecurityGroup:
		return []string{o.Spec.Network, strconv.Itoa(len(o.Spec.Rules)), strconv.Itoa(len(o.Status.GrantedRules))}
	case *model.Host:
		return []string{o.Spec.Subnet}
	case *model.Link:
		return []string{o.Spec.Network, strings.Join(o.Spec.CIDRs, ",")}
	case *model.Peering:
		return []string{strings.Join(o.Spec.Networks, ",")}
	case *model.Gateway:
		public := ""
		if o.Spec.Subnet != "" { // its ADDRESS is the private one
			public = o.Status.PublicAddress
		}
		return []string{o.Spec.Region, public}
	case *model.Endpoint:
		return []string{o.Spec.Gateway}
	case *model.SecurityGroupAuthorization:
		return []string{o.Spec.Gateway, o.Spec.SecurityGroup, strings.Join(o.Spec.Ports, ",")}
	case *model.Backend:
		return []string{strconv.Itoa(len(o.Spec.Targets))}
	case *model.API:
		return []string{o.Spec.Gateway, o.Spec.Type}
	case *model.Deployment:
		return []string{o.Spec.API}
	case *model.Stage:
		return []string{model.APIName(o.Metadata.Name)}
	case *model.Domain:
		var maps []string
		for _, m := range o.Spec.Mappings {
			maps = append(maps, "/"+strings.TrimPrefix(m.Path, "/")+"="+m.API+"."+m.Stage)
		}
		return []string{o.Spec.Type, strings.Join(maps, ",")}
	case *model.Zone:
		return []string{strings.Join(o.Spec.Networks, ","), o.Spec.Domain, strconv.Itoa(len(o.Spec.Records))}
	case *model.SelfHostedGateway:
		return selfHosted(o)
	case *model.Product:
		rate, quota := "", ""
		if t := o.Spec.Throttle; t != nil {
			rate = strconv.FormatFloat(t.Rate, 'f', -1, 64) + "/s"
		}
		if q := o.Spec.Quota; q != nil {
			quota = strconv.Itoa(q.Limit) + "/" + q.Period
		}
		return []string{strings.Join(o.Spec.APIs, ","), rate, quota}
	case *model.Subscription:
		return []string{o.Spec.Product, o.Spec.Consumer, strconv.Itoa(len(o.Status.Keys))}
	}
	return nil
}

// tabulate writes a table of resources: of one kind with its own columns, of
// several with what they have in common.
func (a *app) tabulate(rs []wire.Resource) error {
	if len(rs) == 0 {
		return nil
	}
	kinds := map[model.Kind]bool{}
	for _, r := range rs {
		kinds[r.Kind] = true
	}
	var more []string
	if len(kinds) == 1 {
		more = details[rs[0].Kind]
	}
	rows := make([][]string, len(rs))
	for i, r := range rs {
		name := r.Metadata.Name
		if len(kinds) > 1 {
			name = r.Ref().String()
		}
		own := make([]string, len(more))
		if len(more) > 0 {
			o, err := object(r)
			if err != nil {
				return err
			}
			copy(own, detail(o))
		}
		ready, why := readiness(r.Status)
		row := append([]string{name, ready, r.Status.ID}, own...)
		rows[i] = append(row, r.Status.Host, strings.Join(r.Status.Addresses, ","), r.Status.Connection, deployment(r), labels(r.Metadata.Labels), why)
	}
	head := append([]string{"NAME", "READY", "ID"}, more...)
	return a.columns(append(head, "HOST", "ADDRESS", "CONNECTION", "DEPLOYMENT", "LABELS", "REASON"), rows)
}
