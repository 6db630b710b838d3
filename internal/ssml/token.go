package ssml

import (
	"html"
	"regexp"
	"strings"
	"unicode/utf8"
)

// tokenKind is what a piece of a message is.
type tokenKind uint8

const (
	textToken tokenKind = iota
	startToken
	endToken
)

// tok is a piece of a message. Text has its entities decoded and holds only
// characters that XML allows.
type tok struct {
	kind       tokenKind
	text       string
	name       string // lower case
	attributes []attribute
	closed     bool // <x/>
}

type attribute struct{ name, value string }

func (t tok) attribute(name string) string {
	for _, a := range t.attributes {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// silent are elements of which not even the text is for the ear.
var silent = map[string]bool{"audio": true, "desc": true, "script": true, "style": true, "metadata": true, "meta": true, "lexicon": true}

// void are elements that never have content.
var void = map[string]bool{"break": true, "mark": true, "meta": true, "lexicon": true, "br": true, "img": true}

// tokens takes a message apart. A < that begins no tag is text.
func tokens(message string) []tok {
	message = clean(message)
	var out []tok
	var mute []string
	add := func(t tok) {
		if t.kind != textToken && silent[t.name] {
			switch {
			case t.kind == startToken && !t.closed && !void[t.name] && closes(message, t.name):
				mute = append(mute, t.name)
			case t.kind == endToken && len(mute) > 0 && mute[len(mute)-1] == t.name:
				mute = mute[:len(mute)-1]
			}
			return
		}
		if len(mute) == 0 {
			out = append(out, t)
		}
	}
	plain := 0
	for i := 0; i < len(message); {
		if message[i] != '<' {
			i++
			continue
		}
		t, n := tag(message[i:])
		if n == 0 {
			i++
			continue
		}
		if i > plain {
			add(tok{text: words(message[plain:i])})
		}
		if t.name != "" {
			add(t)
		}
		i += n
		plain = i
	}
	if plain < len(message) {
		add(tok{text: words(message[plain:])})
	}
	return out
}

// closes reports whether an element called name ends somewhere: one that does
// not must not swallow the rest of the message.
func closes(message, name string) bool {
	return strings.Contains(strings.ToLower(message), "</"+name)
}

// tag reads the tag at the start of s and returns its length, 0 when there is
// none. Comments, declarations and instructions are tags without a name.
func tag(s string) (tok, int) {
	for _, special := range [][2]string{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}, {"<!", ">"}} {
		if !strings.HasPrefix(s, special[0]) {
			continue
		}
		if end := strings.Index(s, special[1]); end >= 0 {
			return tok{}, end + len(special[1])
		}
		return tok{}, 0
	}
	i := 1
	t := tok{kind: startToken}
	if i < len(s) && s[i] == '/' {
		t.kind = endToken
		i++
	}
	from := i
	for i < len(s) && nameByte(s[i], i == from) {
		i++
	}
	if i == from {
		return tok{}, 0
	}
	t.name = strings.ToLower(s[from:i])
	for i < len(s) {
		switch c := s[i]; c {
		case '>':
			return t, i + 1
		case '/', ' ', '\t', '\n', '\r':
			t.closed = c == '/'
			i++
		case '<':
			return tok{}, 0
		default:
			a, n := readAttribute(s[i:])
			if n == 0 {
				return tok{}, 0
			}
			t.closed = false
			if len(t.attributes) < 32 {
				t.attributes = append(t.attributes, a)
			}
			i += n
		}
	}
	return tok{}, 0
}

func nameByte(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && (c >= '0' && c <= '9' || c == '-' || c == ':' || c == '_' || c == '.')
}

func readAttribute(s string) (attribute, int) {
	end := strings.IndexAny(s, "=> \t\r\n/<")
	if end <= 0 {
		if end == 0 && s[0] == '=' {
			return attribute{}, 1
		}
		return attribute{}, 0
	}
	a := attribute{name: strings.ToLower(s[:end])}
	i := end
	for i < len(s) && s[i] == ' ' {
		i++
	}
	if i >= len(s) || s[i] != '=' {
		return a, end
	}
	i++
	for i < len(s) && s[i] == ' ' {
		i++
	}
	if i >= len(s) {
		return attribute{}, 0
	}
	if q := s[i]; q == '"' || q == '\'' {
		n := strings.IndexByte(s[i+1:], q)
		if n < 0 {
			return attribute{}, 0
		}
		a.value = decode(s[i+1 : i+1+n])
		return a, i + n + 2
	}
	n := strings.IndexAny(s[i:], " \t\r\n></")
	if n < 0 {
		return attribute{}, 0
	}
	a.value = decode(s[i : i+n])
	return a, i + n
}

// entity is a reference that ends in a semicolon, as XML wants it. Without one
// it is an ampersand in a name.
var entity = regexp.MustCompile(`&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});`)

func decode(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return clean(entity.ReplaceAllStringFunc(s, html.UnescapeString))
}

// unresolved is a variable that the agent did not fill.
var unresolved = regexp.MustCompile(`\{\{?\s*[A-Za-z_][A-Za-z0-9_.\[\]-]*\s*\}?\}`)

// words are the characters of text between tags.
func words(s string) string { return unresolved.ReplaceAllString(decode(s), "") }

// clean drops what XML 1.0 section 2.2 does not allow in a document.
func clean(s string) string {
	valid := utf8.ValidString(s)
	if valid && strings.IndexFunc(s, forbidden) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if forbidden(r) || r == utf8.RuneError && !valid {
			return ' '
		}
		return r
	}, s)
}

func forbidden(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r >= 0x7F && r <= 0x9F ||
		r >= 0xD800 && r <= 0xDFFF || r == 0xFFFE || r == 0xFFFF || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}
