package router

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// refusal is an answer of the broker with the same result at each retry. Its text names
// the fix.
type refusal struct {
	err error
	fix string
}

func (r refusal) Error() string { return r.err.Error() + "; " + r.fix }

func (r refusal) Unwrap() error { return r.err }

// advised adds a fix to err.
func advised(err error, format string, args ...any) error {
	return refusal{err, fmt.Sprintf(format, args...)}
}

// dialFix returns the fix for a broker that could not be reached. key is the setting
// of its URL.
func dialFix(err error, key string) string {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the host is unknown: correct it in " + key
	case errors.As(err, &dns):
		return "the host could not be looked up: check the name service of this machine, or write an IP address in " + key
	case errors.As(err, &authority):
		return "the certificate is of an unknown authority: set SSL_CERT_FILE to the file of that authority"
	case errors.As(err, &hostname):
		return "the certificate is for another host: write the name of the certificate in " + key
	case errors.As(err, &invalid):
		return "renew the certificate of the server, or correct the clock of this machine"
	case errors.As(err, &record), strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return "the server does not speak TLS on that port: correct the scheme or the port in " + key
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the server closed the connection: check whether it requires TLS or listens for another protocol there, and correct " + key
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it: check the network, or correct " + key
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "nothing answers there: start it, or correct host, port and scheme (TLS) in " + key
	}
	return "start it or correct " + key
}
