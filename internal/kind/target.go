package kind

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/target"
)

// Target is a kind of target: how access files write it, and how one is made.
type Target struct {
	access.Kind
	open func(ctx context.Context, order TargetOrder) (OpenTarget, error)
	// files are the references of its settings to files below secrets_dir; nil where there are none.
	files func(access.Target) ([]reference, error)
}

// TargetOrder is what a target is made from.
type TargetOrder struct {
	Config  access.Target
	Mark    target.Mark
	Boot    int64 // of this process
	Peers   func(context.Context) ([]int64, error)
	Known   bool // credentials of ours were made there: a server without our mark is another one
	Secrets secretdir.Dir
	Log     *slog.Logger

	Issuer *issuer.Issuer                                             // signs tokens for those who trust us
	Until  func(ctx context.Context, lease string) (time.Time, error) // until when what was handed out lives; zero: nothing was
	Lease  func(ctx context.Context, lease string) (Held, error)      // what a lease was granted as
	Roles  func(context.Context) (map[string]json.RawMessage, error)  // the rights of the roles that the target has now, by name
	Now    func() time.Time
}

// Held is what the store knows of a lease; the zero Held where it knows none.
type Held struct {
	Rights    json.RawMessage // of its role when it was granted
	HandedOut bool            // somebody may have its credential
	Made      time.Time
	Until     time.Time // when its credential ends by itself
}

// OpenTarget is a target and what ends it.
type OpenTarget struct {
	target.Target
	Close func() // not nil
}

// Open makes a target from its settings. It connects to nothing.
func (k Target) Open(ctx context.Context, order TargetOrder) (OpenTarget, error) {
	opened, err := k.open(ctx, order)
	if opened.Close == nil {
		opened.Close = func() {}
	}
	return opened, err
}

// Fingerprint is a hash of all that a target is made from, its files included.
func (k Target) Fingerprint(t access.Target, dir secretdir.Dir) (string, error) {
	var files []reference
	if k.files != nil {
		var err error
		if files, err = k.files(t); err != nil {
			return "", err
		}
	}
	return fingerprint(files, dir, t.Name, t.Kind, t.Settings, t.Client)
}

// fixed is a kind that stands for one target.
func fixed(t target.Target) Target {
	return Target{
		Kind: access.Kind{Settings: decode[map[string]any], Rights: decode[map[string]any]},
		open: func(context.Context, TargetOrder) (OpenTarget, error) { return OpenTarget{Target: t}, nil },
	}
}

// readTarget reads the sections of a target back from the form in which the configuration keeps them.
func readTarget[S, C any](t access.Target) (settings S, client C, err error) {
	if settings, err = readSettings[S](t); err != nil || t.Client == nil {
		return settings, client, err
	}
	client, err = read[C](t.Client, "client section of target", t.Name)
	return settings, client, err
}

// readSettings reads the section of a target that is named like its kind.
func readSettings[S any](t access.Target) (S, error) {
	return read[S](t.Settings, "settings of target", t.Name)
}
