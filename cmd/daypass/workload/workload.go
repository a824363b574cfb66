package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/agent"
	"github.com/daypass/daypass/internal/terminal"
	"github.com/daypass/daypass/secret"
)

// asking is what run and acquire have in common.
type asking struct {
	ttl      command.Duration
	reason   string
	receipts string
}

// addTo adds the flags.
func (q *asking) addTo(c *cobra.Command) {
	c.Flags().Var(&q.ttl, "ttl", "how long a lease lives, such as 15m; the role's default unless given")
	c.Flags().StringVar(&q.reason, "reason", "", "`why`, in your words; kept with the decision")
	c.Flags().StringVar(&q.receipts, "receipts", "", "`file` to append the receipts to, for daypass ledger verify --against")
}

// keep appends a lease's receipt to the file of receipts. A lease whose receipt cannot be kept is not wanted.
func (q *asking) keep(lease *client.Lease) error {
	if q.receipts == "" {
		return nil
	}
	file, err := os.OpenFile(q.receipts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep receipt: %w", err)
	}
	_, err = file.WriteString(strings.TrimRight(lease.Receipt, "\n") + "\n")
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("keep receipt: %w", err)
	}
	return nil
}

func (a *app) runCommand() *cobra.Command {
	q, onLoss, grace := &asking{}, string(agent.Kill), &command.Duration{}
	c := &cobra.Command{
		Use:   "run [NAME=]ROLE… -- COMMAND [ARGUMENT…]",
		Short: "run a command with a credential that lives as long as it does",
		Long: command.Wrap(`Acquires a lease of each role, sets the variables that the command's tools already read, renews the
			leases while it runs and releases them when it ends, in whatever way it ends. The exit code is the command's.

			A role written NAME=ROLE sets the variables with NAME_ before each, so that one command can have several
			credentials of a kind. The variables are listed by daypass help environment. Credentials never stand in
			arguments.

			An interrupt typed at the terminal reaches the command as it would without daypass; two within a second kill it.
			Other signals are passed on. When a lease ends early, for instance by a lock, the command gets SIGTERM, and
			SIGKILL after the grace time; --on-loss warn leaves it alone.

			A run inside the command of another one shares the lease of a role that says share: run, where server and
			principal are the same and the lease still lives. It uses what is in its environment, and leaves renewing and
			releasing to the run outside. With --ttl, --reason or --receipts it acquires a lease of its own.

			If daypass itself is killed with SIGKILL nobody releases the leases; they end when their time is up.`),
		Example: `daypass run orders-readonly -- psql
daypass run orders-owner --reason "release 42" -- ./migrate up
daypass run orders-readonly REPORTS=reports-writer -- ./nightly`,
		Annotations: map[string]string{command.Outputs: "text"},
		RunE: func(c *cobra.Command, args []string) error {
			dash := c.ArgsLenAtDash()
			if dash < 1 || dash == len(args) {
				return terminal.Hinted(terminal.Usage("run needs roles, two dashes and a command"), meantRun(args, dash))
			}
			if onLoss != string(agent.Kill) && onLoss != string(agent.Warn) {
				return terminal.UsageOf(c.CommandPath(), "--on-loss is kill or warn, not "+terminal.Quote(onLoss))
			}
			roles, err := agent.ParseRoles(args[:dash])
			if err != nil {
				return terminal.UsageOf(c.CommandPath(), err.Error())
			}
			return a.runIt(c.Context(), q, agent.Run{Roles: roles, Command: args[dash:], OnLoss: agent.OnLoss(onLoss), Grace: grace.Or(0)})
		},
	}
	q.addTo(c)
	c.Flags().StringVar(&onLoss, "on-loss", onLoss, "what happens to the command when a lease ends early, a `word`: kill or warn")
	command.Words(c, "on-loss", string(agent.Kill), string(agent.Warn))
	c.Flags().Var(grace, "grace", "from SIGTERM to SIGKILL then, such as 30s; 10s unless given")
	return c
}

// meantRun is a command line with what run needs, from one that lacks some of it.
func meantRun(args []string, dash int) string {
	if dash < 0 && len(args) > 1 {
		return "did you mean: daypass run " + args[0] + " -- " + strings.Join(args[1:], " ")
	}
	return "daypass run ROLE -- COMMAND"
}

// runIt completes a run and does it. What goes wrong before the command starts has an exit code of its own, so
// that the command's cannot be taken for it.
func (a *app) runIt(ctx context.Context, q *asking, r agent.Run) error {
	c, evidence, err := a.Identified()
	if err != nil {
		return terminal.Coded(err, agent.ExitOwn)
	}
	r.Client, r.TTL, r.Reason = c, q.ttl.Value, q.reason
	if q.receipts != "" {
		r.Acquired = q.keep
	}
	r.Env, r.Stdin, r.Stdout, r.Stderr = a.Env, a.Stdin, a.Stdout, a.Stderr
	r.Dir = a.Getenv("XDG_RUNTIME_DIR")
	r.Tell = func(line string) { a.Tell("%s", line) }
	if evidence.Keep != nil {
		r.Keep = func(ctx context.Context) { evidence.Keep(ctx, c, r.Tell) }
	}
	code, err := r.Do(ctx)
	if err != nil {
		return terminal.Coded(err, code)
	}
	a.Code = code
	return nil
}

