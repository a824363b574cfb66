package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they are and returns the first answer.
func (r *rig) raw(t *testing.T, text string) int {
	t.Helper()
	conn, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// What two readers on the way could cut differently is refused.
func TestRequestsThatTwoReadersCutDifferentlyAreRefused(t *testing.T) {
	r := newRig(t, nil)
	token := bearer(r.token("worker"))
	head := "POST /v1/leases HTTP/1.1\r\nHost: daypass\r\n" + token + "\r\n"
	for _, text := range []string{
		head + "Content-Length: 17\r\nContent-Length: 18\r\n\r\n{\"role\":\"reader\"}",
		head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		head + "Content-Length: +17\r\n\r\n{\"role\":\"reader\"}",
		head + "Content-Length: 0x11\r\n\r\n{\"role\":\"reader\"}",
		strings.Replace(head, "Authorization", "X\r\n folded\r\nAuthorization\x00", 1) + "\r\n",
		strings.Replace(head, "Host: daypass", "Host: daypass\r\nHost: other", 1) + "\r\n",
		head + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
	} {
		if status := r.raw(t, text); status != 0 && (status < 400 || status == 404) {
			t.Errorf("%.200q: %d", text, status)
		}
	}
	if n := len(r.system.Leases()); n != 0 {
		t.Errorf("%d credentials were made", n)
	}
}

// No path reaches a call by another name, and none redirects who sends a token.
func TestNoPathIsNormalised(t *testing.T) {
	r := newRig(t, nil)
	mine := r.acquire(t, "worker")
	for _, path := range []string{
		"//v1/status", "/v1/./status", "/v1/x/../status", "/v1/status/", "/v1/%73tatus/../status", "/%2e%2e/v1/status",
		"/v1/leases/" + mine.Lease.ID + "/", "/v1/leases/" + mine.Lease.ID + "%2Frenew", "/v1/leases/" + mine.Lease.ID + "%00",
		"/v1/leases/" + strings.ToUpper(mine.Lease.ID), "/v1/leases;x/" + mine.Lease.ID, "http://evil.example/v1//leases",
	} {
		status := r.raw(t, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: daypass\r\n%s\r\nConnection: close\r\n\r\n", path, bearer(mine.LeaseToken)))
		if status != 404 && status != 400 {
			t.Errorf("%s: %d", path, status)
		}
	}
}
