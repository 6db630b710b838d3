package sip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits on what is read from the network.
const (
	maxDatagram = 16 << 10
	maxStream   = 28 << 10 // with long header names, less than sipgo reads at once
	maxHeaders  = 200
	maxHops     = 70
)

// errKeepAlive marks a message that is nothing but line ends (RFC 5626 3.5).
var errKeepAlive = errors.New("keep-alive")

// A scanError says why a message is refused before it is parsed. code is the
// status of the answer, zero for none.
type scanError struct {
	code int
	what string
}

func (e *scanError) Error() string { return "sip: malformed message: " + e.what }

func malformed(format string, args ...any) *scanError {
	return &scanError{code: 400, what: fmt.Sprintf(format, args...)}
}

// A raw is a message split into lines: names in their long canonical form,
// values unfolded and trimmed, nothing yet interpreted.
type raw struct {
	method, uri, version string // of a request; method is empty in a response
	status               int    // of a response
	reason               string
	headers              []Header
	body                 []byte
}

// scan reads one message. On error the message may still be there, as far as
// it could be read, so that a request can be answered. stream demands a
// Content-Length.
func scan(data []byte, stream bool) (*raw, error) {
	for len(data) > 0 && (data[0] == '\r' || data[0] == '\n') {
		data = data[1:] // RFC 3261 7.5.
	}
	if len(bytes.Trim(data, "\x00")) == 0 {
		return nil, errKeepAlive
	}
	head, body, found := cutHead(data)
	lines := headLines(head)
	m := &raw{}
	startErr := m.startLine(string(lines[0]))
	if startErr != nil && startErr.code == 0 {
		return nil, startErr
	}
	headErr := m.headerLines(lines[1:])
	switch {
	case startErr != nil:
		return m, startErr
	case headErr != nil:
		return m, headErr
	case !found:
		return m, malformed("no end of the header section")
	}
	if err := m.takeBody(body, stream); err != nil {
		return m, err
	}
	return m, m.check()
}

// cutHead splits at the empty line. Lines end with CRLF or, from lax senders,
// with LF alone.
func cutHead(data []byte) (head, body []byte, found bool) {
	for i := 0; i < len(data); {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			break
		}
		next := i + n + 1
		if next < len(data) && data[next] == '\n' {
			return data[:next], data[next+1:], true
		}
		if next+1 < len(data) && data[next] == '\r' && data[next+1] == '\n' {
			return data[:next], data[next+2:], true
		}
		i = next
	}
	return data, nil, false
}

func headLines(head []byte) [][]byte {
	lines := bytes.Split(bytes.TrimSuffix(head, []byte("\n")), []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSuffix(lines[i], []byte("\r"))
	}
	return lines
}

func (m *raw) startLine(line string) *scanError {
	if rest, ok := strings.CutPrefix(line, "SIP/2.0 "); ok {
		code, reason, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(code)
		if err != nil || len(code) != 3 || n < 100 || n > 699 {
			return &scanError{what: "status code"}
		}
		m.status, m.reason = n, plain(reason, 256)
		return nil
	}
	method, rest, ok := strings.Cut(line, " ")
	uri, version, ok2 := cutLast(rest, ' ')
	if isToken(method) && len(version) < 4 && strings.Contains(rest, " SIP/2.0 ") {
		m.method = method
		return malformed("white space behind the request line")
	}
	if !ok || !ok2 || !isToken(method) || len(version) < 4 || !strings.EqualFold(version[:4], "SIP/") {
		return &scanError{what: "not a SIP message"}
	}
	m.method, m.uri, m.version = method, uri, version
	switch scheme, _, _ := strings.Cut(uri, ":"); {
	case !strings.EqualFold(version, "SIP/2.0"):
		return &scanError{code: 505, what: "version"}
	case len(uri) > 1024:
		return &scanError{code: 414, what: "Request-URI is too long"}
	case isScheme(scheme) && scheme != uri && !slices.Contains([]string{"sip", "sips", "tel"}, strings.ToLower(scheme)):
		return &scanError{code: 416, what: "Request-URI has an unknown scheme"}
	}
	if u, err := parseURI(uri); err != nil || len(u.Headers) > 0 {
		return malformed("Request-URI") // RFC 3261 19.1.1: no headers in it.
	}
	m.version = "SIP/2.0"
	return nil
}

