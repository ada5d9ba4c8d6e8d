package httpapi

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/auth"
	"burrow/gen/edge"
)

// Where something on the way lets no WebSocket through, Server-Sent Events carry the frames of v1
// to the client, and requests (see post.go) what it says. It is the same session with another
// dialect: it joins, resumes, waits, is too slow and ends as one over a WebSocket.

// maxStray bounds what a client may send after its request, which nobody reads.
const maxStray = 4 << 10

// commentEvent says that the connection lives.
var commentEvent = frame(":\n\n")

// encodeEvent returns f as an event with a batch of its own. The id of a message is that of
// the event, so that a browser comes back with it.
func encodeEvent(f *edge.ServerFrame) frame {
	var e frame
	if c := f.GetChat(); c != nil && !strings.ContainsAny(c.GetId(), "\r\n\x00") {
		e = append(append(append(e, "id: "...), c.GetId()...), '\n')
	}
	e = append(append(e, "data: "...), batchOpen...)
	e = appendJSON(e, f.ProtoReflect())
	return append(append(e, batchClose...), "\n\n"...)
}

// closeEvent is the last event: what a close frame is to a WebSocket. When it says when to come back, a
// browser does that by itself.
func closeEvent(code int, reason string) frame {
	var e frame
	if ms, ok := strings.CutPrefix(reason, "retry-ms="); ok {
		e = fmt.Appendf(e, "retry: %s\n", ms)
	}
	e = append(e, "event: close\ndata: {\"code\":"...)
	e = append(strconv.AppendInt(e, int64(code), 10), `,"reason":`...)
	return append(appendString(e, reason), "}\n\n"...)
}

// events opens a session over Server-Sent Events.
func (s *Server) events(c echo.Context) error {
	r := c.Request()
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header["Origin"] == nil && (site == "cross-site" || site == "same-site") {
		return errForeignOrigin // An image of another site, say: it could not read, but it would be there.
	}
	user := ""
	query := r.URL.Query()
	if raw := query.Get("client_id"); raw != "" {
		var err error
		c.Set(userKey, raw)
		if user, err = auth.ValidName(raw); err != nil {
			return errInvalidClientID
		}
	}
	name := ""
	if raw := query.Get("stream"); raw != "" {
		var ok bool
		if name, ok = parseID(raw); !ok {
			return badRequest("stream must be a UUID that you make for it")
		}
	}
	since := query.Get("since")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		since = last
	}
	if query.Has("poll") {
		return s.answerPoll(c, user, name, since)
	}
	who, err := s.admit(c, user)
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform") // A proxy that compresses would hold it back.
	header.Set("X-Accel-Buffering", "no")
	header.Set("Connection", "close")
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&head) // Into memory.
	head.WriteString("\r\n")
	conn, buffered, leave, err := s.hijack(c)
	if err != nil {
		return err
	}

	sess := s.newSession(conn, who, c.RealIP(), v1Events)
	sess.name, sess.since = name, since
	stray := buffered.Reader.Buffered()
	go func() {
		defer leave()
		sess.run(func(conn net.Conn) error { return sess.stream(conn, head.Bytes(), stray) })
	}()
	return nil
}

// stream answers the request with head, joins, and returns when the client has gone or the session
// has ended. Of what the client sends after its request, stray bytes are here already.
func (s *session) stream(conn net.Conn, head []byte, stray int) error {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // The write says what is wrong.
	if _, err := conn.Write(head); err != nil {
		return err
	}
	// There are no pongs: that a peer has vanished is seen when what is sent stays unanswered.
	boundSession(s.conn.Conn, 2*s.server.cfg.Edge.PingInterval)
	s.open()
	buf := make([]byte, 256)
	for {
		n, err := s.conn.Conn.Read(buf)
		if err != nil {
			return nil // It has gone, or the session is over.
		}
		if stray += n; stray > maxStray {
			s.close(closeUnsupportedData, "nothing is read here: send with POST /api/messages")
		}
	}
}
