package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one that we started. It has a process group of its own, so that an interrupt typed at the terminal
// reaches only us, and we end it in order.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended

	mu     sync.Mutex // guards the fields below
	lines  []string   // of standard output
	errors bytes.Buffer
	news   chan struct{} // closed and replaced at each line
}

// start runs a program and reads its output line by line.
func start(program string, args, env []string) (*process, error) {
	p := &process{name: filepath.Base(program), cmd: exec.Command(program, args...), done: make(chan struct{}), news: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.SysProcAttr = attributes()
	p.cmd.Stderr = lockedWriter{p}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The signal at our death follows the thread that forked, so that thread stays until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.read(stdout)
		_ = p.cmd.Wait() // the state is read from ProcessState
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return p, nil
}

func (p *process) read(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
}

// lockedWriter collects standard error.
type lockedWriter struct{ p *process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.errors.Write(b)
}

// stderr returns what it wrote to standard error so far.
func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors.String()
}

// stdout returns what it wrote to standard output so far.
func (p *process) stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// line waits until the process has printed a line that begins with prefix, and returns the rest of it.
func (p *process) line(ctx context.Context, prefix string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ended := isClosed(p.done)
		p.mu.Lock()
		for _, line := range p.lines {
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				p.mu.Unlock()
				return rest, nil
			}
		}
		news := p.news
		p.mu.Unlock()
		if ended {
			return "", fmt.Errorf("%s ended before it printed %q:\n%s%s", p.name, prefix, p.stdout(), p.stderr())
		}
		select {
		case <-news:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not print %q: %w\n%s", p.name, prefix, ctx.Err(), p.stderr())
		}
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wait waits for the end of the process and returns its exit code.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// stop ends the process and its children: by request, and by force when it takes too long.
func (p *process) stop(signal syscall.Signal) error {
	_ = p.stdin.Close()
	if isClosed(p.done) {
		return nil
	}
	group := -p.cmd.Process.Pid
	if err := syscall.Kill(group, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("%s did not stop in 10 s and was killed", p.name)
}

// end stops a process whose fate no longer matters: what it was to show has been seen, or has failed.
func (p *process) end() { _ = p.stop(syscall.SIGTERM) }
