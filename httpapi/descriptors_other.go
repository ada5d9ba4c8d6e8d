//go:build !unix

package httpapi

// descriptorLimit returns 0: here sockets are no files, and not limited with them.
func descriptorLimit() int { return 0 }
