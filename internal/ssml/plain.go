package ssml

import (
	"regexp"
	"strings"
	"unicode"
)

// stop and rest mark where a longer and a shorter pause belong; tidy makes
// punctuation of them where there is none yet. All three are characters of
// private use, which no message needs.
const (
	stop    = "\uE000"
	rest    = "\uE001"
	escaped = rune(0xE100) // plus a character that a backslash made plain
)

var (
	fence     = regexp.MustCompile("(?s)(?:```|~~~).*?(?:```|~~~|$)")
	image     = regexp.MustCompile(`!\[[^\]\n]*\]\([^)\n]*\)`)
	link      = regexp.MustCompile(`\[([^\]\n]+)\]\([^)\n]*\)`)
	reference = regexp.MustCompile(`\[\^?[0-9]{1,3}\]|\[([^\]\n]+)\]\[[^\]\n]*\]`)
	autolink  = regexp.MustCompile(`(?i)<(?:https?|mailto|tel|ftp):[^>\s]*>`)
	address   = regexp.MustCompile(`(?i)\b(?:https?://|ftp://|www\.)[^\s<>"')\]]*[^\s<>"')\].,;:!?]`)
	lead      = regexp.MustCompile(`^\s*(?:#{1,6}\s+|>\s?|[-*+•–]\s+(?:\[[ xX]\]\s+)?)+`)
	numbered  = regexp.MustCompile(`^\s*(\d{1,3})[.)]\s+`)
	ruler     = regexp.MustCompile(`^\s*(?:[-*_=]\s*){3,}$`)
	tableRule = regexp.MustCompile(`^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$`)
	emphasis  = []*regexp.Regexp{
		regexp.MustCompile(`()\*\*\*([^\s*](?:[^*\n]*[^\s*])?)\*\*\*()`),
		regexp.MustCompile(`()\*\*([^\s*](?:[^\n]*?[^\s])?)\*\*()`),
		regexp.MustCompile(`()\*([^\s*](?:[^*\n]*[^\s*])?)\*()`),
		regexp.MustCompile(`(^|[\s(.,;:!?'"])__([^\s_](?:[^\n]*?[^\s])?)__($|[\s).,;:!?'"])`),
		regexp.MustCompile(`(^|[\s(.,;:!?'"])_([^\s_](?:[^\n]*?[^\s])?)_($|[\s).,;:!?'"])`),
	}
	struck = regexp.MustCompile(`~~([^~\n]+)~~`)
	inline = regexp.MustCompile("`+([^`\n]*)`+")
	escape = regexp.MustCompile("\\\\([\\\\`*_{}\\[\\]()#+.!|>~-])")
)

// Plain returns the words of a chat message. Markdown, addresses of the web,
// emoji and blocks of code are left out, lists become sentences, and so are
// unresolved {variables} left out.
func Plain(text string) string {
	text = clean(strings.ReplaceAll(text, "\r\n", "\n"))
	text = strings.Map(func(r rune) rune {
		if r >= 0xE000 && r <= 0xE1FF { // ours, see stop and escaped
			return -1
		}
		return r
	}, text)
	text = fence.ReplaceAllString(text, "\n")
	text = image.ReplaceAllString(text, "")
	text = link.ReplaceAllString(text, "$1")
	text = reference.ReplaceAllString(text, "$1")
	text = autolink.ReplaceAllString(text, "")
	text = address.ReplaceAllString(text, "")
	lines := strings.Split(text, "\n")
	var b strings.Builder
	for _, l := range lines {
		l = line(l)
		if strings.TrimSpace(l) == "" {
			b.WriteString(stop)
			continue
		}
		b.WriteString(l)
		b.WriteString(stop)
	}
	text = b.String()
	var r reducer
	for _, t := range tokens(text) {
		r.add(t)
	}
	text, _ = cut(tidy(withoutEmoji(r.b.String())), maxText)
	return text
}

// line takes the Markdown out of one line.
func line(l string) string {
	if ruler.MatchString(l) || tableRule.MatchString(l) {
		return ""
	}
	l = escape.ReplaceAllStringFunc(l, func(m string) string { return string(escaped + rune(m[1])) })
	l = lead.ReplaceAllString(l, "")
	l = numbered.ReplaceAllString(l, "$1"+rest+" ")
	if strings.Count(l, "|") >= 2 {
		l = strings.ReplaceAll(strings.Trim(strings.TrimSpace(l), "|"), "|", rest+" ")
	}
	for range 2 { // one may stand within another
		for _, e := range emphasis {
			l = e.ReplaceAllString(l, "$1$2$3")
		}
	}
	l = struck.ReplaceAllString(l, "$1")
	l = inline.ReplaceAllString(l, "$1")
	return strings.Map(func(r rune) rune {
		if r > escaped && r < escaped+0x80 {
			return r - escaped
		}
		return r
	}, l)
}

// withoutEmoji drops pictures and what only shapes them.
func withoutEmoji(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0x1F000 && r <= 0x1FAFF, r >= 0x2600 && r <= 0x27BF, r >= 0x2B00 && r <= 0x2BFF,
			r >= 0x2190 && r <= 0x21FF, r >= 0x2300 && r <= 0x23FF, r >= 0x25A0 && r <= 0x25FF,
			r >= 0xE0020 && r <= 0xE007F:
			return ' '
		case r >= 0xFE00 && r <= 0xFE0F, r == 0x200D, r == 0x20E3, r == 0x200B, r == 0xFEFF, r == 0x2060:
			return -1
		}
		return r
	}, s)
}

// tidy turns the marks of pauses into punctuation and brings spaces in order.
func tidy(s string) string {
	var b strings.Builder
	last := rune(0)    // last character written that is no space
	space := false     // a space is due
	pending := rune(0) // a mark that waits for what follows it
	write := func(r rune) { b.WriteRune(r); last = r }
	runes := []rune(s)
	for i, r := range runes {
		switch {
		case string(r) == stop:
			pending = '.'
			continue
		case string(r) == rest:
			if pending == 0 {
				pending = ','
			}
			continue
		case unicode.IsSpace(r):
			space = true
			continue
		}
		if pending != 0 && last != 0 {
			if !ending(last, pending) && !strings.ContainsRune(".,;:!?…", r) {
				write(pending)
			}
			space = true
		}
		pending = 0
		decimal := r == '.' && i+1 < len(runes) && unicode.IsDigit(runes[i+1])
		if space && last != 0 && (decimal || !strings.ContainsRune(".,;:!?)]", r)) && last != '(' && last != '[' {
			b.WriteByte(' ')
		}
		space = false
		write(r)
	}
	out := strings.NewReplacer("()", "", "[]", "", "( )", "").Replace(b.String())
	out = strings.TrimSpace(out)
	if strings.IndexFunc(out, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsSymbol(r) }) < 0 {
		return ""
	}
	return out
}

// ending reports whether last already makes the pause that mark would make.
func ending(last, mark rune) bool {
	if mark == ',' {
		return strings.ContainsRune(".,;:!?…。！？、", last)
	}
	return strings.ContainsRune(".;:!?…。！？", last)
}
