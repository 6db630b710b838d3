// Package secret holds values that must never be printed: keys, passwords.
package secret

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unique"
)

// mask is all that any formatting of a Secret shows.
const mask = "***"

// maxFile bounds a secret file, so that a wrong path cannot fill the memory.
const maxFile = 64 << 10

// A Secret is a value that prints as three stars wherever it is formatted or
// encoded. The zero value is an absent secret. Secrets of the same value are
// equal.
//
// The value lies behind a pointer: package fmt reads unexported fields of
// structs around a Secret without asking its methods, and sees an address.
type Secret struct{ value unique.Handle[string] }

// New wraps a value that is already known, such as one from the environment.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{unique.Make(value)}
}

// Reveal returns the value. Call it where the value is used, never to log it.
func (s Secret) Reveal() string {
	if !s.Set() {
		return ""
	}
	return s.value.Value()
}

// Set reports whether there is a value.
func (s Secret) Set() bool { return s != Secret{} }

// Format implements fmt.Formatter, so that no verb shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.shown())) }

// String returns three stars, or nothing for an absent secret.
func (s Secret) String() string { return s.shown() }

// MarshalText implements encoding.TextMarshaler for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.shown()), nil }

// GoString returns what String does, so that not even %#v of a struct around it
// shows the value.
func (s Secret) GoString() string { return s.shown() }

// UnmarshalText reads a reference, as [Parse] does, in the environment of the
// process.
func (s *Secret) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text), os.Getenv)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Parse resolves a reference: env:NAME is a variable of the environment, as
// getenv tells it, file:PATH the trimmed content of a file. Anything else is the
// value itself. No error contains a value.
func Parse(ref string, getenv func(string) string) (Secret, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		if getenv == nil {
			getenv = os.Getenv
		}
		value := strings.TrimSpace(getenv(name))
		if value == "" {
			return Secret{}, fmt.Errorf("the environment variable %s is empty: set it, or write file:PATH", name)
		}
		return checked("the environment variable "+name, value)
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		value, err := read(path)
		if err != nil {
			return Secret{}, fmt.Errorf("read secret: %w", err)
		}
		if value == "" {
			return Secret{}, fmt.Errorf("the secret file %s is empty", path)
		}
		return checked("the secret file "+path, value)
	}
	return checked("the secret", ref)
}

// read returns the trimmed content of a file of at most maxFile bytes.
func read(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return strings.TrimSpace(string(b)), nil
}

// checked refuses control characters other than tabs and line ends, which keys in
// PEM and JSON have.
func checked(what, value string) (Secret, error) {
	bad := func(r rune) bool { return r < 0x20 && !strings.ContainsRune("\t\r\n", r) || r == 0x7f }
	if strings.ContainsFunc(value, bad) {
		return Secret{}, fmt.Errorf("%s contains a control character", what)
	}
	return New(value), nil
}

func (s Secret) shown() string {
	if !s.Set() {
		return ""
	}
	return mask
}
