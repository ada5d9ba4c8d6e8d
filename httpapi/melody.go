package httpapi

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
)

// sessionOf returns the session that melody's session stands for.
func sessionOf(m *melody.Session) *session {
	return m.WebsocketConnection().UnderlyingConn().(*edgeConn).session
}

// newMelody returns the melody that upgrades and reads for s. It never writes: see edgeConn.
// So its writer, a goroutine that each session would have for nothing, is told to close, which ends
// it and leaves the reader alone; gorilla, which saw that, says no more when a peer breaks the
// protocol, and the session does it.
func (s *Server) newMelody() *melody.Melody {
	m := melody.New()
	m.Upgrader.CheckOrigin = s.originAllowed
	m.Upgrader.HandshakeTimeout = 5 * time.Second
	m.Upgrader.ReadBufferSize = 256 // Each session has one.
	m.Upgrader.WriteBufferSize = 256
	m.Upgrader.WriteBufferPool = new(sync.Pool)
	m.Config.MaxMessageSize = int64(s.cfg.Edge.MaxFrameBytes)
	m.Config.MessageBufferSize = 1 // For the close.
	m.Config.PongWait = 2 * s.cfg.Edge.PingInterval
	m.Config.PingPeriod = 10 * 365 * 24 * time.Hour // Pings leave through our own writer.
	m.Config.ConcurrentMessageHandling = false
	m.HandleConnect(func(ms *melody.Session) {
		sess := sessionOf(ms)
		ms.Request = nil // It would stay in memory as long as the session.
		ws := ms.WebsocketConnection()
		ws.SetPingHandler(func(data string) error { sess.conn.owed += controlCost; sess.pong(data); return nil })
		ws.SetCloseHandler(func(code int, _ string) error { sess.peerClose(code); return nil })
		_ = ms.Close() // Melody's writer; an error would be that it has ended.
		sess.open()
	})
	m.HandlePong(func(ms *melody.Session) { sessionOf(ms).conn.owed += controlCost })
	m.HandleError(func(ms *melody.Session, err error) { sessionOf(ms).broke(err) })
	m.HandleMessage(func(ms *melody.Session, data []byte) { sessionOf(ms).receive(opText, data) })
	m.HandleMessageBinary(func(ms *melody.Session, data []byte) { sessionOf(ms).receive(opBinary, data) })
	return m
}

// broke closes the session if err, with which reading ended, is a breach of the protocol.
func (s *session) broke(err error) {
	if errors.Is(err, websocket.ErrReadLimit) {
		s.close(closeTooBig, "")
		return
	}
	// Of other breaches gorilla has no more than the text.
	var closed *websocket.CloseError
	if what, breach := strings.CutPrefix(err.Error(), "websocket: "); breach && !errors.As(err, &closed) {
		s.close(closeProtocol, what)
	}
}
