package store

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

// instanceLength is the number of characters of an instance's name: short, since it is in every name at a target.
const instanceLength = 6

// Create makes the schema of a new store, its instance, and the first entry of its ledger, ledger.opened. The
// database must be empty. It leaves the dialect open.
func Create(ctx context.Context, d Dialect, opt Options) error {
	if opt.Signer == nil {
		return errors.New("create the store: no ledger key")
	}
	s := newStore(d, opt)
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("create the store: %w", err)
	}
	defer s.writer.session.close()
	return s.once(func(tx *Tx) error {
		if _, err := tx.write(`insert into ledger_head (id, size, checkpoint) values (1, 0, '')`); err != nil {
			return failed("create the store", err)
		}
		for name, value := range map[string]string{
			metaInstance: randomText(instanceLength),
			metaKey:      s.Signer().VerifierKey(),
			metaBoot:     "0",
			metaEpoch:    "1",
		} {
			if err := tx.setMeta(name, value); err != nil {
				return err
			}
		}
		for name, ciphertext := range opt.Sealed {
			if err := tx.PutSealed(name, ciphertext); err != nil {
				return err
			}
		}
		_, err := tx.Append(ledger.Entry{Event: ledger.LedgerOpened, Key: s.Signer().VerifierKey()})
		return err
	})
}

// Open opens an existing store: it brings the schema up to date, makes sure that the store belongs to the ledger
// key and that the head of the ledger holds, and counts the boot with its entry, durably. What it costs does not
// grow with the store. The store takes the dialect over, also when Open fails.
func Open(ctx context.Context, d Dialect, opt Options) (*Store, error) {
	if opt.Signer == nil {
		return nil, errors.Join(errors.New("open the store: no ledger key"), d.Close())
	}
	s := newStore(d, opt)
	if err := s.start(ctx); err != nil {
		s.writer.session.close()
		return nil, errors.Join(err, d.Close())
	}
	return s, nil
}

func newStore(d Dialect, opt Options) *Store {
	opt = opt.withDefaults()
	s := &Store{
		dialect: d,
		log:     opt.Log,
		now:     opt.Now,
		name:    opt.Name,
		next:    opt.NextSigner,
		told:    opt.Committed,
		queue:   make(chan *mutation, opt.Queue),
		later:   make(chan *mutation, laterGroup),
		readers: make(chan *session, readerCount),
		stopped: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	s.signer.Store(opt.Signer)
	for range readerCount {
		s.readers <- &session{}
	}
	s.writer = &writer{store: s, session: &session{}, tree: tree{edge: map[int]tile{}}}
	return s
}

func (s *Store) start(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := s.View(ctx, s.load); err != nil {
		return err
	}
	return s.once(func(tx *Tx) error {
		boot, err := tx.advance(metaBoot, ledger.Boot)
		if err == nil {
			err = tx.join(boot)
		}
		if err != nil {
			return err
		}
		tx.group.after = append(tx.group.after, func() { s.boot.Store(boot) })
		return tx.takeOver()
	})
}

// load reads and checks what the store says of itself.
func (s *Store) load(tx *Tx) (err error) {
	if s.instance, err = tx.meta(metaInstance); err != nil {
		return err
	}
	if len(s.instance) != instanceLength {
		return fmt.Errorf("%w: it has no instance", ErrForeign)
	}
	if err := tx.moved(); err != nil {
		return err
	}
	key, err := tx.meta(metaKey)
	if err != nil {
		return err
	}
	if key != s.Signer().VerifierKey() {
		return fmt.Errorf("%w: the store's ledger is signed with %s, and the key given is %s; give the key that belongs to the store",
			ErrWrongKey, key, s.Signer().VerifierKey())
	}
	verifier, err := ledger.NewVerifier(key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	epoch, err := tx.meta(metaEpoch)
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: its epoch is %q", ErrDamaged, epoch)
	}
	s.epoch.Store(number)
	if s.writer.tree, err = tx.loadTree(); err == nil {
		err = tx.checkTree(s.writer.tree, verifier)
	}
	if err != nil {
		return fmt.Errorf("%w: its ledger does not hold; restore a backup and keep this file for examination: %w", ErrDamaged, err)
	}
	return nil
}

// once runs one mutation while Run does not run yet.
func (s *Store) once(fn func(*Tx) error) error {
	m := &mutation{fn: fn, done: make(chan error, 1)}
	if err := s.writer.process([]*mutation{m}); err != nil {
		return err
	}
	return <-m.done
}

// migrate brings the schema up to date, and refuses one from the future.
func (s *Store) migrate(ctx context.Context) error {
	scripts, err := fs.Sub(schemaFS{s.dialect}, "migrations")
	if err != nil {
		return failed("read the migrations", err)
	}
	provider, err := goose.NewProvider(goose.Dialect(s.dialect.Name()), s.dialect.Writer(), scripts,
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return failed("read the migrations", err)
	}
	return s.dialect.Alone(ctx, func() error {
		have, want, err := provider.GetVersions(ctx)
		if err != nil {
			return unavailable("read the version of the store", err)
		}
		switch {
		case have > want:
			return fmt.Errorf("%w: its schema has version %d and this daypass knows %d; run the newer daypass", ErrNewer, have, want)
		case have == want:
			return nil
		}
		if _, err := provider.Up(ctx); err != nil {
			return fault.Wrap(fault.StoreUnavailable, "migrate the store", "", err)
		}
		return nil
	})
}

// schemaFS is the migrations with the dialect's words.
type schemaFS struct{ dialect Dialect }

// Open opens a script or the directory.
func (f schemaFS) Open(name string) (fs.File, error) {
	file, err := migrations.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		return file, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	text, err := migrations.ReadFile(name)
	if err != nil {
		return nil, err
	}
	text = []byte(f.dialect.Schema(string(text)))
	return &scriptFile{Reader: bytes.NewReader(text), info: scriptInfo{info, int64(len(text))}}, nil
}

type scriptFile struct {
	*bytes.Reader
	info scriptInfo
}

func (f *scriptFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *scriptFile) Close() error               { return nil }

type scriptInfo struct {
	fs.FileInfo
	size int64
}

func (i scriptInfo) Size() int64        { return i.size }
func (i scriptInfo) ModTime() time.Time { return time.Time{} }
