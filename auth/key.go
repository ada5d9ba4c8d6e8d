package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	keyFile  = "cookie.key"
	keyBytes = 32 // the least a key may have
	// keyWait bounds the wait for another process that is just writing the file.
	keyWait = time.Second
)

// loadKey returns the key: the text that was configured, or what the file in dir
// holds, which is made if there is none.
func loadKey(text, dir string) ([]byte, error) {
	if text != "" {
		return []byte(strings.TrimSpace(text)), nil
	}
	if dir == "" {
		return newKey(), nil
	}
	path := filepath.Join(dir, keyFile)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(dir, path); err == nil {
			// Also by who made it: the file is what all processes agree on.
			key, err = readKey(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("auth: cookie key: %w", err)
	}
	return key, nil
}

// newKey returns a random key as text, as a person could have configured it.
func newKey() []byte {
	var key [keyBytes]byte
	_, _ = rand.Read(key[:]) // never fails: it ends the program instead
	return []byte(base64.StdEncoding.EncodeToString(key[:]))
}

// readKey reads the file. One that is too short may not be finished yet.
func readKey(path string) ([]byte, error) {
	for deadline := time.Now().Add(keyWait); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if key := bytes.TrimSpace(data); len(key) >= keyBytes {
			return key, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s holds less than the %d bytes of a key; remove it, and a new key is made (everyone has to sign in again)", path, keyBytes)
		}
	}
}

// makeKey puts a new key at path, whole or not at all, unless there is a file by
// then. A power failure does not lose it, as that would sign everyone out.
func makeKey(dir, path string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	line := append(newKey(), '\n')
	temp, err := os.CreateTemp(dir, keyFile+".*") // 0600, and of a name that is new
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := writeKey(temp, line); err != nil {
		return err
	}
	// Unlike a rename, a link fails when another process was first.
	err = os.Link(temp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links. Here others may see the file before the key is
		// in it, and wait.
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			err = writeKey(f, line)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // not every system can, and the file itself is safe
		_ = d.Close()
	}
	return nil
}

func writeKey(f *os.File, line []byte) error {
	_, err := f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}
