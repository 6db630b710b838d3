package fetch

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// data decodes what follows "data:" (RFC 2397): Voiceflow's own voice comes so.
func (f *Fetcher) data(s string) (Body, error) {
	limit := min(MaxData, f.config.MaxBytes)
	// Base64 takes four bytes for three, an escape three for one.
	if int64(len(s)) > 3*limit+1024 {
		return Body{}, fmt.Errorf("%w: data URI, at most %d bytes", ErrTooLarge, limit)
	}
	head, payload, ok := strings.Cut(s, ",")
	if !ok {
		return Body{}, fmt.Errorf("%w: the data URI has no comma", ErrURL)
	}
	mediaType, encoded := cutSuffixFold(head, ";base64")
	if strings.Contains(payload, "%") {
		var err error
		if payload, err = url.PathUnescape(payload); err != nil {
			return Body{}, fmt.Errorf("%w: the data URI has a broken escape", ErrURL)
		}
	}
	data := []byte(payload)
	if encoded {
		var err error
		if data, err = decodeBase64(payload); err != nil {
			return Body{}, fmt.Errorf("%w: the data URI is no base64", ErrURL)
		}
	}
	if int64(len(data)) > limit {
		return Body{}, fmt.Errorf("%w: data URI of %d bytes, at most %d", ErrTooLarge, len(data), limit)
	}
	return Body{ContentType: mediaType, Data: data}, nil
}

// decodeBase64 takes the usual and the URL alphabet, padding or none, and line
// ends.
func decodeBase64(s string) ([]byte, error) {
	s = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\r', '\n', '\t':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, s)
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if n := len(s) - len(suffix); n >= 0 && strings.EqualFold(s[n:], suffix) {
		return s[:n], true
	}
	return s, false
}
