package httpapi

import (
	"sync"
	"time"

	"github.com/olahol/melody"
)

// sessionOf returns the session that melody's session stands for.
func sessionOf(m *melody.Session) *session {
	return m.WebsocketConnection().UnderlyingConn().(*edgeConn).session
}

// newMelody returns the melody that upgrades and reads for s. It never writes: see edgeConn.
func (s *Server) newMelody() *melody.Melody {
	m := melody.New()
	m.Upgrader.CheckOrigin = s.originAllowed
	m.Upgrader.HandshakeTimeout = 5 * time.Second
	m.Upgrader.ReadBufferSize = 1024
	m.Upgrader.WriteBufferSize = 256
	m.Upgrader.WriteBufferPool = new(sync.Pool)
	m.Config.MaxMessageSize = int64(s.cfg.Edge.MaxFrameBytes)
	m.Config.MessageBufferSize = 1 // Nothing is ever put into it.
	m.Config.PongWait = 2 * s.cfg.Edge.PingInterval
	m.Config.PingPeriod = 10 * 365 * 24 * time.Hour // Pings leave through our own writer.
	m.Config.ConcurrentMessageHandling = false
	m.HandleConnect(func(ms *melody.Session) {
		sess := sessionOf(ms)
		ms.Request = nil // It would stay in memory as long as the session.
		ws := ms.WebsocketConnection()
		ws.SetPingHandler(func(data string) error { sess.pong(data); return nil })
		ws.SetCloseHandler(func(code int, _ string) error { sess.peerClose(code); return nil })
		sess.open()
	})
	m.HandleMessage(func(ms *melody.Session, data []byte) { sessionOf(ms).receive(opText, data) })
	m.HandleMessageBinary(func(ms *melody.Session, data []byte) { sessionOf(ms).receive(opBinary, data) })
	return m
}
