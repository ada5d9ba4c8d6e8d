package httpapi

import "time"

// SetReseedAfter makes s merge the archive again after d instead of 3 s. Before Run only.
func SetReseedAfter(s *Server, d time.Duration) { s.reseedAfter = d }
