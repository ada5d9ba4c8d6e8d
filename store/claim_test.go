package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"burrow/store"
	"burrow/store/storetest"
)

// Nobody loses a name when a later version compares names in another way.
func TestClaim_NamesOfAnEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	db := storetest.Database(t, filepath.Join(dir, "burrow.db"), 7)
	expires := time.Now().Add(time.Hour).UnixMicro()
	held := map[string]string{"Viewer": "viewer", "V\u0456ewer": "v\u0456ewer"} // look alike; held by two
	for i := range 600 {                                                        // more than one batch
		held[fmt.Sprintf("User %d", i)] = fmt.Sprintf("user %d", i)
	}
	for name, key := range held {
		if _, err := db.Exec("INSERT INTO claims (name_key, name, owner, expires_at, since) VALUES (?, ?, ?, ?, 1)", key, name, "of "+name, expires); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, store.Config{DataDir: dir})
	for name := range held {
		if spelling, since, err := s.Holds(t.Context(), name, "of "+name); err != nil || spelling != name || since.UnixMicro() != 1 {
			t.Errorf("%q is held as %q since %v, %v", name, spelling, since, err)
		}
	}
	for _, name := range []string{"Viewer", "V\u0456ewer", "viewer"} {
		owner := "of V\u0456ewer"
		if name != "V\u0456ewer" {
			owner = "of Viewer"
		}
		if err := s.Claim(t.Context(), name, owner, time.Hour); err != nil {
			t.Errorf("%q is not renewed: %v", name, err)
		}
	}
	for _, name := range []string{"view\u0435r", "VIEWER", "User l", "user \u0661", "us\u0435r 599"} {
		if err := s.Claim(t.Context(), name, "new", time.Hour); !errors.Is(err, store.ErrTaken) {
			t.Errorf("%q, which looks like a name of before: %v", name, err)
		}
	}
	if err := s.Claim(t.Context(), "reviewer", "new", time.Hour); err != nil {
		t.Error(err)
	}
}
