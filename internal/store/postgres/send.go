package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/daypass/daypass/internal/store"
)

// Send puts the statements into one pipeline: the server works through it while the rest is under way.
func (d *dialect) Send(ctx context.Context, conn *sql.Conn, statements []store.Statement,
	exec func(context.Context, string, ...any) (sql.Result, error)) (counts []int64, err error) {
	wrapped := false
	rawErr := conn.Raw(func(raw any) error {
		c, ok := raw.(*stdlib.Conn)
		if !ok {
			wrapped = true // a test stands between us
			return nil
		}
		counts, err = pipeline(ctx, c.Conn(), statements)
		return nil // a broken connection shows at its next use
	})
	if wrapped {
		return store.OneByOne(ctx, statements, exec)
	}
	if err == nil {
		err = rawErr
	}
	return counts, err
}

func pipeline(ctx context.Context, c *pgx.Conn, statements []store.Statement) (counts []int64, err error) {
	var batch pgx.Batch
	for _, s := range statements {
		args := make([]any, len(s.Args))
		for i, arg := range s.Args {
			// As database/sql does it, so that both ways write the same.
			if args[i], err = driver.DefaultParameterConverter.ConvertValue(arg); err != nil {
				return nil, err
			}
		}
		batch.Queue(s.Text, args...)
	}
	results := c.SendBatch(ctx, &batch)
	for range statements {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close() // it says the same again
			return nil, err
		}
		counts = append(counts, tag.RowsAffected())
	}
	return counts, results.Close()
}
