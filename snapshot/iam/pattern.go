// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

// Pattern is text with wildcards and variables in it, cut into tokens.
type Pattern struct {
	// Text is the pattern as written.
	Text string
	// Tokens match one after the other.
	Tokens []Token
}

// TokenKind says what a token matches.
type TokenKind uint8

// The kinds of token.
const (
	TokenLiteral  TokenKind = iota // exactly Text
	TokenOne                       // ? : any one character
	TokenMany                      // * : any run of characters, the empty one included
	TokenVariable                  // ${key} : exactly the value of a condition key of the request
)

// Token is one piece of a Pattern.
type Token struct {
	Kind TokenKind
	Text string
	// Key is the condition key that a variable reads.
	Key Key
	// Default stands in for a variable whose key is missing, if HasDefault.
	Default    string
	HasDefault bool
}
