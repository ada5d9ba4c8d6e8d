package httpapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// listenError adds the cause and its fix to err, the error of listening on http.addr.
func listenError(addr string, err error) error {
	host, port, _ := net.SplitHostPort(addr)
	fix := "correct http.addr"
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		fix = fmt.Sprintf("port %s is in use: stop the program that listens there, or choose another port in http.addr", port)
	case errors.Is(err, fs.ErrPermission):
		fix = fmt.Sprintf("this user may not listen on port %s: choose a port of 1024 or above in http.addr, or grant CAP_NET_BIND_SERVICE", port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		fix = fmt.Sprintf("this machine has no address %s: write one of its addresses in http.addr, or :%s for all of them", host, port)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		fix = fmt.Sprintf("this machine has no such kind of address (IPv4, IPv6): write :%s in http.addr for all addresses", port)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		fix = "too many files are open: raise the limit of file descriptors (ulimit -n)"
	case errors.As(err, &dns) && dns.IsNotFound:
		fix = fmt.Sprintf("host %s is unknown: correct it in http.addr, or write :%s for all addresses of this machine", host, port)
	case errors.As(err, &dns):
		fix = fmt.Sprintf("host %s cannot be looked up: write an IP address in http.addr, or :%s for all addresses of this machine", host, port)
	}
	return fmt.Errorf("httpapi: listen on http.addr %q: %w; %s", addr, err, fix)
}
