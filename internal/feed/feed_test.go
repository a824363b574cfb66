package feed

import (
	"strings"
	"testing"
)

func TestAnswersThatAreNoPostureAreRefused(t *testing.T) {
	for says, body := range map[string]string{
		"nothing":                "",
		"a page":                 "<html>",
		"no records":             "{}",
		"null":                   `{"records":null}`,
		"a list":                 `[]`,
		"an unknown field":       `{"records":[],"next":"x"}`,
		"something behind":       `{"records":[]} {}`,
		"a time that is none":    `{"records":[{"id":"a","fields":{},"reported_at":"yesterday"}]}`,
		"more than there may be": `{"records":[]}` + strings.Repeat(" ", maxBody),
	} {
		if records, err := parse([]byte(body)); err == nil {
			t.Errorf("%s: %v", says, records)
		}
	}
	records, err := parse([]byte(`{"records":[{"id":"a","fields":{"healthy":true},"reported_at":"2026-09-15T08:00:00Z"},{"id":"b"}]}`))
	if err != nil || len(records) != 2 || string(records[0].Fields) != `{"healthy":true}` || records[0].ReportedAt.Hour() != 8 || !records[1].ReportedAt.IsZero() {
		t.Errorf("%+v, %v", records, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"records":[{"id":"a","fields":{"healthy":true},"reported_at":"2026-09-15T08:00:00Z"}]}`))
	f.Add([]byte(`{"records":[{"id":1}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		records, err := parse(body)
		if err != nil && records != nil {
			t.Errorf("records beside an error: %v", err)
		}
		if err != nil && len(body) > 20 && strings.Contains(err.Error(), string(body)) {
			t.Error("the error says what the answer said")
		}
	})
}
