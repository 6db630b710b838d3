package record

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// idAlphabet is Crockford's: no letter looks like a digit.
const idAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// idLength is the length of an id: 128 bits in fives.
const idLength = 26

// NewID returns an id for a call in the form of a ULID: 48 bits of the time in
// milliseconds, so that ids sort by it, and 80 random bits, so that nobody
// guesses one.
func NewID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var out [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}

// ValidID reports whether s has the form of an id: what comes in a URL is
// checked before anything is done with it.
func ValidID(s string) bool {
	if len(s) != idLength || s[0] > '7' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' {
			continue
		}
		if c < 'A' || c > 'Z' || c == 'I' || c == 'L' || c == 'O' || c == 'U' {
			return false
		}
	}
	return true
}
