package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/dlq"
)

const (
	// A person mistypes a token now and then; a program that guesses is slowed down.
	strangerRate  = 0.2 // Wrong tokens a second, of one address.
	strangerBurst = 10

	minToken = 32

	// challenge says how a token is sent (RFC 6750).
	challenge = `Bearer realm="burrow"`

	defaultLetters = 50
	maxLetters     = 200
)

// Letters is what the admin API needs of *dlq.Desk.
type Letters interface {
	List(ctx context.Context, q dlq.Query) (*dlq.Page, error)
	Show(ctx context.Context, id int64) (*dlq.Letter, error)
	Replay(ctx context.Context, id int64, who string) (*dlq.Letter, error)
	Drop(ctx context.Context, id int64, who string) (*dlq.Letter, error)
}

var (
	errAdminOff    = &apiError{code: "not_found", message: "the admin API and /metrics are closed: this server has no admin token; set admin.token"}
	errNoToken     = &apiError{code: "no_token", message: "send the admin token as the header Authorization: Bearer …; it is admin.token, or the content of data_dir/admin.token"}
	errNoLetter    = &apiError{code: "not_found", message: "there is no such dead letter"}
	errNotLetterID = &apiError{code: "bad_request", message: "the id of a dead letter is a number from 1"}
)

// ValidToken reports whether token can be admin.token: long enough that nobody guesses it, and of
// characters that a header can hold.
func ValidToken(token string) bool {
	return len(token) >= minToken && strings.Trim(token, printable) == "" && len(token) <= 1024
}

// printable are the visible characters of ASCII.
var printable = func() string {
	var b []byte
	for c := byte('!'); c <= '~'; c++ {
		b = append(b, c)
	}
	return string(b)
}()

// guard lets in requests with the admin token, and notes who sent them. Nothing else counts: a
// loopback address may be that of a proxy, and a proxy adds whatever it likes.
func (o *operations) guard(next echo.HandlerFunc) echo.HandlerFunc {
	want := sha256.Sum256([]byte(o.cfg.Admin.Token))
	return func(c echo.Context) error {
		if o.cfg.Admin.Token == "" {
			return errAdminOff
		}
		if wait := o.strangers.wait(c.RealIP(), time.Now()); wait > 0 {
			return o.tooMany(c, "wrong tokens", wait)
		}
		token := bearer(c.Request())
		given := sha256.Sum256([]byte(token)) // Of the same length, so that comparing tells nothing.
		if subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
			if token != "" { // A scanner without a token guesses nothing.
				o.strangers.take(c.RealIP(), time.Now())
				o.noted.log(o.log, slog.LevelWarn, "admin token", c.RealIP(), "wrong admin token", slog.String("path", c.Path()))
			}
			c.Response().Header().Set("WWW-Authenticate", challenge)
			return errNoToken
		}
		c.Set("who", "token "+c.RealIP())
		return next(c)
	}
}

// bearer returns the token that r carries, or "".
func bearer(r *http.Request) string {
	lines := r.Header["Authorization"]
	if len(lines) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// listLetters answers with a page of dead letters, highest id first.
func (o *operations) listLetters(c echo.Context) error {
	q := dlq.Query{State: c.QueryParam("state"), Function: c.QueryParam("function"), Limit: defaultLetters}
	var err error
	if raw := c.QueryParam("limit"); raw != "" {
		if q.Limit, err = strconv.Atoi(raw); err != nil || q.Limit < 1 || q.Limit > maxLetters {
			return badRequest(fmt.Sprintf("limit must be a number from 1 to %d", maxLetters))
		}
	}
	if raw := c.QueryParam("before"); raw != "" {
		if q.Before, err = letterID(raw); err != nil {
			return badRequest("before must be the id of a dead letter")
		}
	}
	page, err := o.cfg.Letters.List(c.Request().Context(), q)
	if errors.Is(err, dlq.ErrBadQuery) {
		return badRequest("state must be waiting, replaying, replayed or all; without it, those that are not over are listed")
	}
	return answerLetters(c, http.StatusOK, page, err)
}

func (o *operations) showLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := o.cfg.Letters.Show(c.Request().Context(), id)
	return answerLetters(c, http.StatusOK, letter, err)
}

// replayLetter answers with 202: a node sends it soon.
func (o *operations) replayLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := o.cfg.Letters.Replay(c.Request().Context(), id, who(c))
	return answerLetters(c, http.StatusAccepted, letter, err)
}

// dropLetter answers with the letter as it was.
func (o *operations) dropLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := o.cfg.Letters.Drop(c.Request().Context(), id, who(c))
	return answerLetters(c, http.StatusOK, letter, err)
}

func letterID(raw string) (int64, error) {
	id, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || id < 1 {
		return 0, errNotLetterID
	}
	return id, nil
}

// who returns whom the guard let in.
func who(c echo.Context) string {
	name, _ := c.Get("who").(string)
	return name
}

// answerLetters answers with v, or with what err means.
func answerLetters(c echo.Context, status int, v any, err error) error {
	if err == nil {
		c.Response().Header().Set("Cache-Control", "no-store")
		return c.Blob(status, "application/json; charset=utf-8", dlq.JSON(v))
	}
	if busy := new(dlq.NotWaitingError); errors.As(err, &busy) {
		return &apiError{code: "not_waiting", message: dlq.Inert(busy.Error())}
	}
	switch {
	case errors.Is(err, dlq.ErrNoLetter):
		return errNoLetter
	case errors.Is(err, dlq.ErrRefused):
		return &apiError{code: "refused", message: dlq.Inert(err.Error())}
	}
	return unavailable("the dead letters cannot be reached at the moment; try again", err)
}
