package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"burrow/internal/suggest"
)

// field is one setting: a struct field with a toml tag, somewhere in the target.
type field struct {
	key      string // the full key, as "broker.redis.url"
	value    reflect.Value
	min, max string
	oneof    []string
	alias    map[string]string // other names of the values of oneof, in the form of plain
}

// walk calls visit for each setting below v, and table for each struct that holds
// some. Fields without a toml tag, or with "-", are wired by the program. A tag that
// makes no sense is a mistake in the program: walk panics.
func walk(v reflect.Value, prefix string, table func(key string), visit func(*field)) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name := tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		f := &field{key: join(prefix, name), value: v.Field(i), min: tag.Get("min"), max: tag.Get("max")}
		if s := tag.Get("oneof"); s != "" {
			f.oneof = strings.Split(s, ",")
		}
		if s := tag.Get("alias"); s != "" {
			f.alias = make(map[string]string)
			for pair := range strings.SplitSeq(s, ",") {
				other, value, is := strings.Cut(pair, "=")
				if !is || plain(other) != other || !slices.Contains(f.oneof, value) {
					panic("config: " + f.key + " has the alias " + pair)
				}
				f.alias[other] = value
			}
		}
		if f.value.Kind() == reflect.Struct {
			table(f.key)
			walk(f.value, f.key, table, visit)
			continue
		}
		if f.expects() == "" {
			panic("config: " + f.key + " has the type " + f.value.Type().String())
		}
		visit(f)
	}
}

// plain returns text in lower case, letters and digits only.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r = unicode.ToLower(r); unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, text)
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// expects says what kind of value the field takes, with the present one as example.
func (f *field) expects() string {
	switch v := f.value.Interface().(type) {
	case time.Duration:
		return fmt.Sprintf("a duration, like %q", format(v))
	case string:
		return "text in quotes"
	case bool:
		return "true or false"
	case int, int64:
		return fmt.Sprintf("a whole number, like %d", v)
	case float64:
		return fmt.Sprintf("a number, like %v", v)
	case []string:
		return `a list of texts, like ["a", "b"]`
	}
	return ""
}

// assign sets the field from text, in the same way for TOML and the environment.
// It returns what is wrong with the text and leaves the field alone, or "".
func (f *field) assign(text string) string {
	var err error
	var limit string
	switch f.value.Interface().(type) {
	case time.Duration:
		var d time.Duration
		if d, err = time.ParseDuration(text); err == nil {
			if limit = outside(f, d, text, time.ParseDuration); limit == "" {
				f.value.SetInt(int64(d))
			}
		}
	case string:
		if f.oneof != nil && !slices.Contains(f.oneof, text) {
			near := f.alias[plain(text)]
			if near == "" {
				near = suggest.Nearest(text, f.oneof)
			}
			return fmt.Sprintf("%s is not one of %s%s", f.show(text), strings.Join(f.oneof, ", "), suggest.DidYouMean(near))
		}
		f.value.SetString(text)
	case bool:
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			f.value.SetBool(b)
		}
	case int, int64:
		var n int64
		n, err = parseInt(text)
		large := errors.Is(err, strconv.ErrRange) || f.value.OverflowInt(n)
		if large { // n is the largest or the least that there is
			err = nil
		}
		if err == nil {
			if limit = outside(f, n, text, parseInt); limit == "" && large {
				limit = f.bare(text) + " is too large"
			} else if limit == "" {
				f.value.SetInt(n)
			}
		}
	case float64:
		var n float64
		if n, err = parseFloat(text); err == nil {
			if limit = outside(f, n, text, parseFloat); limit == "" {
				f.value.SetFloat(n)
			}
		}
	case []string: // only from the environment; TOML has lists
		list := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		f.value.Set(reflect.ValueOf(list))
	}
	if err != nil {
		return f.show(text) + " is not " + f.expects()
	}
	return limit
}

func parseInt(s string) (int64, error) {
	if digits := strings.TrimLeft(s, "+-"); len(digits) > 1 && digits[0] == '0' && digits[1] <= '9' {
		return 0, strconv.ErrSyntax // not octal by accident
	}
	return strconv.ParseInt(s, 0, 64)
}

func parseFloat(s string) (float64, error) {
	n, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, strconv.ErrRange
	}
	return n, err
}

// outside says how n, written as text, breaks the min or max of the field, or "".
func outside[T cmp.Ordered](f *field, n T, text string, parse func(string) (T, error)) string {
	limit := func(s string) T {
		m, err := parse(s)
		if err != nil {
			panic("config: " + f.key + ": limit " + s + ": " + err.Error())
		}
		return m
	}
	allowed := f.min + " to " + f.max
	if f.max == "" {
		allowed = f.min + " or more"
	} else if f.min == "" {
		allowed = "up to " + f.max
	}
	if f.min != "" && n < limit(f.min) {
		return fmt.Sprintf("%s is below the least value, %s (allowed %s)", f.bare(text), f.min, allowed)
	}
	if f.max != "" && n > limit(f.max) {
		return fmt.Sprintf("%s is above the greatest value, %s (allowed %s)", f.bare(text), f.max, allowed)
	}
	return ""
}

// show quotes text for an error message. A secret is never shown.
func (f *field) show(text string) string {
	if f.secret() {
		return "the value"
	}
	return clip(strconv.Quote(text))
}

// bare is show for numbers and durations, which need no quotes.
func (f *field) bare(text string) string {
	if f.secret() {
		return "the value"
	}
	return clip(strings.TrimSpace(text))
}

// clip bounds what a message repeats of its cause.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:60]) + "…"
	}
	return s
}

func lastName(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// secret reports whether no message and no log may show the value. Names decide, so
// that a new setting is safe without a thought; addresses may hold a password.
func (f *field) secret() bool {
	return f.address() || slices.ContainsFunc([]string{"key", "secret", "password", "token"}, func(word string) bool {
		return lastName(f.key) == word || strings.HasSuffix(lastName(f.key), "_"+word)
	})
}

func (f *field) address() bool {
	return lastName(f.key) == "url" || lastName(f.key) == "dsn" || strings.HasSuffix(lastName(f.key), "_url")
}

// redacted returns the value for logs.
func (f *field) redacted() string {
	v := f.value.Interface()
	text, isText := v.(string)
	switch {
	case f.secret() && text == "" && isText:
		return ""
	case f.address():
		return redactAddress(text)
	case f.secret():
		return "(secret)"
	}
	if d, ok := v.(time.Duration); ok {
		return format(d)
	}
	return fmt.Sprint(v)
}

// redactAddress leaves scheme, host and path of each URL of a list. Anything it cannot
// take apart beyond doubt is hidden whole: a password may hold "/", "#", "," or "@".
func redactAddress(text string) string {
	const hidden = "(hidden)"
	if !strings.Contains(text, ":") && !strings.ContainsAny(text, "=@?") {
		return text // a path
	}
	parts := strings.Split(text, ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Scheme == "" {
			return hidden
		}
		ats := strings.Count(part, "@")
		if ats > 1 || ats == 1 && u.User == nil || u.Host == "" && u.Scheme != "file" {
			return hidden
		}
		if u.User != nil {
			u.User = url.User("xxxxx") // a NATS token is a user without a password
		}
		u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
		parts[i] = u.String()
	}
	return strings.Join(parts, ",")
}

// format writes a duration as people do: 720h, not 720h0m0s.
func format(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
