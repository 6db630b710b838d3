package sip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// An Address is a name-addr of a From, To, Contact, or similar header, or a
// bare URI.
type Address struct {
	Display string // unquoted
	Scheme  string // lower case: sip, sips, tel, …
	User    string // unescaped; of a tel URI, the number
	Host    string // without brackets
	Port    uint16 // zero: none given
	URI     string // as it came
	params  parameters
}

// Param returns a parameter of the header, such as tag; names are lower case.
func (a Address) Param(name string) (string, bool) { return a.params.get(name) }

// maxURI is the longest URI that we put into a message.
const maxURI = 256

// ParseAddress reads a name-addr or addr-spec (RFC 3261 20.10). Without angle
// brackets, parameters belong to the header.
func ParseAddress(s string) (Address, error) {
	s = strings.TrimSpace(s)
	var a Address
	open := indexUnquoted(s, '<')
	if open < 0 {
		uri, rest, _ := strings.Cut(s, ";")
		if strings.ContainsAny(uri, "?,") { // RFC 3261 20: these need brackets.
			return Address{}, fmt.Errorf("address without brackets: %w", ErrInvalid)
		}
		a.URI, a.params = strings.TrimSpace(uri), parseParams(rest)
	} else {
		end := strings.IndexByte(s[open:], '>')
		if end < 0 {
			return Address{}, fmt.Errorf("address has no closing bracket: %w", ErrInvalid)
		}
		a.Display = unquote(s[:open])
		a.URI = strings.TrimSpace(s[open+1 : open+end])
		rest := strings.TrimSpace(s[open+end+1:])
		if rest != "" && rest[0] != ';' {
			return Address{}, fmt.Errorf("address has text after its bracket: %w", ErrInvalid)
		}
		a.params = parseParams(strings.TrimPrefix(rest, ";"))
	}
	u, err := parseURI(a.URI)
	if err != nil {
		return Address{}, err
	}
	a.Scheme, a.Host = u.Scheme, strings.Trim(u.Host, "[]")
	a.User = unescape(u.User)
	if u.Port > 0 && u.Port < 1<<16 {
		a.Port = uint16(u.Port)
	}
	if a.Scheme == "tel" {
		number, _, _ := strings.Cut(u.Raw(), ";")
		a.User = unescape(number)
	}
	return a, nil
}

// indexUnquoted finds c outside a quoted string.
func indexUnquoted(s string, c byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == c:
			return i
		}
	}
	return -1
}

// parseURI reads a URI from the network or from configuration. It refuses what
// could not be written back into a message unharmed.
func parseURI(s string) (*gosip.Uri, error) {
	if s == "" || len(s) > 4096 {
		return nil, fmt.Errorf("URI is empty or too long: %w", ErrInvalid)
	}
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c == 0x7f || c == '<' || c == '>' || c == '"' {
			return nil, fmt.Errorf("URI has a character %#02x: %w", c, ErrInvalid)
		}
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) || rest == "" {
		return nil, fmt.Errorf("URI has no scheme: %w", ErrInvalid)
	}
	u := &gosip.Uri{}
	if err := gosip.ParseUri(s, u); err != nil {
		if scheme := strings.ToLower(scheme); scheme != "sip" && scheme != "sips" && scheme != "tel" {
			return &gosip.Uri{Scheme: scheme}, nil // Digits, + and - in a scheme: opaque all the same.
		}
		return nil, fmt.Errorf("URI: %w: %w", err, ErrInvalid)
	}
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return u, nil
	}
	if !validHost(u.Host) || u.Port < 0 || u.Port >= 1<<16 {
		return nil, fmt.Errorf("URI has no valid host and port: %w", ErrInvalid)
	}
	return u, nil
}

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || !isAlphanumeric(c) && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// validHost accepts host names, IPv4 addresses, and bracketed IPv6 addresses.
func validHost(h string) bool {
	if inner, ok := strings.CutPrefix(h, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6() && a.Zone() == ""
	}
	if h == "" || len(h) > 255 {
		return false
	}
	for i := range len(h) {
		if c := h[i]; !isAlphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// unescape resolves %XX; a broken escape stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// The characters besides letters and digits that stand for themselves
// (RFC 3261 25.1: unreserved, user-unreserved, hnv-unreserved).
const (
	unreserved       = "-_.!~*'()"
	userUnreserved   = unreserved + "&=+$,;?/"
	headerUnreserved = unreserved + "[]/?:+$"
)

// escape percent-encodes what is neither alphanumeric nor in allowed.
func escape(s, allowed string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isAlphanumeric(c) || strings.IndexByte(allowed, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// outgoingURI checks a URI that the program, a flow, or an operator names. It
// allows sip, sips, and tel, escapes what RFC 3261 25.1 wants escaped in the
// user part, and refuses control characters, headers, and more than 256 bytes.
func outgoingURI(s string) (*gosip.Uri, error) {
	if hasControl(s) {
		return nil, fmt.Errorf("URI has control characters: %w", ErrInvalid)
	}
	s = strings.TrimSpace(s)
	if len(s) > maxURI {
		return nil, fmt.Errorf("URI is longer than %d bytes: %w", maxURI, ErrInvalid)
	}
	scheme, rest, _ := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	switch scheme {
	case "tel":
		number, params, has := strings.Cut(rest, ";")
		if !isNumber(number) || has && !isParamText(params) {
			return nil, fmt.Errorf("tel URI has no number: %w", ErrInvalid)
		}
	case "sip", "sips":
		user, host, has := cutLast(rest, '@')
		if !has {
			user, host = "", rest
		}
		if strings.IndexByte(host, '?') >= 0 {
			return nil, fmt.Errorf("URI carries headers: %w", ErrInvalid)
		}
		if has {
			host = escape(unescape(user), userUnreserved) + "@" + host
		}
		s = scheme + ":" + host
	default:
		return nil, fmt.Errorf("URI scheme %q is not sip, sips, or tel: %w", plain(scheme, 16), ErrInvalid)
	}
	return parseURI(s)
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// isNumber accepts the digits and visual separators of RFC 3966.
func isNumber(s string) bool {
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9' || c == '*' || c == '#':
			digits++
		case c == '+' && i == 0, strings.IndexByte("-.()", c) >= 0:
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			digits++
		default:
			return false
		}
	}
	return digits > 0
}

func isParamText(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte(unreserved+"[]/:&+$;=%", c) < 0 {
			return false
		}
	}
	return true
}

// nameAddr writes a From or To value.
func nameAddr(display string, u *gosip.Uri) string {
	s := "<" + u.String() + ">"
	if display != "" {
		s = quote(plain(display, 128)) + " " + s
	}
	return s
}

// hostOf returns the IP address of a URI's host, if it is one.
func hostOf(u *gosip.Uri) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	return a.Unmap(), err == nil
}

// uriHost writes an address for a URI or Via.
func uriHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.WithZone("").String() + "]"
	}
	return a.String()
}
