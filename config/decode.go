package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"burrow/internal/suggest"
)

// decoder fills a struct from a file and the environment, and collects everything
// that is wrong with them. It is for one load.
type decoder struct {
	fields map[string]*field
	keys   []string           // of fields, in their order
	tables map[string]bool    // full names; "" is the top of the file
	origin map[string]Problem // where a key got its value, without a message
	bad    map[string]bool    // keys with a problem

	torn bool // a part of the file was not understood

	problems []*Problem

	name   string // of the file
	data   []byte // all of it
	base   int    // where in data the parser started
	table  string // of the keys that come next
	skip   bool   // that table is unknown: one complaint is enough
	opened map[string]int
}

func newDecoder(target any) *decoder {
	d := &decoder{
		fields: map[string]*field{}, tables: map[string]bool{"": true},
		origin: map[string]Problem{}, bad: map[string]bool{}, opened: map[string]int{},
	}
	walk(reflect.ValueOf(target).Elem(), "", func(t string) { d.tables[t] = true }, func(f *field) {
		d.fields[f.key] = f
		d.keys = append(d.keys, f.key)
	})
	return d
}

// complain records a problem of key at the place of at.
func (d *decoder) complain(at Problem, key, format string, args ...any) {
	at.Key, at.Message = key, fmt.Sprintf(format, args...)
	d.bad[key] = true
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, &at)
	}
}

// err returns what was collected as an *Error, or nil.
func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	sortProblems(d.problems)
	return &Error{Problems: d.problems}
}

// file reads TOML. After a mistake on one line it goes on with the next, so that one
// missing quote does not hide the rest; after a longer one it cannot know where to.
func (d *decoder) file(name string, data []byte) {
	d.name, d.data = name, bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var p unstable.Parser
	for d.base < len(d.data) && len(d.problems) < maxProblems {
		rest := d.data[d.base:]
		p.Reset(rest)
		end := 0 // of the last good expression
		for p.NextExpression() && len(d.problems) < maxProblems {
			end = d.expression(p.Expression())
		}
		var bad *unstable.ParserError
		if !errors.As(p.Error(), &bad) {
			break
		}
		off := min(max(cap(rest)-cap(bad.Highlight), 0), len(rest))
		d.torn = true
		d.complain(d.at(d.base+off), "", "%s", syntax(bad.Message))
		start := min(beginning(rest, end), off)
		next := bytes.IndexByte(rest[off:], '\n')
		if next < 0 || bytes.IndexByte(rest[start:off], '\n') >= 0 {
			return
		}
		if bytes.HasPrefix(rest[start:], []byte("[")) {
			d.skip = true // whose keys come next is not known
		}
		d.base += off + next + 1
	}
	if len(d.problems) > 0 {
		return
	}
	// What the parser lets pass is not TOML yet: a table that reopens a dotted one, for instance.
	var bad *toml.DecodeError
	if err := toml.Unmarshal(d.data, &map[string]any{}); errors.As(err, &bad) {
		line, column := bad.Position()
		d.complain(Problem{File: name, Line: line, Column: column}, "", "%s", syntax(strings.TrimPrefix(bad.Error(), "toml: ")))
	}
}

// beginning skips the end of the line at end, blank lines and comments.
func beginning(data []byte, end int) int {
	for end < len(data) {
		switch data[end] {
		case ' ', '\t', '\r', '\n', ']':
			end++
		case '#':
			n := bytes.IndexByte(data[end:], '\n')
			if n < 0 {
				return end
			}
			end += n
		default:
			return end
		}
	}
	return end
}

var character = regexp.MustCompile(`( but got|:|)? U\+[0-9A-F]{4,}( '.*')?`)

// syntax makes the parser's words ours. They may quote a character of a secret.
func syntax(message string) string {
	message = character.ReplaceAllString(message, "")
	switch {
	case message == "strings must be quoted", message == "unexpected character at start of value", strings.HasPrefix(message, "expected keyword"):
		return "this is no value; text and durations need quotes"
	case message == "expected newline":
		return "the line should end here; text and durations need quotes"
	}
	return message
}

