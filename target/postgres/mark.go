package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target"
)

// markText is a mark as the comment of the mark's role holds it.
type markText struct {
	Instance string `json:"instance"`
	Target   string `json:"target"`
	Boot     int64  `json:"boot"`
	Epoch    int64  `json:"epoch"`
}

// readMark returns the mark of this server and database, zero where there is none.
func (p *Postgres) readMark(ctx context.Context, c *conn) (target.Mark, error) {
	var text *string
	err := c.QueryRow(ctx, "select shobj_description(oid, 'pg_authid') from pg_roles where rolname = $1", p.markName()).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && text == nil {
		return target.Mark{}, nil
	}
	if err != nil {
		return target.Mark{}, fmt.Errorf("read the mark: %w", err)
	}
	var mark markText
	if err := json.Unmarshal([]byte(*text), &mark); err != nil {
		return target.Mark{}, fmt.Errorf("the comment on role %s is not a mark: %w", p.markName(), errElsewhere)
	}
	return target.Mark(mark), nil
}

func (p *Postgres) markName() string { return p.names.mark(p.place.database) }

// writeMark leaves mark at the server.
func (p *Postgres) writeMark(ctx context.Context, c *conn, mark target.Mark) error {
	text, err := json.Marshal(markText(mark))
	if err != nil {
		return err
	}
	var exists bool
	err = c.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", p.markName()).Scan(&exists)
	if err != nil {
		return err
	}
	script := fmt.Sprintf("comment on role %s is %s", quote(p.markName()), literal(string(text)))
	if !exists {
		script = fmt.Sprintf("create role %s nologin; ", quote(p.markName())) + script
	}
	if err := c.script(ctx, script); err != nil {
		return fmt.Errorf("leave the mark: %w", err)
	}
	return nil
}

// meet makes sure, once for each connection of the boss, that this server is the one we mean. The token is held.
func (p *Postgres) meet(ctx context.Context) error {
	b := &p.boss
	if b.met {
		return nil
	}
	seen, err := p.readMark(ctx, b.conn)
	if err != nil {
		return err
	}
	switch {
	case seen == target.Mark{} && b.known:
		return fmt.Errorf("%s lacks our mark: it is not the server that this target was: %w: %w", p.place.title(), errElsewhere, target.ErrNotDone)
	case seen != target.Mark{} && (seen.Instance != b.mark.Instance || seen.Target != b.mark.Target):
		return fmt.Errorf("%s bears the mark of target %q: %w: %w", p.place.title(), seen.Target, errElsewhere, target.ErrNotDone)
	case seen.After(b.mark) && p.cfg.Peers != nil && seen.Epoch == b.mark.Epoch:
		// Another server of our store began after us, which is nothing strange.
	case seen.After(b.mark):
		// What that means for leases is the caller's to decide, by Mark.
		p.log.WarnContext(ctx, "a later boot or epoch has been at this target", "target", p.place.title(), "boot", seen.Boot, "epoch", seen.Epoch)
	case seen != b.mark:
		if err := p.writeMark(ctx, b.conn, b.mark); err != nil {
			return err
		}
	}
	b.met, b.known = true, true
	return nil
}

// Mark returns the mark found at the server and replaces it by m, unless the one found is of another target or of
// a later boot or epoch. Calling it at a server without a mark adopts that server, also when the target was known
// elsewhere before: it is the operator's word.
func (p *Postgres) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	var seen target.Mark
	err := p.controlled(ctx, true, func(ctx context.Context, c *conn) error {
		var err error
		if seen, err = p.readMark(ctx, c); err != nil {
			return err
		}
		stranger := seen != target.Mark{} && (seen.Instance != m.Instance || seen.Target != m.Target)
		if stranger || seen.After(m) {
			return nil
		}
		if err := p.writeMark(ctx, c, m); err != nil {
			return err
		}
		if b := &p.boss; m.Instance == b.mark.Instance && m.Target == b.mark.Target {
			b.mark, b.known, b.met = m, true, true
		}
		return nil
	})
	if err != nil {
		return target.Mark{}, fmt.Errorf("mark %s: %w", p.place.title(), err)
	}
	return seen, nil
}
