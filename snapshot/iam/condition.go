// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"net/netip"
	"time"
)

// Condition is one operator over one key, with the values to compare with.
type Condition struct {
	// Path is where the key stands in the document, as
	// "Statement[1].Condition.IpAddress.aws:SourceIp".
	Path     string
	Operator Operator
	Key      Key
	// Text holds the values as written.
	Text []string

	// One of these is filled, by the family of the operator.
	Patterns []Pattern      // String and Bool
	ARNs     []ARNPattern   // ARN
	Numbers  []float64      // Numeric
	Times    []time.Time    // Date
	Binaries [][]byte       // Binary
	Prefixes []netip.Prefix // IP
	// Null values: WantAbsent when "true" is listed, WantPresent when "false" is.
	WantAbsent, WantPresent bool
}

// ARNPattern is one value of an ARN operator.
type ARNPattern struct {
	// Whole marks a value that is a single variable: its value must equal the
	// request's ARN from end to end. Parts[0] holds it.
	Whole bool
	Parts [ARNParts]Pattern
}

// Family groups the operators that read their values in the same way.
type Family uint8

// The families of condition operators.
const (
	FamilyString Family = iota
	FamilyNumeric
	FamilyDate
	FamilyBool
	FamilyBinary
	FamilyIP
	FamilyARN
	FamilyNull
)

// Test is the comparison that an operator makes, before any negation.
type Test uint8

// The comparisons.
const (
	TestEqual Test = iota
	TestEqualFold
	TestLike
	TestLess
	TestLessEqual
	TestGreater
	TestGreaterEqual
)

// Set says how an operator treats a key of many values.
type Set uint8

// The set qualifiers.
const (
	SetNone Set = iota
	SetForAll
	SetForAny
)

// Operator is a condition operator taken apart.
type Operator struct {
	// Name is the operator as written, prefix and suffix included.
	Name   string
	Family Family
	Test   Test
	// Negated operators hold when no value matches, and for a missing key.
	Negated  bool
	IfExists bool
	Set      Set
}

// operators holds each base operator.
var operators = []Operator{
	{Name: "StringEquals", Family: FamilyString, Test: TestEqual},
	{Name: "StringNotEquals", Family: FamilyString, Test: TestEqual, Negated: true},
	{Name: "StringEqualsIgnoreCase", Family: FamilyString, Test: TestEqualFold},
	{Name: "StringNotEqualsIgnoreCase", Family: FamilyString, Test: TestEqualFold, Negated: true},
	{Name: "StringLike", Family: FamilyString, Test: TestLike},
	{Name: "StringNotLike", Family: FamilyString, Test: TestLike, Negated: true},
	{Name: "NumericEquals", Family: FamilyNumeric, Test: TestEqual},
	{Name: "NumericNotEquals", Family: FamilyNumeric, Test: TestEqual, Negated: true},
	{Name: "NumericLessThan", Family: FamilyNumeric, Test: TestLess},
	{Name: "NumericLessThanEquals", Family: FamilyNumeric, Test: TestLessEqual},
	{Name: "NumericGreaterThan", Family: FamilyNumeric, Test: TestGreater},
	{Name: "NumericGreaterThanEquals", Family: FamilyNumeric, Test: TestGreaterEqual},
	{Name: "DateEquals", Family: FamilyDate, Test: TestEqual},
	{Name: "DateNotEquals", Family: FamilyDate, Test: TestEqual, Negated: true},
	{Name: "DateLessThan", Family: FamilyDate, Test: TestLess},
	{Name: "DateLessThanEquals", Family: FamilyDate, Test: TestLessEqual},
	{Name: "DateGreaterThan", Family: FamilyDate, Test: TestGreater},
	{Name: "DateGreaterThanEquals", Family: FamilyDate, Test: TestGreaterEqual},
	{Name: "Bool", Family: FamilyBool, Test: TestEqual},
	{Name: "BinaryEquals", Family: FamilyBinary, Test: TestEqual},
	{Name: "IpAddress", Family: FamilyIP, Test: TestEqual},
	{Name: "NotIpAddress", Family: FamilyIP, Test: TestEqual, Negated: true},
	{Name: "ArnEquals", Family: FamilyARN, Test: TestLike},
	{Name: "ArnLike", Family: FamilyARN, Test: TestLike},
	{Name: "ArnNotEquals", Family: FamilyARN, Test: TestLike, Negated: true},
	{Name: "ArnNotLike", Family: FamilyARN, Test: TestLike, Negated: true},
	{Name: "Null", Family: FamilyNull},
}

// Operators returns every base operator, without prefix or suffix.
func Operators() []Operator { return append([]Operator(nil), operators...) }

// BaseOperator returns the operator of that exact name, without prefix or suffix.
func BaseOperator(name string) (Operator, bool) {
	for _, o := range operators {
		if o.Name == name {
			return o, true
		}
	}
	return Operator{}, false
}
