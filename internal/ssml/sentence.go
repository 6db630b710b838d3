package ssml

import (
	"slices"
	"strings"
	"unicode"
)

// maxSentence is the longest piece that Sentences gives, in characters.
const maxSentence = 300

// abbreviations end in a full stop that ends no sentence.
var abbreviations = []string{
	"mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "mt", "no", "nos", "vs", "approx", "ext", "tel", "inc", "ltd", "co", "corp",
	"e.g", "i.e", "fig", "vol", "gen", "col", "sgt", "capt", "rev", "hon", "dept", "est", "ave", "blvd", "rd",
	"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
	"hr", "fr", "nr", "bzw", "ca", "usw", "z.b", "d.h", "u.a", "str", "evtl", "ggf", "inkl", "zzgl", "uhr",
	"m", "mme", "mlle", "p", "env", "sra", "srta", "ud", "uds", "dña", "sig", "dott", "dhr", "mevr", "bijv", "art",
}

// mayEnd are abbreviations after which a sentence ends when a capital follows.
var mayEnd = []string{"etc", "a.m", "p.m", "usw", "uhr", "inc", "ltd", "co", "corp", "u.s", "u.k", "st", "rd", "ave", "blvd"}

// Sentences splits text at the ends of its sentences. Full stops of
// abbreviations, decimals and initials do not count. A sentence of more than 300
// characters is split at a comma or a space. Nothing but space is lost.
func Sentences(text string) []string {
	runes := []rune(strings.TrimSpace(clean(text)))
	var out []string
	from := 0
	for i := 0; i < len(runes); i++ {
		if !ends(runes, i) {
			continue
		}
		end := i + 1
		for end < len(runes) && strings.ContainsRune(`.!?…"'”’»)]`, runes[end]) {
			end++
		}
		out = appendPieces(out, runes[from:end])
		from, i = end, end-1
	}
	return appendPieces(out, runes[from:])
}

// ends reports whether the character at i is the end of a sentence.
func ends(r []rune, i int) bool {
	switch r[i] {
	case '\n', '。', '！', '？':
		return true
	case '.', '!', '?', '…':
	default:
		return false
	}
	end := i + 1
	for end < len(r) && strings.ContainsRune(`.!?…"'”’»)]`, r[end]) {
		end++
	}
	if end < len(r) && !unicode.IsSpace(r[end]) {
		return false
	}
	if r[i] != '.' {
		return true
	}
	next := end
	for next < len(r) && unicode.IsSpace(r[next]) {
		next++
	}
	if next == len(r) {
		return true
	}
	word := wordBefore(r, i)
	capital := unicode.IsUpper(r[next]) || unicode.IsDigit(r[next])
	switch {
	case slices.Contains(mayEnd, word):
		return unicode.IsUpper(r[next]) && !slices.Contains([]string{"st", "inc", "co"}, word)
	case slices.Contains(abbreviations, word):
		return false
	case len([]rune(word)) == 1 && unicode.IsLetter([]rune(word)[0]) && !slices.Contains([]string{"i", "a", "o", "y", "e"}, word):
		return false // an initial
	case isOrdinal(word) && !capital:
		return false // 3. of a date
	}
	return true
}

// wordBefore is the word that the full stop at i belongs to, in lower case.
func wordBefore(r []rune, i int) string {
	from := i
	for from > 0 && (unicode.IsLetter(r[from-1]) || unicode.IsDigit(r[from-1]) || r[from-1] == '.') {
		from--
	}
	return strings.ToLower(strings.Trim(string(r[from:i]), "."))
}

func isOrdinal(word string) bool {
	return word != "" && len(word) <= 2 && strings.Trim(word, "0123456789") == ""
}

// appendPieces adds a sentence to out, in pieces where it is too long.
func appendPieces(out []string, r []rune) []string {
	for {
		piece := strings.TrimSpace(string(r))
		if piece == "" {
			return out
		}
		r = []rune(piece)
		if len(r) <= maxSentence {
			return append(out, piece)
		}
		at := splitAt(r[:maxSentence])
		out = append(out, strings.TrimSpace(string(r[:at])))
		r = r[at:]
	}
}

// splitAt is the best place to break r: after a semicolon or comma of its second
// half, else at its last space, else at its end.
func splitAt(r []rune) int {
	for _, marks := range []string{";:–—", ",、，", " \t\n"} {
		for i := len(r) - 2; i > 0; i-- {
			if marks[0] != ' ' && i < len(r)/3 {
				break
			}
			if strings.ContainsRune(marks, r[i]) && (marks[0] == ' ' || r[i] > 0x7F || unicode.IsSpace(r[i+1])) {
				return i + 1
			}
		}
	}
	return len(r)
}
