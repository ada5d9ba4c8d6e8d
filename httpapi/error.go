package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/auth"
)

// statuses is what each error code is in HTTP: this file is the only place that knows.
var statuses = map[string]int{
	"bad_request":       http.StatusBadRequest,
	"invalid_client_id": http.StatusBadRequest,
	"invalid_name":      http.StatusBadRequest,
	codeInvalidUser:     http.StatusBadRequest,
	codeBadFrame:        http.StatusBadRequest,
	codeEmptyContent:    http.StatusBadRequest,
	codeContentTooLong:  http.StatusRequestEntityTooLarge,
	"no_session":        http.StatusUnauthorized,
	"no_token":          http.StatusUnauthorized,
	"invalid_token":     http.StatusUnauthorized,
	"foreign_origin":    http.StatusForbidden,
	"foreign_host":      http.StatusMisdirectedRequest,
	"forbidden":         http.StatusForbidden,
	"not_found":         http.StatusNotFound,
	"not_waiting":       http.StatusConflict,
	"name_taken":        http.StatusConflict,
	"too_many_names":    http.StatusConflict,
	"too_large":         http.StatusRequestEntityTooLarge,
	"refused":           http.StatusUnprocessableEntity,
	"not_json":          http.StatusUnsupportedMediaType,
	"upgrade_required":  http.StatusUpgradeRequired,
	codeRateLimited:     http.StatusTooManyRequests,
	codeInternal:        http.StatusInternalServerError,
	codeUnavailable:     http.StatusServiceUnavailable,
	"draining":          http.StatusServiceUnavailable,
	"full":              http.StatusServiceUnavailable,
	"starting":          http.StatusServiceUnavailable,
}

// apiError is an error that a client is told about. Its code is for programs and never
// changes, its message is for people.
type apiError struct {
	code    string
	message string
	retry   time.Duration // After which to try again; 0: unsaid.
	cause   error         // For the log; nil: nothing worth it.
}

func (e *apiError) Error() string { return "httpapi: " + e.code + ": " + e.message }
func (e *apiError) Unwrap() error { return e.cause }

var (
	errInvalidClientID = &apiError{code: "invalid_client_id", message: "this is not a user's name; " + nameRule}
	errInvalidName     = &apiError{code: "invalid_name", message: "this name cannot be taken; " + nameRule}
	errInvalidUser     = &apiError{code: codeInvalidUser, message: `"with" is not a user's name; ` + nameRule}
	errUpgradeRequired = &apiError{code: "upgrade_required", message: "this address speaks WebSocket (version 13): connect with a WebSocket client"}
	errForeignOrigin   = &apiError{code: "foreign_origin", message: "this chat is not set up for this address; ask the operator"}
	errNoSession       = &apiError{code: "no_session", message: "you are not signed in, or no longer: choose a name with POST /api/session"}
	errTokenMissing    = &apiError{code: "no_session", message: "there is no token: send it as the header Authorization: Bearer …, or as the cookie burrow_token"}
	errOtherName       = &apiError{code: "forbidden", message: "you are signed in with another name: connect with that name, or sign in again"}
	errNameTaken       = &apiError{code: "name_taken", message: "somebody else has this name, or one that looks like it: choose another one"}
	errTooManyNames    = &apiError{code: "too_many_names", message: "you have taken as many names as one may: go back to one of them"}
	errNotJSON         = &apiError{code: "not_json", message: "send the body as JSON, with Content-Type: application/json"}
	errTooLarge        = &apiError{code: "too_large", message: "the body is too large; at most 1024 bytes are read"}
	errDraining        = &apiError{code: "draining", message: "the server is stopping; try again in a moment", retry: time.Second}
	errFull            = &apiError{code: "full", message: "the server has all the connections it may have; try again later", retry: 5 * time.Second}
	errStarting        = &apiError{code: "starting", message: "the server is starting; try again in a moment", retry: time.Second}
)

func badRequest(message string) error { return &apiError{code: "bad_request", message: message} }

