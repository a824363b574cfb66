package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/testissuer"
)

const (
	signedFile = `
kind: Target
name: services
oidc-token: {}
---
kind: Role
name: signed
target: services
oidc-token: {audience: sts.example.com, algorithm: ES256}
`
	signedPolicy = `
permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"signed")
when { principal.claims.repository_owner == "acme" };
`
)

// tokens measures the acquisition of a token of our own: a workload's token (RS256) in, verified, decided, recorded, a
// token (ES256) and a receipt out. It has two floors: one verification and one signature, with nothing else, and one
// durable write, shared by all that wait for one.
func tokens(ctx context.Context, s settings) (err error) {
	bound, err := cryptography()
	if err != nil {
		return err
	}
	disk, err := openDisk()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	fmt.Printf("\n## Tokens of our own (RS256 in, ES256 out)\n\n" +
		"| store | callers | one verify, one sign /s | durable writes /s | Daypass /s | of the first | of the second | p50 | p99 | broker CPU | load's CPU | its share | resident |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, open := range []func(context.Context) (*place, error){onFile, func(ctx context.Context) (*place, error) { return onPostgres(ctx, 1) }} {
		p, err := open(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(tokensAt(ctx, s, p, bound, disk), p.close()); err != nil {
			return err
		}
	}
	return nil
}

func tokensAt(ctx context.Context, s settings, p *place, bound func() error, disk *disk) error {
	files := maps.Clone(p.site.Access)
	files["signed.yaml"], files["signed.cedar"] = signedFile, signedPolicy
	if _, err := p.admin.ApplyAccess(ctx, files, ""); err != nil {
		return err
	}
	for _, callers := range []int{1, 16, 64} {
		if err := tokensBy(ctx, s, p, callers, bound, disk); err != nil {
			return err
		}
	}
	return nil
}

// tokensBy is a row. The floors and Daypass take turns.
func tokensBy(ctx context.Context, s settings, p *place, callers int, bound func() error, disk *disk) error {
	work := p.posts(callers, "signed")
	var crypto, writes, got sample
	var broker, ours time.Duration
	for range turns {
		slice := s.slice / turns
		crypto.join(load(ctx, callers, slice, endless, func(context.Context, int) error { return bound() }))
		writes.join(load(ctx, callers, slice, endless, func(context.Context, int) error { return disk.write() }))
		brokerBefore, oursBefore := p.brokerTime(), processorTime(os.Getpid())
		got.join(load(ctx, callers, slice, endless, work))
		broker += p.brokerTime() - brokerBefore
		ours += processorTime(os.Getpid()) - oursBefore
	}
	for _, one := range []sample{crypto, writes, got} {
		if one.failure != nil || len(one.laps) == 0 {
			return fmt.Errorf("%d failed, the last: %w", one.failed, one.failure)
		}
	}
	per := func(d time.Duration) string {
		return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000/float64(len(got.laps)))
	}
	memory, err := resident(p.brokerPID())
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %d | %.0f | %.0f | %.0f | %.2f | %.2f | %s | %s | %s | %s | %.0f %% | %d MiB |\n", p.name, callers, crypto.rate(), writes.rate(), got.rate(),
		got.rate()/crypto.rate(), got.rate()/writes.rate(), ms(got.quantile(0.5)), ms(got.quantile(0.99)), per(broker), per(ours),
		100*ours.Seconds()/(ours+broker).Seconds(), memory>>20)
	return nil
}

// brokerPID is the first of its servers.
func (p *place) brokerPID() int {
	if p.rig != nil {
		return p.rig.BrokerPID()
	}
	return p.fleet.Replicas[0].PID()
}

// posts is the work of acquiring a role by plain requests, each caller with a token of its own: a client would exchange
// it first.
func (p *place) posts(callers int, role string) func(context.Context, int) error {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	var headers []string
	for i := range callers {
		headers = append(headers, "Bearer "+p.site.Issuer.Token(p.site.Issuer.GitHub(testissuer.Run{
			Audience: p.site.Audience, RunID: strconv.Itoa(i), Repository: "acme/orders-" + strconv.Itoa(i)})))
	}
	body := []byte(`{"role":"` + role + `"}`)
	return func(ctx context.Context, caller int) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.urls[0]+"/v1/leases", bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", headers[caller])
		request.Header.Set("Content-Type", "application/json")
		response, err := web.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusCreated {
			err = fmt.Errorf("%s: %.300s", response.Status, answer)
		}
		return err
	}
}

// cryptography is what no acquisition of a token can do without.
func cryptography() (work func() error, err error) {
	theirs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ours, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("a token"))
	signature, err := rsa.SignPKCS1v15(nil, theirs, crypto.SHA256, digest[:])
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := rsa.VerifyPKCS1v15(&theirs.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
			return err
		}
		_, _, err := ecdsa.Sign(rand.Reader, ours, digest[:])
		return err
	}, nil
}

// disk makes writes durable: one sync for all that wait for one.
type disk struct {
	file *os.File
	path string
	wait chan chan error
}

// diskPages is how many pages are written before the first is again: the file does not grow while it is measured.
const diskPages = 4096

func openDisk() (*disk, error) {
	dir, err := os.MkdirTemp("", "daypass-bench")
	if err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "log"))
	if err == nil {
		_, err = file.Write(make([]byte, diskPages*4096))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d := &disk{file: file, path: dir, wait: make(chan chan error, 1024)}
	go d.sync()
	return d, nil
}

// sync serves those who wait, until close.
func (d *disk) sync() {
	page, pages := make([]byte, 4096), int64(0)
	for first := range d.wait {
		all := []chan error{first}
		for len(d.wait) > 0 {
			all = append(all, <-d.wait)
		}
		var err error
		for range all { // each has something to say
			_, failed := d.file.WriteAt(page, pages%diskPages*int64(len(page)))
			err = errors.Join(err, failed)
			pages++
		}
		err = errors.Join(err, d.file.Sync())
		for _, one := range all {
			one <- err
		}
	}
}

func (d *disk) write() error {
	done := make(chan error, 1)
	d.wait <- done
	return <-done
}

func (d *disk) close() error {
	close(d.wait)
	return errors.Join(d.file.Close(), os.RemoveAll(d.path))
}
