package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// guestCookie is the name of the cookie of early servers, which later ones take too.
	guestCookie = "burrow_session"
	// maxAnswer bounds what is read of an answer over HTTP: a page of the history is less.
	maxAnswer = 4 << 20
	// tokenTimeout bounds Config.Token.
	tokenTimeout = 30 * time.Second
)

// web is the server over HTTP, and who one is for it.
type web struct {
	base   *url.URL
	client *http.Client
	token  func(context.Context) (string, error) // Nil: there are no tokens.
	own    *http.Transport                       // Nil: the transport is the program's.

	mu     sync.Mutex
	name   string
	cookie string
	label  string // The name of the cookie; empty: guestCookie.
	bearer string
	mode   string // How names are proven; empty: not known yet.
}

func newWeb(cfg Config, base *url.URL) *web {
	w := &web{base: base, token: cfg.Token, name: cfg.Name, cookie: cfg.Cookie}
	transport := cfg.Transport
	if transport == nil {
		if t, ok := http.DefaultTransport.(*http.Transport); ok {
			w.own = t.Clone()
			transport = w.own
		}
	}
	// A proof of a name is not carried to wherever an answer points.
	w.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return w
}

func (w *web) close() {
	if w.own != nil {
		w.own.CloseIdleConnections()
	}
}

func (w *web) user() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.name
}

// named notes the name as the server writes it.
func (w *web) named(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name != "" {
		w.name = name
	}
}

func (w *web) cookieValue() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cookie
}

// header returns what proves the name.
func (w *web) header() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := http.Header{}
	if w.bearer != "" {
		h.Set("Authorization", "Bearer "+w.bearer)
	} else if w.cookie != "" {
		own := (&http.Cookie{Name: cmp.Or(w.label, guestCookie), Value: w.cookie}).String()
		if w.label != "" && w.label != guestCookie { // The next node may be of an earlier version.
			own += "; " + (&http.Cookie{Name: guestCookie, Value: w.cookie}).String()
		}
		h.Set("Cookie", own)
	}
	return h
}

// url returns the address of a path, which is escaped already.
func (w *web) url(path string, query url.Values) string {
	u := *w.base
	address := u.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

// query returns the parameter that says who one is where nothing proves it.
func (w *web) query() url.Values { return url.Values{"client_id": {w.user()}} }

// ask sends a request and reads a JSON answer into out.
func (w *web) ask(ctx context.Context, method, path string, query url.Values, body, out any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, w.url(path, query), sent)
	if err != nil {
		return err
	}
	req.Header = w.header()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refusal(res)
	}
	w.keepCookie(res)
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s %s: this is no answer of a Burrow server: %w", method, path, err)
	}
	return nil
}

// keepCookie keeps the cookie of a guest. Its name has the id of the server's key: one without is for
// early clients and may be replaced by another server on the host.
func (w *web) keepCookie(res *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := false
	for _, c := range res.Cookies() {
		name := strings.TrimPrefix(strings.TrimPrefix(c.Name, "__Host-"), "__Secure-")
		if c.Value == "" || name != guestCookie && !strings.HasPrefix(name, guestCookie+"_") || fresh && name == guestCookie {
			continue
		}
		w.cookie, w.label, fresh = c.Value, c.Name, true
	}
}

// errorHeader is in each error of a Burrow server, and holds its code.
const errorHeader = "Burrow-Error"

// refusal returns the error in an answer with another status than 200. Without errorHeader it is that of
// something on the way, whatever its body looks like: the Code is http_ and the status.
func refusal(res *http.Response) *Error {
	e := &Error{Code: "http_" + strconv.Itoa(res.StatusCode), Status: res.StatusCode}
	var body struct {
		Error struct {
			Code, Message string
			Retry         int64 `json:"retry_after_ms"`
		}
	}
	if res.Body != nil {
		data, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // What is cut off is no JSON, and then not ours.
		if res.Header.Get(errorHeader) != "" && json.Unmarshal(data, &body) == nil && body.Error.Code != "" {
			e.Code, e.Message = body.Error.Code, body.Error.Message
			e.RetryAfter = time.Duration(min(max(body.Error.Retry, 0), maxRetryMS)) * time.Millisecond
		}
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 && e.RetryAfter == 0 {
		e.RetryAfter = time.Duration(min(s, maxRetryMS/1000)) * time.Second
	}
	return e
}

// ours reports whether the refusal is Burrow's own, and not that of something on the way.
func (e *Error) ours() bool { return !strings.HasPrefix(e.Code, "http_") }

// session is the answer of /api/session.
type session struct {
	Mode string `json:"mode"`
	Name string `json:"name"`
}

// signIn sees to it that there is a proof of the name, a fresh one if there are tokens.
func (w *web) signIn(ctx context.Context) error {
	if w.token != nil {
		if err := w.freshToken(ctx); err != nil {
			return err
		}
		if w.user() != "" {
			return nil // The token is looked at when one connects.
		}
	}
	w.mu.Lock()
	name, proven := w.name, w.mode == "open" || w.mode == "guest" && w.cookie != ""
	w.mu.Unlock()
	if proven {
		return nil
	}
	var s session
	if err := w.ask(ctx, http.MethodGet, "/api/session", nil, nil, &s); err != nil {
		return err
	}
	if s.Mode == "" {
		return errors.New("GET /api/session: this is no answer of a Burrow server")
	}
	if name == "" {
		if s.Name == "" {
			return &Error{Code: "no_session", Message: "the server knows no name for this token", Status: http.StatusUnauthorized}
		}
		name = s.Name
	}
	if s.Mode == "guest" && s.Name != name {
		if err := w.ask(ctx, http.MethodPost, "/api/session", nil, map[string]string{"name": name}, &s); err != nil {
			return err
		}
		name = s.Name // In normal form.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode, w.name = s.Mode, name
	return nil
}

// freshToken asks the program for a token.
func (w *web) freshToken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := w.token(ctx)
	if err == nil && token == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return fmt.Errorf("Config.Token: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bearer = token
	return nil
}

// renew returns a proof that is good for longer, or "" if there is none yet.
func (w *web) renew(ctx context.Context) (string, error) {
	if w.token != nil {
		err := w.freshToken(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.bearer, err
	}
	before := w.cookieValue()
	var s session
	err := w.ask(ctx, http.MethodGet, "/api/session", nil, nil, &s)
	if after := w.cookieValue(); err == nil && after != before {
		return after, nil
	}
	return "", err
}

// denied notes that the proof is no good: the next signIn makes another one.
func (w *web) denied() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.token == nil {
		w.cookie, w.mode = "", ""
	}
}
