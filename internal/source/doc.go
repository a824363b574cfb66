// Package source owns text that people write: places in it, mistakes in it and how they are shown, and strict
// YAML.
//
// It promises to find all mistakes of a file at once, to show each with its line and with what to do, and to
// refuse what YAML readers quietly accept: unknown fields, repeated keys, anchors and aliases, tags, numbers that
// change when they are read (`010`), values of another type. Values of secrets never stand in an excerpt.
//
// It does no I/O, knows nothing of what the files mean, and must not import any package of ours.
package source
