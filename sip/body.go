package sip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
)

const sdpType = "application/sdp"

// maxParts bounds a multipart body.
const maxParts = 16

// errMediaType says that a body is required to be understood and is not.
var errMediaType = errors.New("sip: body of an unknown type")

// sessionOf returns the session description in a body, nil if there is none.
// A body of another kind is an error unless its handling is optional
// (RFC 3261 20.11).
func sessionOf(hs []Header, body []byte) ([]byte, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	contentType := headerValue(hs, "Content-Type")
	disposition := headerValue(hs, "Content-Disposition")
	if contentType == "" {
		contentType = sdpType // Lax senders leave it away; SDP begins with v=.
		if !bytes.HasPrefix(body, []byte("v=")) {
			return nil, errMediaType
		}
	}
	return partSession(contentType, disposition, body, 2)
}

func partSession(contentType, disposition string, body []byte, depth int) ([]byte, error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	switch {
	case media == sdpType && isSession(disposition):
		return body, nil
	case strings.HasPrefix(media, "multipart/") && depth > 0:
		return multipartSession(params["boundary"], body, depth-1)
	case optionalHandling(disposition):
		return nil, nil
	}
	return nil, fmt.Errorf("%w: %s", errMediaType, plain(media, 64))
}

// multipartSession takes the session out of a multipart body; other parts are
// ignored if they may be, and if there is a session at all, also if not: that
// is what callers with ISUP or PIDF parts expect.
func multipartSession(boundary string, body []byte, depth int) ([]byte, error) {
	if boundary == "" {
		return nil, errMediaType
	}
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	var trouble error
	for range maxParts {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil, trouble
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMediaType, err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errMediaType, err)
		}
		session, err := partSession(partHeader(part.Header, "Content-Type", "text/plain"), part.Header.Get("Content-Disposition"), data, depth)
		if session != nil {
			return session, nil
		}
		if err != nil {
			trouble = err
		}
	}
	return nil, errMediaType
}

func partHeader(h textproto.MIMEHeader, name, missing string) string {
	if v := h.Get(name); v != "" {
		return v
	}
	return missing
}

// isSession reports whether a disposition leaves application/sdp a session;
// early-session (RFC 3959) and others do not.
func isSession(disposition string) bool {
	kind, _, _ := strings.Cut(disposition, ";")
	kind = strings.TrimSpace(kind)
	return kind == "" || strings.EqualFold(kind, "session")
}

func optionalHandling(disposition string) bool {
	_, params, _ := strings.Cut(disposition, ";")
	handling, _ := parseParams(params).get("handling")
	return strings.EqualFold(handling, "optional")
}
