package sip

import (
	"fmt"
	"strconv"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// A Header is one header field that goes out as it is. Name is a token, Value
// has no control characters and at most 1,024 bytes.
type Header struct{ Name, Value string }

// maxHeaderValue is the longest value of a header that a caller of this
// package may set.
const maxHeaderValue = 1024

// owned are the headers that this package sets itself.
var owned = map[string]bool{
	"via": true, "from": true, "to": true, "call-id": true, "cseq": true, "contact": true, "route": true,
	"record-route": true, "max-forwards": true, "content-length": true, "content-type": true, "content-encoding": true,
	"authorization": true, "proxy-authorization": true, "www-authenticate": true, "proxy-authenticate": true,
	"require": true, "proxy-require": true, "supported": true, "unsupported": true, "allow": true, "accept": true,
	"refer-to": true, "referred-by": true, "refer-sub": true, "replaces": true, "event": true, "subscription-state": true,
	"expires": true, "min-expires": true, "session-expires": true, "min-se": true, "rseq": true, "rack": true,
	"retry-after": true, "reason": true, "mime-version": true, "content-disposition": true,
}

// checkHeaders refuses headers that would break a message or that belong to
// this package.
func checkHeaders(hs []Header) error {
	for _, h := range hs {
		name := longName(h.Name)
		switch {
		case !isToken(h.Name):
			return fmt.Errorf("header name %q is not a token: %w", h.Name, ErrInvalid)
		case owned[strings.ToLower(name)]:
			return fmt.Errorf("header %s is set by the user agent itself: %w", name, ErrInvalid)
		case hasControl(h.Value):
			return fmt.Errorf("header %s has control characters: %w", name, ErrInvalid)
		case len(h.Value) > maxHeaderValue:
			return fmt.Errorf("header %s is longer than %d bytes: %w", name, maxHeaderValue, ErrInvalid)
		}
	}
	return nil
}

// longNames maps the compact names of RFC 3261 20, RFC 3515, RFC 3892, RFC
// 6665, and RFC 4028 to their long ones.
var longNames = map[byte]string{
	'a': "Accept-Contact", 'b': "Referred-By", 'c': "Content-Type", 'e': "Content-Encoding", 'f': "From",
	'i': "Call-ID", 'k': "Supported", 'l': "Content-Length", 'm': "Contact", 'o': "Event", 'r': "Refer-To",
	's': "Subject", 't': "To", 'u': "Allow-Events", 'v': "Via", 'x': "Session-Expires",
}

// canonical maps the lower-case names of headers that this package reads to
// the spelling it compares with.
var canonical = func() map[string]string {
	m := make(map[string]string)
	for _, n := range []string{
		"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Route", "Record-Route", "Max-Forwards", "Content-Length",
		"Content-Type", "Content-Encoding", "Content-Disposition", "Accept", "Require", "Supported", "Unsupported",
		"Refer-To", "Referred-By", "Refer-Sub", "Replaces", "Event", "Subscription-State", "Reason", "Retry-After",
		"Warning", "User-Agent", "Server", "Timestamp", "WWW-Authenticate", "Proxy-Authenticate", "Expires",
	} {
		m[strings.ToLower(n)] = n
	}
	return m
}()

// longName returns the canonical long form of a header's name.
func longName(name string) string {
	if len(name) == 1 {
		c := name[0] | 0x20
		if long, ok := longNames[c]; ok {
			return long
		}
		return name
	}
	if c, ok := canonical[strings.ToLower(name)]; ok {
		return c
	}
	return name
}

// isToken reports whether s is a token of RFC 3261 25.1.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return true
}

func isTokenByte(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("-.!%*_+`'~", c) >= 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// hasControl reports whether s has a byte that may not stand in a header value.
func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// plain replaces control characters, so that a text from elsewhere can stand
// in a reason phrase or a quoted string.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// quote returns s as a quoted string of RFC 3261 25.1.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain(s, maxHeaderValue)) + `"`
}

// unquote returns the content of a quoted string, or s as it is.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// splitOutside cuts s at sep where sep stands outside quotes and, unless sep
// is a semicolon's peer within them, outside angle brackets.
func splitOutside(s string, sep byte) []string {
	var parts []string
	start, quoted, angle := 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == sep && !angle:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// A parameter is one ;name=value of a header or URI. Names are lower case.
type parameter struct {
	name, value string
	has         bool // an equals sign was there
}

type parameters []parameter

// parseParams reads parameters that follow the first semicolon.
func parseParams(s string) parameters {
	var ps parameters
	for _, part := range splitOutside(s, ';') {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, has := strings.Cut(part, "=")
		ps = append(ps, parameter{strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value), has})
	}
	return ps
}

func (ps parameters) get(name string) (string, bool) {
	for _, p := range ps {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

// A Reason is the Reason header of a BYE, CANCEL, or refusal (RFC 3326).
type Reason struct {
	Protocol string // "Q.850", "SIP"; empty: there is none
	Cause    int    // of the protocol; zero: none given
	Text     string
}

// String returns the header's value, empty for the zero Reason.
func (r Reason) String() string {
	if r.Protocol == "" || !isToken(r.Protocol) {
		return ""
	}
	s := r.Protocol
	if r.Cause > 0 {
		s += ";cause=" + strconv.Itoa(r.Cause)
	}
	if r.Text != "" {
		s += ";text=" + quote(plain(r.Text, 128))
	}
	return s
}

// parseReason reads the value that tells most: Q.850 before others.
func parseReason(values []string) Reason {
	var best Reason
	for _, line := range values {
		for _, v := range splitOutside(line, ',') {
			protocol, rest, _ := strings.Cut(v, ";")
			r := Reason{Protocol: strings.TrimSpace(protocol)}
			if !isToken(r.Protocol) {
				continue
			}
			ps := parseParams(rest)
			if c, ok := ps.get("cause"); ok {
				if n, err := strconv.Atoi(c); err == nil && n > 0 && n < 1000 {
					r.Cause = n
				}
			}
			if t, ok := ps.get("text"); ok {
				r.Text = plain(unquote(t), 128)
			}
			if best.Protocol == "" || strings.EqualFold(r.Protocol, "Q.850") {
				best = r
			}
		}
	}
	return best
}

// headerValues returns the values of all headers with that canonical name.
func headerValues(hs []Header, name string) []string {
	var vs []string
	for _, h := range hs {
		if strings.EqualFold(h.Name, name) {
			vs = append(vs, h.Value)
		}
	}
	return vs
}

func headerValue(hs []Header, name string) string {
	for _, h := range hs {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// listed returns the comma separated tokens of all headers with that name.
func listed(hs []Header, name string) []string {
	var items []string
	for _, v := range headerValues(hs, name) {
		for _, item := range splitOutside(v, ',') {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// appendHeader adds a header whose value was made in this package.
func appendHeader(m gosip.Message, name, value string) { m.AppendHeader(gosip.NewHeader(name, value)) }

// cutAny cuts s at the first of several bytes.
func cutAny(s, seps string) (before, after string) {
	if i := strings.IndexAny(s, seps); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}
