package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A cookie is base64url(payload) "." base64url(signature). The payload is
//
//	version  1 byte, tokenVersion
//	expires  8 bytes, Unix seconds, big-endian
//	owner    ownerBytes
//	name     the rest, in UTF-8
//
// and the signature HMAC-SHA256 of the payload with the key.
const (
	tokenVersion = 1
	ownerBytes   = 16
	headerBytes  = 1 + 8 + ownerBytes
	maxCookie    = 1024 // bytes; none of ours is longer
)

// Strict, so that nothing but what seal returned is a cookie.
var encoding = base64.RawURLEncoding.Strict()

// seal returns the cookie that proves s.
func (a *Auth) seal(s Session) (string, error) {
	owner, err := hex.DecodeString(s.Owner)
	if err != nil || len(owner) != ownerBytes {
		return "", fmt.Errorf("auth: %q is not an owner", s.Owner)
	}
	payload := make([]byte, 0, headerBytes+len(s.Name))
	payload = append(payload, tokenVersion)
	payload = binary.BigEndian.AppendUint64(payload, uint64(s.Expires.Unix()))
	payload = append(payload, owner...)
	payload = append(payload, s.Name...)
	return encoding.EncodeToString(payload) + "." + encoding.EncodeToString(a.sign(payload)), nil
}

// open returns the session that cookie was sealed for, if that has not expired at
// now. The error is ErrNoSession.
func (a *Auth) open(cookie string, now time.Time) (Session, error) {
	no := func(why string) (Session, error) {
		return Session{}, fmt.Errorf("auth: the cookie %s: %w", why, ErrNoSession)
	}
	switch {
	case cookie == "":
		return no("is missing")
	case len(cookie) > maxCookie:
		return no("is too long")
	case strings.ContainsAny(cookie, "\r\n"): // base64 would skip them
		return no("is damaged")
	}
	left, right, _ := strings.Cut(cookie, ".")
	payload, err := encoding.DecodeString(left)
	if err != nil {
		return no("is damaged")
	}
	signature, err := encoding.DecodeString(right)
	// Nothing in the payload means anything before this. hmac.Equal takes the same
	// time wherever the two differ.
	if err != nil || !hmac.Equal(signature, a.sign(payload)) {
		return no("has a wrong signature")
	}
	if len(payload) < headerBytes || payload[0] != tokenVersion {
		return no("is of another version")
	}
	s := Session{
		Name:    string(payload[headerBytes:]),
		Owner:   hex.EncodeToString(payload[9:headerBytes]),
		Expires: time.Unix(int64(binary.BigEndian.Uint64(payload[1:9])), 0),
	}
	if !now.Before(s.Expires) {
		return no("has expired")
	}
	// The rules for names may have changed since.
	if name, err := ValidName(s.Name); err != nil || name != s.Name {
		return no("holds a name that is no longer allowed")
	}
	return s, nil
}

// sign returns the signature of payload. The prefix keeps what is signed here apart
// from whatever else the key may sign one day.
func (a *Auth) sign(payload []byte) []byte {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte("burrow session\x00"))
	h.Write(payload)
	return h.Sum(nil)
}
