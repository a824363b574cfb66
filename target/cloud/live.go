package cloud

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/target"
)

// errStop ends a listing early.
var errStop = errors.New("enough")

// Leases lists the leases that have a principal, or something that one left.
func (p *Principals) Leases(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := map[string]bool{}
		err := p.accounts.List(ctx, func(lease string, s Shell) error {
			if s.State != Live || seen[lease] {
				return nil
			}
			seen[lease] = true
			if !yield(lease, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield("", fmt.Errorf("list the leases on %s: %w", p.accounts.Kind(), err))
		}
	}
}

// Expiry returns when the cloud itself ends what a lease has; zero where it has nothing.
func (p *Principals) Expiry(ctx context.Context, lease string) (until time.Time, err error) {
	if err := target.CheckLease(lease); err != nil {
		return until, err
	}
	shell, err := p.accounts.Look(ctx, lease)
	if err != nil {
		return until, fmt.Errorf("read the expiry of lease %s on %s: %w", lease, p.accounts.Kind(), err)
	}
	if shell.State == Live {
		until = readNote(shell.Note).until
	}
	return until, nil
}

// Clean takes old tombs away, and what is left of principals that are gone.
func (p *Principals) Clean(ctx context.Context) (target.Residue, error) {
	var old, undated []string
	err := p.accounts.List(ctx, func(lease string, s Shell) error {
		switch ended := readNote(s.Note).ended; {
		case s.State != Ended:
		case ended.IsZero():
			undated = append(undated, lease)
		case p.cfg.Now().Sub(ended) > p.terms.Keep+p.terms.Settle:
			old = append(old, lease)
		}
		return nil
	})
	for _, lease := range undated {
		if err == nil {
			err = p.date(ctx, lease)
		}
	}
	for _, lease := range old {
		if err == nil {
			err = p.accounts.Strip(ctx, lease, nil)
		}
		if err == nil {
			err = p.accounts.Destroy(ctx, lease)
		}
	}
	if err == nil {
		err = p.accounts.Sweep(ctx)
	}
	if err != nil {
		return target.Residue{}, fmt.Errorf("clean %s: %w", p.accounts.Kind(), err)
	}
	return target.Residue{}, nil
}

// date notes that a principal ended now which does not say when it did: a revocation is under way or was cut off before its
// note, or somebody ended it by hand. It is as old as its note.
func (p *Principals) date(ctx context.Context, lease string) error {
	shell, err := p.accounts.Look(ctx, lease)
	n := readNote(shell.Note)
	if err != nil || shell.State != Ended || !n.ended.IsZero() {
		return err
	}
	n.ended = p.stamp()
	return Absent(p.accounts.Note(ctx, lease, n.String()))
}

// Mark keeps the mark on a principal that may do nothing. Neither cloud compares and writes in one act: of two servers that
// come at once the last stays.
func (p *Principals) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	seen, err := p.mark(ctx, m)
	if err != nil {
		return target.Mark{}, fmt.Errorf("mark %s: %w", p.accounts.Kind(), err)
	}
	return seen, nil
}

func (p *Principals) mark(ctx context.Context, m target.Mark) (seen target.Mark, err error) {
	text, err := p.accounts.Mark(ctx)
	if err != nil {
		return seen, err
	}
	if text == "" && p.cfg.Known {
		return seen, p.elsewhere()
	}
	if text == "" {
		first, err := p.accounts.SetMark(ctx, markText(m), true)
		if err != nil || first {
			return seen, err
		}
		// There is one, which was not shown.
		err = Eventually(ctx, func() (bool, error) {
			text, err = p.accounts.Mark(ctx)
			return text != "", err
		})
		if err != nil {
			return seen, err
		}
	}
	if seen, err = readMark(text); err != nil {
		return seen, err
	}
	if seen.Instance == m.Instance && seen.Target == m.Target && seen != m && !seen.After(m) {
		_, err = p.accounts.SetMark(ctx, markText(m), false)
	}
	return seen, err
}

// meet makes sure, once, that this is the place where what may live was made: one that has our mark. Which of our targets left
// it does not matter, since two of them may share a project or a directory.
func (p *Principals) meet(ctx context.Context) error {
	if !p.cfg.Known || p.met.Load() {
		return nil
	}
	text, err := p.accounts.Mark(ctx)
	if err == nil && text == "" {
		err = p.elsewhere()
	}
	if err != nil {
		return err
	}
	if seen, err := readMark(text); err != nil || seen.Instance != p.cfg.Instance {
		return errors.Join(p.elsewhere(), err)
	}
	p.met.Store(true)
	return nil
}

func (p *Principals) elsewhere() error {
	return target.NotDone(fmt.Errorf("%s lacks our mark there: it is not the place where this target's leases live, so write the settings as they were", p.accounts.Kind()))
}

func markText(m target.Mark) string {
	return fmt.Sprintf("instance=%s target=%s boot=%d epoch=%d", m.Instance, m.Target, m.Boot, m.Epoch)
}

func readMark(text string) (m target.Mark, err error) {
	words := map[string]string{}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		words[key] = value
	}
	m.Instance, m.Target = words["instance"], words["target"]
	var boot, epoch error
	m.Boot, boot = strconv.ParseInt(words["boot"], 10, 64)
	m.Epoch, epoch = strconv.ParseInt(words["epoch"], 10, 64)
	if boot != nil || epoch != nil || m.Instance == "" || m.Target == "" {
		return target.Mark{}, errors.New("the mark is not as we write it")
	}
	return m, nil
}
