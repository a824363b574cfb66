package main

import (
	"fmt"
	"io"
	"strings"
)

// printer writes what the audience reads.
type printer struct {
	out    io.Writer
	colors bool
	claims int // how many were checked and held
}

// paint colours text on terminals.
func (p *printer) paint(code, text string) string {
	if !p.colors {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) title(text string) { fmt.Fprintf(p.out, "\n%s\n", p.paint("1", text)) }

// step opens a step: its number, what happens, and why.
func (p *printer) step(number int, title, why string) {
	fmt.Fprintf(p.out, "\n%s  %s\n", p.paint("1;36", fmt.Sprintf("%2d", number)), p.paint("1", title))
	for line := range strings.Lines(why) {
		fmt.Fprintf(p.out, "    %s\n", p.paint("2", strings.TrimSpace(line)))
	}
}

// command shows what is typed.
func (p *printer) command(text string) { fmt.Fprintf(p.out, "    %s %s\n", p.paint("36", "$"), text) }

// output shows what a command printed.
func (p *printer) output(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(p.out, "    %s %s\n", p.paint("2", "│"), strings.TrimRight(line, "\n"))
	}
}

// claim says what was checked and held.
func (p *printer) claim(format string, args ...any) {
	p.claims++
	fmt.Fprintf(p.out, "    %s %s\n", p.paint("32", "✓"), fmt.Sprintf(format, args...))
}

func (p *printer) end(format string, args ...any) {
	fmt.Fprintf(p.out, "\n%s\n\n", p.paint("1;32", fmt.Sprintf(format, args...)))
}
