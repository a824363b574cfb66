package store

import (
	"errors"
	"fmt"
)

// ErrMoved is an error of opening a store: it lives in another database now.
var ErrMoved = errors.New("the store has been moved")

// Where a store went, and the key that signed its ledger here. While these stand, metaKey says that it moved: no
// process of any version, not even one that has the store open and slept, signs another entry.
const (
	metaMoved    = "moved"
	metaMovedKey = "moved_key"
	movedTo      = "moved to " // what metaKey begins with then
)

// MovedTo returns the place that a store was moved to, as [Rows.MarkMoved] was told; empty where it was not.
func (tx *Tx) MovedTo() (string, error) { return tx.meta(metaMoved) }

// moved refuses a store that has moved.
func (tx *Tx) moved() error {
	to, err := tx.MovedTo()
	if err == nil && to != "" {
		err = movedElsewhere(to)
	}
	return err
}

func movedElsewhere(to string) error {
	return fmt.Errorf("%w to %s; name that one in `store`. The ways back: daypass store migrate --help", ErrMoved, to)
}

// MarkMoved says that the store has moved to a place: from the commit on nobody opens it. One that is marked so
// already is left as it is, and one that has moved elsewhere is [ErrMoved].
func (r Rows) MarkMoved(to string) error {
	switch moved, err := r.MovedTo(); {
	case err != nil || moved == to:
		return err
	case moved != "":
		return movedElsewhere(moved)
	}
	key, err := r.meta(metaKey)
	for _, set := range [][2]string{{metaMoved, to}, {metaMovedKey, key}, {metaKey, movedTo + to}} {
		if err == nil {
			err = r.setMeta(set[0], set[1])
		}
	}
	return err
}

// UnmarkMoved takes the mark of a move to a place back, and refuses that of a move elsewhere with [ErrMoved]. A store
// without one is left as it is.
func (r Rows) UnmarkMoved(to string) error {
	switch moved, err := r.MovedTo(); {
	case err != nil || moved == "":
		return err
	case moved != to:
		return movedElsewhere(moved)
	}
	key, err := r.meta(metaMovedKey)
	if err == nil {
		err = r.setMeta(metaKey, key)
	}
	if err == nil {
		_, err = r.write(`delete from meta where name in ($1, $2)`, metaMoved, metaMovedKey)
	}
	return err
}
