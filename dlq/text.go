package dlq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxError bounds an error in a table, in characters.
	maxError = 60
	// maxText bounds the payload shown to a person, in bytes.
	maxText = 16 << 10
)

// WriteTable writes a page for a person. What letters hold cannot act on the
// terminal, here and in WriteLetter: control characters, those that change the
// direction of text, and everything else that is not seen are escaped.
func WriteTable(w io.Writer, p *Page) error {
	if len(p.Letters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tFUNCTION\tTOPIC\tFAILED (UTC)\tATTEMPTS\tREPLAYS\tERROR")
	for _, l := range p.Letters {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", l.ID, Inert(l.State), Inert(l.Function), Inert(l.Topic),
			when(l.FailedAt), l.Attempts, l.Replays, clipped(Inert(l.Error), maxError))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p.HasMore {
		_, err := fmt.Fprintf(w, "there are more: go on with -before %d\n", p.Letters[len(p.Letters)-1].ID)
		return err
	}
	return nil
}

// WriteLetter writes all of a letter for a person.
func WriteLetter(w io.Writer, l *Letter) error {
	var b bytes.Buffer
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("id", "%d", l.ID)
	line("state", "%s since %s", Inert(l.State), when(l.Since))
	line("function", "%s", Inert(l.Function))
	line("topic", "%s", Inert(l.Topic))
	line("message", "%s", Inert(l.MessageID))
	if l.TraceID != "" {
		line("trace", "%s", Inert(l.TraceID))
	}
	line("failed", "%s, attempts %d, replays %d", when(l.FailedAt), l.Attempts, l.Replays)
	line("error", "%s", Inert(l.Error))
	if l.RequestedAt != "" {
		line("requested", "%s by %s", when(l.RequestedAt), Inert(l.RequestedBy))
	}
	if l.Note != "" {
		line("not sent", "%s", Inert(l.Note))
	}
	if l.Refused != "" {
		line("refused", "a replay would be: %s", Inert(l.Refused))
	}
	for i, a := range l.Actions {
		name := ""
		if i == 0 {
			name = "actions"
		}
		more := ""
		if a.Note != "" {
			more = ": " + Inert(a.Note)
		}
		line(name, "%s %s, by %s%s", when(a.At), Inert(a.What), Inert(a.Who), clipped(more, 2*maxError))
	}
	for i, key := range slices.Sorted(maps.Keys(l.Metadata)) {
		name := ""
		if i == 0 {
			name = "metadata"
		}
		line(name, "%s = %s", Inert(key), Inert(l.Metadata[key]))
	}
	writePayload(&b, l)
	_, err := w.Write(b.Bytes())
	return err
}

func writePayload(b *bytes.Buffer, l *Letter) {
	kind, text := "in base64", []byte(l.PayloadBase64)
	if l.Payload != nil {
		kind = "as JSON"
		var indented bytes.Buffer
		if json.Indent(&indented, l.Payload, "", "  ") == nil {
			text = indented.Bytes()
		}
	}
	fmt.Fprintf(b, "%-10s %d bytes, %s:\n", "payload", l.Bytes, kind)
	cut := len(text) > maxText
	for line := range strings.Lines(string(text[:min(len(text), maxText)])) {
		b.WriteString(Inert(strings.TrimSuffix(line, "\n")))
		b.WriteByte('\n')
	}
	if cut || l.Truncated {
		b.WriteString("… and more, which -json shows, up to a MiB\n")
	}
}

// Inert returns s in one line that a terminal only shows: whatever is not a
// visible character or a space is written as an escape of Go.
func Inert(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteString(s[:n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// JSON returns v as JSON that a terminal only shows: what Inert escapes is escaped
// here in JSON's own way. v is one of this package's, which can always be encoded.
func JSON(v any) []byte {
	var encoded bytes.Buffer
	enc := json.NewEncoder(&encoded)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("dlq: %T cannot be JSON: %v", v, err))
	}
	var b bytes.Buffer
	for _, r := range encoded.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		}
	}
	return b.Bytes()
}

// when shortens a stamp for people, to the second.
func when(stamp string) string {
	if len(stamp) < 19 {
		return stamp
	}
	return stamp[:10] + " " + stamp[11:19]
}

// clipped returns at most n characters of s.
func clipped(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
