package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// load takes up the access revision that was active, then what the access directory holds. A revision that does
// not work any more keeps nobody from administering: the server runs, is not ready, and says why.
func (s *Server) load(ctx context.Context) error {
	if err := s.guard.Load(ctx); err != nil {
		if fault.Is(err, fault.StoreUnavailable) {
			return err
		}
		s.log.Error("the active access revision cannot be served: apply one that can", "err", err)
	}
	err := s.readAccess(ctx)
	if err == nil || s.guard.View() != nil {
		if err != nil {
			s.log.Error("the access directory was not activated; the revision that was active serves on", "err", err)
		}
		return nil
	}
	return fmt.Errorf("activate the access directory %s: %w", s.cfg.Access, err)
}

// Reload reads certificates, secrets and the access directory again. What is bad is logged and changes nothing.
func (s *Server) Reload(ctx context.Context) {
	s.log.Info("reading certificates, secrets and the access directory again")
	s.readCertificate(true)
	s.readLocation(true)
	if err := s.readAccess(ctx); err != nil {
		s.log.Error("the access directory was not activated", "err", err)
	}
	s.redeploy(ctx)
}

// redeploy makes the targets of the active revision again whose secrets have changed or could not be read.
func (s *Server) redeploy(ctx context.Context) {
	if err := s.guard.Redeploy(ctx); err != nil {
		s.log.Error("bring the targets up to date", "err", err)
	}
}

func (s *Server) readCertificate(always bool) {
	if s.certificate == nil {
		return
	}
	changed, err := s.certificate.reload(always)
	switch {
	case err != nil:
		s.log.Error("the new certificate is bad; the old one stays", "err", err)
	case changed:
		s.log.Info("the certificate was read again")
	}
}

// readAccess activates the access directory when what it holds was never active before.
func (s *Server) readAccess(ctx context.Context) error {
	if s.cfg.Access == "" {
		return nil
	}
	files, err := readFiles(s.cfg.Access)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return nil
	}
	revision := access.Hash(files)
	var was bool
	err = s.store.View(ctx, func(tx *store.Tx) (err error) {
		was, err = tx.WasActive(revision)
		return err
	})
	if err != nil {
		return err
	}
	if was {
		if view := s.guard.View(); view == nil || view.Revision != revision {
			s.log.Warn("the access directory holds a revision that was active before and is not now; activate it by hand if it should be",
				"revision", revision)
		}
		return nil
	}
	_, err = s.guard.Apply(ctx, admission.Caller{Local: true, UID: uint32(os.Geteuid())}, files, "")
	return err
}

// readFiles reads the access files below a directory. Links that lead out of it are not followed; files with other
// endings and those whose names begin with a dot are not read.
func readFiles(dir string) (access.Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the access directory: %w", err)
	}
	defer root.Close()
	files, total := access.Files{}, 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := strings.HasPrefix(entry.Name(), ".") && name != "."; hidden && entry.IsDir() {
			return fs.SkipDir
		} else if hidden || entry.IsDir() || path.Ext(name) != ".yaml" && path.Ext(name) != ".cedar" {
			return nil
		}
		text, err := fs.ReadFile(root.FS(), name)
		if err != nil {
			return err
		}
		files[name] = string(text)
		if total += len(text); total > 16<<20 {
			return errors.New("there are more than 16 MiB of access files")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the access directory: %w", err)
	}
	return files, nil
}

// keepHouse does what has to be done from time to time, until ctx ends.
func (s *Server) keepHouse(ctx context.Context) error {
	var retaining sync.WaitGroup
	defer retaining.Wait()
	retaining.Go(func() { s.retain(ctx) })
	tidy, look := time.NewTicker(30*time.Second), time.NewTicker(lookEvery)
	defer tidy.Stop()
	defer look.Stop()
	healths := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.options.Reload: // nil where there is none: it never comes
			s.Reload(ctx)
		case <-look.C:
			s.readCertificate(false)
			s.readLocation(false)
		case <-tidy.C:
			if len(s.deployment.Faults()) > 0 {
				s.redeploy(ctx)
			}
			if err := s.deployment.Tidy(ctx); err != nil {
				s.log.Error("tidy up the targets", "err", err)
			}
			healths = s.tellHealth(ctx, healths)
		}
	}
}

// tellHealth logs what got better or worse since the last look, and returns how it is now.
func (s *Server) tellHealth(ctx context.Context, before map[string]string) map[string]string {
	status, err := s.Status(ctx)
	if err != nil {
		s.log.Error("read the status", "err", err)
		return before
	}
	now := map[string]string{}
	tell := func(what, name, health, text string) {
		key := what + " " + name
		now[key] = health
		switch was := before[key]; {
		case health == was:
		case health == healthFailing:
			s.log.Warn("it fails: "+what, what, name, "err", text)
		case was == healthFailing:
			s.log.Info("it works again: "+what, what, name)
		}
	}
	for _, t := range status.Targets {
		tell("target", t.Name, t.Health, t.Error)
	}
	for _, i := range status.Issuers {
		tell("issuer", i.Name, i.Health, i.Error)
	}
	return now
}

// retain deletes what retention lets go: soon after the start, so that a server which is often started anew does it
// too, and then every hour.
func (s *Server) retain(ctx context.Context) {
	const first, every = time.Minute, time.Hour
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-timer.C:
			gone, err := s.store.Retain(ctx, now.Add(-time.Duration(s.cfg.Retention.Leases)), now.Add(-max(time.Duration(s.cfg.Retention.Decisions), s.longestLife())))
			if err == nil {
				err = s.retainPosture(ctx, now)
			}
			if err != nil && ctx.Err() == nil {
				s.log.Error("delete what retention lets go", "err", err)
			}
			if gone != (store.Pruned{}) {
				s.log.Info("deleted what retention lets go", "leases", gone.Leases, "decisions", gone.Decisions)
			}
			timer.Reset(every)
		}
	}
}

// retainPosture deletes what nobody has reported for long, and notes of leases that have ended.
func (s *Server) retainPosture(ctx context.Context, now time.Time) error {
	const page, unheard = 500, 30 * 24 * time.Hour // longer than any source is believed
	for gone := page; gone == page; {
		err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
			gone, err = tx.ForgetPosture(now.Add(-unheard), page)
			return err
		})
		if err != nil {
			return err
		}
	}
	for from, more := []string(nil), true; more; more = from != nil {
		err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
			from, err = tx.PrunePosture(from, page)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// longestLife is how long a lease of the active revision can live. Its decision is kept as long: a review needs it.
func (s *Server) longestLife() (longest time.Duration) {
	if view := s.guard.View(); view != nil {
		for _, role := range view.Access.Roles {
			longest = max(longest, role.TTL.Max)
		}
	}
	return longest
}
