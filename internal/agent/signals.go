package agent

import (
	"os"
	"os/signal"
	"syscall"
)

// signals are what we are told to do. They are caught from before the first lease until after the last release.
type signals struct {
	in chan os.Signal
}

// listen catches the signals that end or instruct a command. One that was ignored when we started, as under
// nohup(1), stays ignored, for us and for the command.
func listen() *signals {
	s := &signals{in: make(chan os.Signal, 8)}
	for _, one := range caught() {
		if !signal.Ignored(one) {
			signal.Notify(s.in, one)
		}
	}
	return s
}

// stop gives the signals back.
func (s *signals) stop() { signal.Stop(s.in) }

// isEnding reports whether a signal asks us to stop while there is no command yet.
func isEnding(s os.Signal) bool {
	switch s {
	case os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

// number is a signal's number.
func number(s os.Signal) syscall.Signal {
	n, _ := s.(syscall.Signal)
	return n
}