// headerLines unfolds and splits header fields. All are read even after an
// error, for the sake of the answer.
func (m *raw) headerLines(lines [][]byte) error {
	var first error
	fail := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, line := range lines {
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if len(m.headers) == 0 {
				fail(malformed("continuation without a header"))
				continue
			}
			h := &m.headers[len(m.headers)-1]
			value, err := cleanValue(string(line))
			if err != nil {
				fail(err)
			}
			h.Value = strings.TrimSpace(h.Value + " " + value)
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isToken(name) {
			fail(malformed("header line"))
			continue
		}
		value, err := cleanValue(value)
		if err != nil {
			fail(err)
		}
		if len(m.headers) == maxHeaders {
			fail(malformed("more than %d headers", maxHeaders))
			break
		}
		if !strings.EqualFold(name, sourceHeader) {
			m.headers = append(m.headers, Header{longName(name), value})
		}
	}
	return first
}

// cleanValue trims a value and refuses control characters, except behind a
// backslash (RFC 3261 25.1 quoted-pair), where a question mark replaces them.
func cleanValue(s string) (string, error) {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\t", " "))
	if !hasControl(s) {
		return s, nil
	}
	var err error
	b := []byte(s)
	for i, c := range b {
		if c >= 0x20 && c != 0x7f {
			continue
		}
		if i == 0 || b[i-1] != '\\' {
			err = malformed("control character in a header")
		}
		b[i] = '?'
	}
	return string(b), err
}

// takeBody applies Content-Length (RFC 3261 18.3).
func (m *raw) takeBody(body []byte, stream bool) error {
	values := headerValues(m.headers, "Content-Length")
	if len(values) == 0 {
		if stream {
			return malformed("no Content-Length")
		}
		m.body = body
		return nil
	}
	n, err := strconv.ParseUint(values[0], 10, 31)
	if err != nil || slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
		return malformed("Content-Length")
	}
	if int(n) > len(body) {
		return malformed("body is shorter than Content-Length")
	}
	m.body = body[:n]
	return nil
}

// check looks at what every message needs (RFC 3261 8.1.1, 20).
func (m *raw) check() error {
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		if n := len(headerValues(m.headers, name)); n != 1 {
			return malformed("%d headers %s", n, name)
		}
	}
	if n := len(headerValues(m.headers, "Max-Forwards")); n > 1 {
		return malformed("%d headers Max-Forwards", n)
	}
	if f := strings.Fields(headerValue(m.headers, "CSeq")); len(f) != 2 || m.method != "" && f[1] != m.method {
		return malformed("CSeq")
	}
	if len(headerValues(m.headers, "Via")) == 0 {
		return malformed("no Via")
	}
	if len(listed(m.headers, "Via")) > maxHops {
		return malformed("too many Via")
	}
	if id := headerValue(m.headers, "Call-ID"); id == "" || len(id) > 512 || strings.IndexByte(id, ' ') >= 0 {
		return malformed("Call-ID")
	}
	return nil
}

// sourceHeader tells, between a packetSocket and onMessage, where a datagram
// came from and by which socket. sipgo would keep each source address for as
// long as the socket is open, so it is shown the socket's own. What comes from
// the network under this name is dropped.
const sourceHeader = "X-Ivrbridge-Source"

// bytes writes the message for sipgo's parser: one header per line, long
// names, CRLF, and a true Content-Length.
func (m *raw) bytes(b []byte) []byte {
	if m.method != "" {
		b = append(b, m.method+" "+m.uri+" SIP/2.0\r\n"...)
	} else {
		b = append(b, "SIP/2.0 "+strconv.Itoa(m.status)+" "+m.reason+"\r\n"...)
	}
	for _, h := range m.headers {
		if h.Name != "Content-Length" {
			b = append(b, h.Name+": "+h.Value+"\r\n"...)
		}
	}
	b = append(b, "Content-Length: "+strconv.Itoa(len(m.body))+"\r\n\r\n"...)
	return append(b, m.body...)
}
