package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/testissuer"
)

const (
	flooders  = 16
	floodTime = 15 * time.Second
	floodPace = 500 // in a second, where the flood is paced: less than the machine can send
)

// floodOfTokens sends bad tokens of one issuer while others come with good ones of another. The same number of requests
// that ask for nothing stands beside, for what any flood costs on the machine that also makes it.
func floodOfTokens(ctx context.Context, _ settings, t *town) error {
	tokens, err := badTokens(t)
	if err != nil {
		return err
	}
	hit := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: flooders, DisableCompression: true}, Timeout: 10 * time.Second}
	calm := t.calm(ctx)
	for _, every := range []time.Duration{flooders * time.Second / floodPace, 0} {
		for _, kind := range []string{"nothing", "unknown keys", "bad signatures", "tokens of 64 KiB"} {
			work := func(ctx context.Context, _ int) error { return knock(ctx, hit, t.URL+"/healthz", "", http.StatusOK) }
			if kind != "nothing" {
				pool := tokens[kind]
				work = func(ctx context.Context, caller int) error {
					return knock(ctx, hit, t.URL+"/v1/leases", pool[int(time.Now().UnixMicro())%len(pool)], 0)
				}
			}
			before := t.partner.Fetches()
			sent, during := t.flood(ctx, every, work)
			after := t.partner.Fetches()
			pace := "as fast as they can"
			if every > 0 {
				pace = "paced"
			}
			report(fmt.Sprintf("%d callers send %s, %s: %.0f /s, %d fetches at the issuer", flooders, kind, pace, sent.rate(), after.Keys-before.Keys+after.Discovery-before.Discovery), calm, during)
			if sent.failure != nil {
				return fmt.Errorf("flood of %s: %d were not answered as they should be, the last: %w", kind, sent.failed, sent.failure)
			}
		}
	}
	return nil
}

// flood runs work in a flood and the others beside it.
func (t *town) flood(ctx context.Context, every time.Duration, work func(context.Context, int) error) (sent, during sample) {
	stop := t.beside(ctx)
	if every > 0 {
		end := beside(ctx, flooders, every, work)
		sleep(ctx, floodTime)
		sent = end()
	} else {
		sent = load(ctx, flooders, floodTime, endless, work)
	}
	return sent, stop()
}

// badTokens are tokens of the partner that are not good, by what is wrong with them.
func badTokens(t *town) (map[string][]string, error) {
	claims := map[string]any{"iss": t.partner.URL(), "sub": "flood", "aud": t.URL, "team": "billing",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	forged := make([]byte, 256)
	all := map[string][]string{"tokens of 64 KiB": {strings.Repeat("a", 64<<10)}}
	for range 20_000 {
		rand.Read(forged)
		for kind, id := range map[string]string{"unknown keys": rand.Text(), "bad signatures": t.partner.Key().ID} {
			header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": id})
			if err != nil {
				return nil, err
			}
			all[kind] = append(all[kind], testissuer.Compact(header, payload, forged))
		}
	}
	return all, nil
}

// knock sends one request. Without a wanted status any refusal is right.
func knock(ctx context.Context, by *http.Client, url, token string, want int) error {
	method, body := http.MethodGet, io.Reader(nil)
	if token != "" {
		method, body = http.MethodPost, strings.NewReader(`{"role": "billing"}`)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := by.Do(request)
	if err != nil {
		if len(token) > 1<<15 {
			return nil // hung up on, which is an answer to a head that is too long
		}
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	// A key that nobody knows yet is 503 until the issuer may be asked again: it may be a new one.
	if want != 0 && response.StatusCode != want || want == 0 && response.StatusCode < 400 || response.StatusCode == 500 {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

// greedyWorkload has one principal acquire in a loop, under the limits that a server has unless told.
func greedyWorkload(ctx context.Context, _ settings, t *town) error {
	calm := t.calm(ctx)
	g := &greed{url: t.URL, by: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: flooders}}, answers: map[string]int{}}
	token := fresh(t.Site, testissuer.Run{RunID: "greedy"})
	stop := t.beside(ctx)
	sent := load(ctx, flooders, 2*floodTime, endless, func(ctx context.Context, _ int) error {
		text, err := token.Token(ctx)
		if err != nil {
			return err
		}
		return g.ask(ctx, text.Reveal())
	})
	report(fmt.Sprintf("one workload acquires in a loop, %d callers: %.0f /s", flooders, sent.rate()), calm, stop())
	fmt.Printf("\nWhat it was answered:\n\n")
	for _, answer := range slices.Sorted(maps.Keys(g.answers)) {
		fmt.Printf("- %d times %s\n", g.answers[answer], answer)
	}
	fmt.Println()
	return errors.Join(sent.failure, g.judge())
}

// greed is a workload that does not listen to Retry-After.
type greed struct {
	url string
	by  *http.Client

	mu      sync.Mutex
	answers map[string]int
}

func (g *greed) ask(ctx context.Context, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/leases", strings.NewReader(`{"role": "member-fast"}`))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := g.by.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var said struct{ Code, Detail string }
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		return err
	}
	answer := strconv.Itoa(response.StatusCode)
	if said.Code != "" {
		answer += " " + said.Code + " (" + said.Detail + "), Retry-After " + response.Header.Get("Retry-After")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers[answer]++
	return nil
}

// judge holds that every answer was a lease or told when to come back.
func (g *greed) judge() error {
	var wrong []error
	for answer := range g.answers {
		if answer != "201" && (!strings.HasPrefix(answer, "429 too_many") || strings.HasSuffix(answer, "Retry-After ")) {
			wrong = append(wrong, fmt.Errorf("answered %s", answer))
		}
	}
	return errors.Join(wrong...)
}