func unavailable(message string, cause error) error {
	return &apiError{code: codeUnavailable, message: message, retry: time.Second, cause: cause}
}

// tooMany refuses an address that has had too many of something, which the metrics count by.
func (e *endpoint) tooMany(c echo.Context, what string, wait time.Duration) error {
	e.limited(what, "", c.RealIP())
	return &apiError{code: codeRateLimited, message: "too many " + what + " from your address; try again later", retry: wait}
}

// asAPIError returns what the client is told about err.
func asAPIError(err error) *apiError {
	if e := new(apiError); errors.As(err, &e) {
		return e
	}
	if bad := new(auth.TokenError); errors.As(err, &bad) {
		return &apiError{code: "invalid_token", message: "the token " + bad.Reason}
	}
	switch {
	case errors.Is(err, auth.ErrNoSession):
		return errNoSession
	case errors.Is(err, auth.ErrTaken):
		return errNameTaken
	case errors.Is(err, auth.ErrTooManyNames):
		return errTooManyNames
	case errors.Is(err, auth.ErrInvalidName):
		return errInvalidName
	}
	return &apiError{code: codeInternal, message: "something went wrong on the server; try again later", cause: err}
}

// authError returns what an error of Auth means: what it decided, or that it cannot decide.
func authError(err error) error {
	for _, decided := range []error{auth.ErrNoSession, auth.ErrTaken, auth.ErrTooManyNames, auth.ErrInvalidName} {
		if err == nil || errors.Is(err, decided) {
			return err
		}
	}
	return unavailable("names cannot be checked at the moment; try again", err)
}

// handleError answers c with err, in the one shape that all errors have.
func (e *endpoint) handleError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, body, retry := http.StatusInternalServerError, errorBody{}, time.Duration(0)
	if he := new(echo.HTTPError); errors.As(err, &he) {
		// Echo's own: no such route, a method that the route has not.
		status = he.Code
		text := http.StatusText(status)
		body = errorBody{Code: strings.ReplaceAll(strings.ToLower(text), " ", "_"), Message: text}
	} else {
		known := asAPIError(err)
		status, retry = statuses[known.code], known.retry
		e.logRefused(c, known)
		body = errorBody{Code: known.code, Message: known.message}
		if known.cause != nil && !errors.Is(known.cause, context.Canceled) { // Canceled: the client has gone.
			e.noted.log(e.log, slog.LevelError, "request", c.RealIP(), "request", slog.String("method", c.Request().Method),
				slog.String("path", c.Request().URL.Path), slog.Int("status", status), slog.Any("error", known.cause))
		}
	}
	h := c.Response().Header()
	switch {
	case retry > 0 && status == http.StatusServiceUnavailable:
		// Not all of those who were refused together come back together.
		retry += rand.N(4 * time.Second)
		fallthrough
	case retry > 0:
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	if status == http.StatusUnauthorized && e.challenge {
		h.Set("WWW-Authenticate", challenge)
	}
	if status == http.StatusUpgradeRequired {
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		h.Set("Sec-WebSocket-Version", "13")
	}
	if err := writeError(c, status, body); err != nil {
		e.log.Debug("answer", "error", err) // The client has gone.
	}
}

// errorHeader holds the code of each error that this server answers with. An answer without it comes
// from something on the way, and ends no session.
const errorHeader = "Burrow-Error"

// writeError answers with body.
func writeError(c echo.Context, status int, body errorBody) error {
	c.Response().Header().Set(errorHeader, body.Code)
	return writeJSON(c, status, errorFrame{body})
}

// writeReadiness answers with 200 or, for load balancers, 503.
func writeReadiness(c echo.Context, r readiness) error {
	if !r.Ready {
		return writeJSON(c, http.StatusServiceUnavailable, r)
	}
	return writeJSON(c, http.StatusOK, r)
}

// writeJSON answers with v, which no cache keeps.
func writeJSON(c echo.Context, status int, v any) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.Blob(status, "application/json; charset=utf-8", encodeJSON(v))
}