func (a *app) acquireCommand() *cobra.Command {
	q, key, certificate := &asking{}, "", ""
	c := &cobra.Command{
		Use:   "acquire ROLE",
		Short: "acquire a lease and print its credential",
		Long: command.Wrap(`Prints the credential once; nobody can show it again. Whoever reads the output has the credential, so
			prefer daypass run where a command is all it is for.

			--output env prints lines for a POSIX shell and --output dotenv a file of variables; both have DAYPASS_LEASE and
			DAYPASS_LEASE_TOKEN too, with which daypass release ends the lease without further arguments. --output json is the
			answer of the API. --output exec-credential is for kubectl and its like, whose kubeconfig names this command as its
			exec plugin, and --output aws-credential-process for AWS's tools, whose profile names it as credential_process: each
			call of theirs then acquires a lease.`),
		Example: `daypass acquire orders-readonly
eval "$(daypass acquire orders-readonly --output env)" && psql; daypass release
daypass acquire orders-readonly --ttl 5m --output json | jq -r .credential.url`,
		Args:        command.Exactly("ROLE"),
		Annotations: map[string]string{command.Outputs: "text json env dotenv exec-credential aws-credential-process"},
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Workload()
			if err != nil {
				return err
			}
			lease, err := client.Acquire(c.Context(), api.AcquireRequest{Role: args[0], TTL: q.ttl.Value, Reason: q.reason}, keyed(key)...)
			if err != nil {
				return err
			}
			err = q.keep(lease)
			if err == nil {
				err = a.handOver(lease, certificate)
			}
			if err != nil { // nobody has it, so nobody shall
				_, releaseErr := lease.Release(context.WithoutCancel(c.Context()), 0)
				err = errors.Join(err, releaseErr)
			}
			return err
		},
	}
	q.addTo(c)
	c.Flags().StringVar(&key, "idempotency-key", "", "`key` under which a repeated call replaces the lease of the earlier one")
	c.Flags().StringVar(&certificate, "sslrootcert", "", "`file` for the target's certificates, with env and dotenv; a temporary one unless given")
	return c
}

// keyed is the option for an idempotency key, where one was given.
func keyed(key string) []client.AcquireOption {
	if key == "" {
		return nil
	}
	return []client.AcquireOption{client.WithIdempotencyKey(key)}
}

func (a *app) renewCommand() *cobra.Command {
	ttl, tokenFile := &command.Duration{}, ""
	c := &cobra.Command{
		Use:   "renew [LEASE]",
		Short: "make a lease live longer",
		Long: command.Wrap(`Within the longest life that the role allows. Shows fresh evidence where the platform has some, and
			the lease token otherwise, which some roles allow. The lease is DAYPASS_LEASE unless named, its token
			DAYPASS_LEASE_TOKEN.`),
		Example: "daypass renew mzxw6ytboi2hk3dpo5zq --ttl 30m",
		Args:    command.AtMost("LEASE"),
		RunE: func(c *cobra.Command, args []string) error {
			lease, err := a.handle(args, tokenFile)
			if err != nil {
				return err
			}
			info, err := lease.Renew(c.Context(), ttl.Value)
			if err != nil {
				return err
			}
			return a.Show(info, func() { a.Printf("lease %s lives until %s\n", info.ID, a.Stamp(info.ExpiresAt)) })
		},
	}
	c.Flags().Var(ttl, "ttl", "how long from now, such as 15m; the role's default unless given")
	c.Flags().StringVar(&tokenFile, "lease-token-file", "", "`file` with the lease token")
	return c
}

func (a *app) releaseCommand() *cobra.Command {
	wait, tokenFile := &command.Duration{}, ""
	c := &cobra.Command{
		Use:   "release [LEASE]",
		Short: "end a lease and its credential",
		Long: command.Wrap(`With --wait it answers when the target has proved that the credential is dead, or after that time at
			most. Releasing again does no harm. The lease is DAYPASS_LEASE unless named, its token DAYPASS_LEASE_TOKEN.`),
		Example: "daypass release mzxw6ytboi2hk3dpo5zq --wait 10s",
		Args:    command.AtMost("LEASE"),
		RunE: func(c *cobra.Command, args []string) error {
			lease, err := a.handle(args, tokenFile)
			if err != nil {
				return err
			}
			info, err := lease.Release(c.Context(), wait.Or(0))
			if err != nil {
				return err
			}
			return a.Show(info, func() { a.Printf("lease %s is %s\n", info.ID, terminal.Mood(info.State)) })
		},
	}
	c.Flags().Var(wait, "wait", "how long to wait for the proof, at most 60s")
	c.Flags().StringVar(&tokenFile, "lease-token-file", "", "`file` with the lease token")
	return c
}

// handle returns the lease that a command is about.
func (a *app) handle(args []string, tokenFile string) (*client.Lease, error) {
	id, token := a.Getenv("DAYPASS_LEASE"), secret.New(a.Getenv("DAYPASS_LEASE_TOKEN"))
	if len(args) > 0 && args[0] != id {
		id, token = args[0], secret.Text{} // the variable's token is another lease's
		if a.Getenv("DAYPASS_LEASE") == "" {
			token = secret.New(a.Getenv("DAYPASS_LEASE_TOKEN"))
		}
	}
	if id == "" {
		return nil, terminal.Hinted(terminal.Usage("no lease is named"), "name its ID, or set DAYPASS_LEASE")
	}
	if tokenFile != "" {
		text, err := client.FileToken(tokenFile).Token(context.Background())
		if err != nil {
			return nil, err
		}
		token = text
	}
	connect := a.Workload
	switch {
	case !token.IsZero():
		connect = a.Holder
	case a.ServerURL() == "" || a.Socket != "":
		connect = a.Admin
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	return c.Handle(id, token), nil
}
