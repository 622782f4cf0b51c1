// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package answer

// Matrix tells which component of a Gateway is reached from where.
type Matrix struct {
	Gateway string `json:"gateway"`
	// Mode is the Gateway's networkMode.
	Mode string `json:"mode"`
	// Outbound is the Subnet of its outbound integration, if any, and Endpoints
	// are the states of its Endpoints by their names.
	Outbound  string            `json:"outbound,omitempty"`
	Endpoints map[string]string `json:"endpoints,omitempty"`
	Revision  int64             `json:"revision"`
	// Sources are who was asked about, as questions name them.
	Sources []string    `json:"sources"`
	Rows    []MatrixRow `json:"rows"`
	// Omitted counts the callers that were not asked about.
	Omitted     int      `json:"omitted,omitempty"`
	Assumptions []string `json:"assumptions,omitempty"`
}

// MatrixRow is one component at one port.
type MatrixRow struct {
	Component string `json:"component"`
	Port      int    `json:"port"`
	// URL is what every source was asked about.
	URL string `json:"url"`
	// Cells are in the order of the Sources.
	Cells []MatrixCell `json:"cells"`
}

// MatrixCell is what becomes of one source's request, in short: what explain
// answers to the same question.
type MatrixCell struct {
	// ConnectTo is the private address that the caller has to be told because
	// the name does not lead there; the cell is about a request to it.
	ConnectTo string  `json:"connectTo,omitempty"`
	Verdict   Verdict `json:"verdict"`
	Code      string  `json:"code"`
	// By is the component that decided.
	By      string  `json:"by"`
	Symptom Symptom `json:"symptom"`
	Reason  string  `json:"reason"`
}
