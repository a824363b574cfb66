package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
)

// Trial is a token of ours that a cloud is tried with.
type Trial struct {
	Role     string // of ours that it is for; empty: Daypass itself, which manages the target
	Example  string // a role of the target, for what is to be typed; Role unless given
	Subject  string
	Audience string
	Becomes  string // the principal at the cloud that it is exchanged for
}

// Answers are how a cloud refuses our tokens.
type Answers struct {
	Who   string // says so, in a sentence
	Table []Refusal
}

// Refusal is a row of the table of what a cloud has against a token. The first that fits counts.
type Refusal struct {
	Code string // of the answer; empty: any
	Text string // what its words have in common, in any case; empty: whatever they are
	Why  string
	Fix  string // with {issuer}, {audience}, {subject}, {role}, {becomes}
}

// Explain says what a cloud has against a token, from the error of its trial. An error says that the cloud could not be asked.
func (c Config) Explain(answers Answers, of Trial, err error) ([]target.Finding, error) {
	if err == nil {
		return nil, nil
	}
	whose := "Daypass itself"
	if of.Role != "" {
		whose, of.Example = fmt.Sprintf("role %q", of.Role), of.Role
	}
	if own, ok := errors.AsType[*target.RefusalError](err); ok {
		return []target.Finding{{Severity: target.Problem, Role: of.Role, Message: whose + " gets nothing: " + own.Text}}, nil
	}
	answer, ok := errors.AsType[*StatusError](err)
	if !ok || answer.Status < 400 || answer.Status >= 500 || answer.Status == http.StatusTooManyRequests {
		return nil, err
	}
	row := answers.row(answer)
	fill := strings.NewReplacer("{issuer}", c.Issuer, "{audience}", of.Audience, "{subject}", of.Subject, "{role}", of.Example, "{becomes}", of.Becomes)
	return []target.Finding{{
		Severity: target.Problem, Role: of.Role, Fix: fill.Replace(row.Fix),
		Message: fmt.Sprintf("a token of %s (issuer %s, audience %s, subject %s) does not become %s: %s. %s says %s", whose, c.Issuer, of.Audience, of.Subject, of.Becomes, row.Why, answers.Who, answer),
	}}, nil
}

// row is the first that fits; the table ends with one that fits all.
func (a Answers) row(answer *StatusError) Refusal {
	text := strings.ToLower(answer.Text)
	for _, r := range a.Table {
		if (r.Code == "" || r.Code == answer.Code) && strings.Contains(text, strings.ToLower(r.Text)) {
			return r
		}
	}
	return Refusal{Why: "it is refused", Fix: "compare issuer, audience and subject with what the other side trusts"}
}

// roles are the names of the roles of a target, sorted, with their rights.
func (c Config) roles(ctx context.Context) (names []string, rights map[string]json.RawMessage, err error) {
	if c.Roles != nil {
		rights, err = c.Roles(ctx)
	}
	return slices.Sorted(maps.Keys(rights)), rights, err
}

// Check has the cloud take a token of each role, as its workloads have it. Nobody gets what it gives for it.
func (t *Tokens) Check(ctx context.Context) ([]target.Finding, error) {
	found, err := t.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", t.service.Kind(), err)
	}
	return found, nil
}

func (t *Tokens) check(ctx context.Context) (found []target.Finding, err error) {
	names, rights, err := t.cfg.roles(ctx)
	for _, role := range names {
		if err != nil {
			break
		}
		of := Trial{Role: role, Subject: "role:" + role, Audience: t.service.Audience()}
		var refused []target.Finding
		refused, err = t.try(ctx, of, rights[role])
		found = append(found, refused...)
	}
	return found, err
}

func (t *Tokens) try(ctx context.Context, of Trial, rights json.RawMessage) ([]target.Finding, error) {
	ours, err := t.cfg.sign(ctx, "check", of.Subject, of.Audience)
	if err != nil {
		return nil, err
	}
	of.Becomes, err = t.service.Try(ctx, ours, rights)
	return t.cfg.Explain(t.service.Answers(), of, err)
}

// Check says which roles the target cannot serve, whether the cloud takes the manager's token, and what the manager may do, too
// little or too much.
func (p *Principals) Check(ctx context.Context) ([]target.Finding, error) {
	names, rights, err := p.cfg.roles(ctx)
	var found []target.Finding
	example := "ROLE"
	for _, role := range names {
		example = names[0]
		if err := p.accounts.Valid(target.Grant{Role: role, Rights: rights[role]}); err != nil {
			found = append(found, target.Finding{Severity: target.Problem, Role: role, Message: fmt.Sprintf("role %q gets nothing: %v", role, err)})
		}
	}
	var inspected []target.Finding
	if err == nil {
		inspected, err = p.accounts.Inspect(ctx, example)
	}
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", p.accounts.Kind(), err)
	}
	return append(found, inspected...), nil
}
