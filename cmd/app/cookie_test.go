package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
)

// TestCookie_TwoInstallations signs one browser in at two installations of one host, on two
// ports: both names stay.
func TestCookie_TwoInstallations(t *testing.T) {
	jar, err := cookiejar.New(nil) // Shares cookies between ports, as browsers do.
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	browser := http.Client{Jar: jar, Transport: transport}
	session := func(method, addr, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/api/session", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", "http://"+addr)
		res, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	one, other := install(t, memory).start(t), install(t, memory).start(t)
	session("POST", one.addr, `{"name":"ada"}`)
	session("POST", other.addr, `{"name":"bob"}`)
	for range 2 {
		for addr, name := range map[string]string{one.addr: "ada", other.addr: "bob"} {
			if got := session("GET", addr, ""); !strings.Contains(got, `"name":"`+name+`"`) {
				t.Errorf("%s answers %s, want %s", addr, got, name)
			}
		}
	}
	one.stop()
	other.stop()
}
