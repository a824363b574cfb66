package revoker_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

// shared makes a store that several servers can open, and returns what opens it for one more.
func shared(t *testing.T) (join func() *world) {
	t.Helper()
	server := testbed.SharedPostgres(t, 15)
	name := server.Database(t)
	login := "login_" + name
	must(t, server.Exec(t.Context(), name, "create role "+login+" login password 'sesame'", "alter database "+name+" owner to "+login))
	t.Cleanup(func() {
		must(t, server.Exec(context.WithoutCancel(t.Context()), name, "reassign owned by "+login+" to postgres", "drop role "+login))
	})
	seed := sha256.Sum256([]byte("world"))
	signer, err := ledger.NewSigner("world.example.com/ledger", seed[:])
	must(t, err)
	url := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", login, server.Address(), name)
	opt := postgres.Options{Options: store.Options{Signer: signer}, Password: secret.New("sesame")}
	must(t, postgres.Create(t.Context(), url, opt))
	return func() *world {
		s, err := postgres.Open(t.Context(), url, opt)
		must(t, err)
		return worldOf(t, "", s)
	}
}

// overtaken is a target where something happens between what the store was asked for and what is left there.
type overtaken struct {
	*targettest.Memory
	once      sync.Once
	meanwhile func()
}

func (o *overtaken) Mark(ctx context.Context, mark target.Mark) (target.Mark, error) {
	o.once.Do(o.meanwhile)
	return o.Memory.Mark(ctx, mark)
}

// A server that begins while another one looks at a target leaves a later boot there than the other has just read.
func TestAServerThatBeginsMeanwhileIsNoRestoredStore(t *testing.T) {
	join := shared(t)
	system := targettest.NewSystem(time.Now)
	first := join()
	slow := &overtaken{Memory: targettest.NewMemory(system), meanwhile: func() {
		second := join()
		member, _ := second.target("vault", system)
		must(t, second.revoker.Sweep(t.Context(), member))
	}}
	member := revoker.NewMember("vault", "memory", slow)
	first.fleet.Put(member)
	before := first.store.Epoch()
	must(t, first.revoker.Sweep(t.Context(), member))
	if n := first.entries(ledger.Epoch); n != 0 || first.store.Epoch() != before {
		t.Errorf("%d epochs were opened, and the store is in epoch %d after %d", n, first.store.Epoch(), before)
	}
	if until := member.Health(time.Now()).Quarantined; !until.IsZero() {
		t.Errorf("the target is in quarantine until %v", until)
	}
}
