// Package secretfile keeps a random secret in a file of data_dir. All processes of one
// directory use the same secret.
package secretfile

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"burrow/internal/writable"
)

const (
	// MinBytes is the least length of a secret.
	MinBytes = 32
	maxBytes = 64 << 10
	// writeWait bounds the wait for another process in the middle of its write.
	writeWait = time.Second
)

// File names a secret.
type File struct {
	Dir, Name string
	// Replaced is the effect of a new secret, for the advice about a damaged file.
	Replaced string
	Log      *slog.Logger // Required.
	// Rehearsal makes Load return a random secret in place of a missing file, if the file could be created.
	Rehearsal bool
}

// Path returns the place of the file.
func (f File) Path() string { return filepath.Join(f.Dir, f.Name) }

// Load returns the secret and creates the file if there is none. Processes that start at the
// same time get the same secret. It warns of a file that other users can read.
func (f File) Load() ([]byte, error) {
	secret, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		if f.Rehearsal {
			return New(), writable.Dir(f.Dir)
		}
		if err = f.create(); err == nil {
			secret, err = f.read() // The file decides: another process may have been first.
		}
	}
	if err == nil {
		WarnIfExposed(f.Path(), f.Log)
	}
	return secret, err
}

// New returns a random secret as printable text.
func New() []byte {
	var secret [MinBytes]byte
	_, _ = rand.Read(secret[:]) // Never fails: it ends the program instead.
	return []byte(base64.StdEncoding.EncodeToString(secret[:]))
}

// read returns the secret in the file. A short file may be incomplete: read waits for it.
func (f File) read() ([]byte, error) {
	for deadline := time.Now().Add(writeWait); ; time.Sleep(10 * time.Millisecond) {
		data, err := ReadRegular(f.Path(), maxBytes)
		if err != nil {
			return nil, err
		}
		if secret := bytes.TrimSpace(data); len(secret) >= MinBytes {
			return secret, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s holds less than the %d bytes of a secret; remove it, and a new one is made (%s)", f.Path(), MinBytes, f.Replaced)
		}
	}
}

// create writes a new secret to the file, whole or not at all, unless the file exists by then.
// A power failure does not lose it.
func (f File) create() error {
	if err := os.MkdirAll(f.Dir, 0o750); err != nil {
		return err
	}
	line := append(New(), '\n')
	temp, err := os.CreateTemp(f.Dir, f.Name+".*") // Mode 0600.
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := write(temp, line); err != nil {
		return err
	}
	// Unlike a rename, a link fails if another process was first.
	err = os.Link(temp.Name(), f.Path())
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links. Other processes may see the empty file, and wait.
		var file *os.File
		if file, err = os.OpenFile(f.Path(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			err = write(file, line)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d, err := os.Open(f.Dir); err == nil {
		_ = d.Sync() // Not supported everywhere, and the file itself is synced.
		_ = d.Close()
	}
	return nil
}

func write(f *os.File, line []byte) error {
	_, err := f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadRegular reads a regular file of up to limit bytes: a pipe could block the start.
func ReadRegular(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(content) > limit {
		err = fmt.Errorf("%s has over %d bytes, too many for a key", path, limit)
	}
	return content, err
}

// WarnIfExposed logs a warning if every user of this host can read or write the secret in path.
func WarnIfExposed(path string, log *slog.Logger) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("secret is open to every user of this host; run chmod o= on the file", "file", path, "mode", info.Mode().Perm().String())
	}
}