// at turns an offset into a place in the file.
func (d *decoder) at(offset int) Problem {
	before := d.data[:min(offset, len(d.data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Problem{File: d.name, Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1}
}

// expression takes one table header or one key and returns where it ends.
func (d *decoder) expression(n *unstable.Node) int {
	if n.Kind == unstable.KeyValue {
		if !d.skip {
			d.keyValue(n, d.table)
		}
		return int(n.Raw.Offset + n.Raw.Length)
	}
	name, start, end := key(n)
	at := d.at(d.base + start)
	d.table, d.skip = name, !d.tables[name]
	switch line, again := d.opened[name]; {
	case d.skip:
		d.unknown(at, name, true)
	case n.Kind == unstable.ArrayTable:
		d.complain(at, name, "there is one such table; write [%s]", name)
	case again:
		d.complain(at, name, "the table is already on line %d; put its keys there", line)
	}
	d.opened[name] = at.Line
	return end
}

// key returns the dotted key of n, and its first and last offset. Parts that would
// be ambiguous between dots are quoted, and so are like no key of ours.
func key(n *unstable.Node) (name string, start, end int) {
	start = -1
	for it := n.Key(); it.Next(); {
		part := it.Node()
		text := string(part.Data)
		if !bareKey.MatchString(text) {
			text = strconv.Quote(text)
		}
		name = join(name, text)
		if start < 0 {
			start = int(part.Raw.Offset)
		}
		end = int(part.Raw.Offset + part.Raw.Length)
	}
	return name, start, end
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// keyValue takes `key = value` of the given table.
func (d *decoder) keyValue(n *unstable.Node, table string) {
	name, start, end := key(n)
	name = join(table, name)
	f, value := d.fields[name], n.Value()
	keyAt := d.at(d.base + start)
	// Lists have no position of their own: look behind the equals sign.
	rest := d.data[d.base+end:]
	at := d.at(d.base + end + len(rest) - len(bytes.TrimLeft(rest, " \t=")))
	switch first, again := d.origin[name]; {
	case d.tables[name] && value.Kind == unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			d.keyValue(it.Node(), name)
		}
	case d.tables[name]:
		d.complain(at, name, "this is a table; write [%s] and its keys below", name)
	case f == nil:
		d.unknown(keyAt, name, false)
	case again:
		d.complain(keyAt, name, "already set on line %d", first.Line)
	default:
		d.origin[name] = at
		d.value(f, value, at)
	}
}

// value sets f from a TOML value.
func (d *decoder) value(f *field, n *unstable.Node, at Problem) {
	ok, text := false, string(n.Data)
	switch f.value.Kind() {
	case reflect.String:
		ok = n.Kind == unstable.String
	case reflect.Bool:
		ok = n.Kind == unstable.Bool
	case reflect.Float64:
		ok = n.Kind == unstable.Float || n.Kind == unstable.Integer
	case reflect.Int, reflect.Int64:
		ok = n.Kind == unstable.Integer
		if f.value.Type() == reflect.TypeFor[time.Duration]() {
			ok = n.Kind == unstable.String
		}
	case reflect.Slice:
		list := []string{}
		for it := n.Children(); n.Kind == unstable.Array && it.Next(); {
			if it.Node().Kind != unstable.String {
				d.complain(at, f.key, "the list holds %s; expected %s", kind(it.Node().Kind), f.expects())
				return
			}
			list = append(list, string(it.Node().Data))
		}
		if n.Kind == unstable.Array {
			f.value.Set(reflect.ValueOf(list))
			return
		}
	}
	if !ok {
		d.complain(at, f.key, "this is %s; expected %s", kind(n.Kind), f.expects())
	} else if wrong := f.assign(text); wrong != "" {
		d.complain(at, f.key, "%s", wrong)
	}
}

func kind(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "text"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer:
		return "a whole number"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}

// unknown says what name, a key or a table, may have been meant to be.
func (d *decoder) unknown(at Problem, name string, isTable bool) {
	what, candidates := "key", d.keys
	if isTable {
		what, candidates = "table", slices.Sorted(maps.Keys(d.tables))[1:] // not ""
	}
	near := suggest.Nearest(name, candidates)
	for i, c := range name + "." {
		if c == '.' && d.fields[name[:i]] != nil {
			d.complain(at, clip(name), "%s is a key, not a table", name[:i])
			return
		}
	}
	if i := slices.IndexFunc(d.keys, func(k string) bool { return lastName(k) == lastName(name) }); near == "" && i >= 0 && !isTable {
		near = d.keys[i] // the right key in the wrong table
	}
	if isTable && near != "" {
		near = "[" + near + "]"
	}
	d.complain(at, clip(name), "unknown %s%s", what, suggest.DidYouMean(near))
}
