package client

import (
	"fmt"
	"slices"
	"time"

	"burrow/gen/edge"
)

// Message is one thing that was said.
type Message struct {
	// ID is a UUID; greater ids, as text, are later messages.
	ID string
	// Sender said it.
	Sender string
	// Content is text, never markup.
	Content string
	// To is for whom: a user, or empty for everyone.
	To string
	// SentAt is when the server took it, in milliseconds.
	SentAt time.Time
	// Ref is what the sender called it; empty if they did not.
	Ref string
	// Old means that it was said before the Conn was there, and is one of those that
	// every newcomer gets. A bot has no answer for these.
	Old bool
}

func newMessage(c *edge.Chat) Message {
	return Message{
		ID: c.GetId(), Sender: c.GetSender(), Content: c.GetContent(), To: c.GetToUser(),
		SentAt: c.GetSentAt().AsTime(), Ref: c.GetRef(),
	}
}

// Sent is a message that was taken.
type Sent struct {
	// Ref is what it was called.
	Ref string
	// ID is what it has in Messages and in the history.
	ID string
	// At is when the server took it first.
	At time.Time
}

// Presence is who is online.
type Presence struct {
	// Users are the names that are known, sorted: all, unless there are more than the
	// server tells of.
	Users []string
	// Total is how many are online.
	Total int
}

func (p Presence) sorted() Presence {
	slices.Sort(p.Users)
	return p
}

// Event is one of Connected, Disconnected, Gap, StatusChange and Typing.
type Event interface{ isEvent() }

// Connected says that there is a connection.
type Connected struct {
	// Node is the process that one is connected to.
	Node string
	// Again means that it is not the first one of this Conn.
	Again bool
	// Fallback means that it is no WebSocket, because something on the way lets none through.
	Fallback bool
	// ClockAhead is how far the clock of the server is before this one.
	ClockAhead time.Duration
}

// Disconnected says that the connection is gone, or that an attempt failed.
type Disconnected struct {
	// Err is why: a *CloseError if the server said it, an *Error if it let nobody in.
	Err error
	// Retry is after how long the next attempt is made.
	Retry time.Duration
}

// Gap says that messages are missing before the next one, and that this client cannot have them.
type Gap struct {
	// Private means private messages, which no archive keeps. Otherwise there are more than
	// Config.CatchUp in the archive, or it did not answer.
	Private bool
}

// StatusChange says who came and who left; Conn.Presence has it already. After a connection was
// made again it is what has changed meanwhile.
type StatusChange struct {
	Online, Offline []string
	// Total is how many are online.
	Total int
}

// Typing says that somebody is writing: show it for 5 seconds.
type Typing struct {
	// User is writing.
	User string
	// To is to whom: one's own name, or empty for everyone.
	To string
}

func (Connected) isEvent()    {}
func (Disconnected) isEvent() {}
func (Gap) isEvent()          {}
func (StatusChange) isEvent() {}
func (Typing) isEvent()       {}

// Error is what the server did not want.
type Error struct {
	// Code is for programs; docs/protocol.md lists them.
	Code string
	// Message is for people.
	Message string
	// Status is that of HTTP, or 0 if it was said in a frame.
	Status int
	// RetryAfter is after how long it may be better; 0: that was not said.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// CloseError is how the server ended a connection.
type CloseError struct {
	// Code is that of the close frame; docs/protocol.md lists them.
	Code int
	// Reason is for people, but for the retry-ms of 1012.
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %s", e.Code, e.Reason) }
