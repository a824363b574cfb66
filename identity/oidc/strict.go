package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// What JSON of strangers may hold.
const (
	maxDepth  = 16
	maxNumber = 64 // characters
)

// parseObject reads one JSON object (RFC 8259) that every parser reads alike: no name twice, UTF-8 only, no
// lone surrogates, nothing after it, bounded nesting and numbers. Whole numbers are int64, others json.Number.
// It has room for some members.
func parseObject(text []byte, members int) (map[string]any, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(text))
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	if token.Kind() != '{' {
		return nil, errors.New("not an object")
	}
	object, err := parseMembers(dec, members)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return object, nil
}

func parseValue(dec *jsontext.Decoder) (any, error) {
	if dec.StackDepth() >= maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return parseMembers(dec, 0)
	case '[':
		return parseElements(dec)
	case '"':
		return token.String(), nil
	case '0':
		return parseNumber(token.String())
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil // null
}

func parseMembers(dec *jsontext.Decoder, members int) (map[string]any, error) {
	object := make(map[string]any, members)
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if token.Kind() == '}' {
			return object, nil
		}
		name := token.String()
		if object[name], err = parseValue(dec); err != nil {
			return nil, err
		}
	}
}

func parseElements(dec *jsontext.Decoder) ([]any, error) {
	list := []any{}
	for dec.PeekKind() != ']' {
		element, err := parseValue(dec)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	_, err := dec.ReadToken()
	return list, err
}

// parseNumber refuses numbers that no float64 holds: "1e999999999" makes some readers work for hours.
func parseNumber(text string) (any, error) {
	if len(text) > maxNumber {
		return nil, fmt.Errorf("a number of more than %d characters", maxNumber)
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
		return whole, nil
	}
	if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) {
		return nil, errors.New("a number out of range")
	}
	return json.Number(text), nil
}
