package dialog

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Match returns the index of the button whose name the caller said. Case,
// punctuation and the way numbers are said do not count, nor do articles and
// words of politeness around the name; otherwise it is the whole name that must
// match: a guess would choose for the caller.
func Match(buttons []Button, transcript string) (int, bool) {
	said := words(transcript)
	if len(said) == 0 {
		return 0, false
	}
	names := make([][]string, len(buttons))
	for i, b := range buttons {
		names[i] = words(b.Name)
	}
	// The closest reading first: a button called "Please hold" is found before
	// "please" counts as politeness.
	for _, reading := range []func([]string) []string{numbers, bare} {
		heard := reading(said)
		for i, n := range names {
			if len(n) > 0 && slices.Equal(reading(n), heard) {
				return i, true
			}
		}
	}
	heard := bare(said)
	for i, b := range buttons {
		if name, ok := unnumbered(b.Name); ok && slices.Equal(bare(words(name)), heard) {
			return i, true
		}
	}
	return 0, false
}

// Canonical returns the form in which Match compares what was said.
func Canonical(transcript string) string { return strings.Join(bare(words(transcript)), " ") }

// words splits text into lower-case words of letters and digits. An apostrophe
// belongs to its word and is left out.
func words(text string) []string {
	var b strings.Builder
	digit := false
	for _, r := range text {
		r = unicode.ToLower(r)
		switch {
		case r == '\'' || r == '’' || unicode.Is(unicode.Mn, r):
			continue
		case r == '&':
			b.WriteString(" and ")
		case unicode.IsDigit(r) != digit && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			digit = !digit
			b.WriteByte(' ')
			b.WriteRune(fold(r))
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(fold(r))
		default:
			b.WriteByte(' ')
		}
	}
	return strings.Fields(b.String())
}

// folds maps letters with marks to those that recognisers write in their place.
var folds = strings.NewReplacer(
	"à", "a", "á", "a", "â", "a", "ã", "a", "å", "a", "ä", "a", "ç", "c", "è", "e", "é", "e", "ê", "e", "ë", "e",
	"ì", "i", "í", "i", "î", "i", "ï", "i", "ñ", "n", "ò", "o", "ó", "o", "ô", "o", "õ", "o", "ö", "o",
	"ù", "u", "ú", "u", "û", "u", "ü", "u", "ý", "y", "ÿ", "y", "ß", "s",
)

func fold(r rune) rune {
	if r < 0x80 {
		return r
	}
	folded := []rune(folds.Replace(string(r)))
	return folded[0]
}

// units and tens are numbers as words, in the languages that prompts come in.
// Words that are articles as well (un, ein, een) are left out.
var (
	units = map[string]int{
		"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
		"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
		"seventeen": 17, "eighteen": 18, "nineteen": 19,
		"null": 0, "eins": 1, "zwei": 2, "zwo": 2, "drei": 3, "vier": 4, "funf": 5, "sechs": 6, "sieben": 7, "acht": 8, "neun": 9, "zehn": 10,
		"deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "sept": 7, "huit": 8, "neuf": 9, "dix": 10,
		"cero": 0, "uno": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "siete": 7, "ocho": 8, "nueve": 9, "diez": 10,
		"due": 2, "tre": 3, "quattro": 4, "cinque": 5, "sette": 7, "otto": 8, "nove": 9, "dieci": 10,
		"dois": 2, "duas": 2, "quatro": 4, "sete": 7, "oito": 8, "dez": 10,
		"twee": 2, "drie": 3, "vijf": 5, "zes": 6, "zeven": 7, "negen": 9, "tien": 10,
	}
	tens = map[string]int{
		"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
	}
	ordinals = map[string]string{
		"first": "1st", "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "sixth": "6th",
		"seventh": "7th", "eighth": "8th", "ninth": "9th", "tenth": "10th",
	}
)

// numbers writes numbers in digits and joins those that follow one another, so
// that "twenty four seven" and "24/7" are the same.
func numbers(in []string) []string {
	var out []string
	number := false // out ends in a number
	add := func(digits string) {
		if number {
			out[len(out)-1] += digits
			return
		}
		out, number = append(out, digits), true
	}
	for i := 0; i < len(in); i++ {
		w := in[i]
		switch {
		case w[0] >= '0' && w[0] <= '9':
			if i+1 < len(in) && slices.Contains([]string{"st", "nd", "rd", "th"}, in[i+1]) {
				out, number = append(out, w+in[i+1]), false
				i++
				continue
			}
			add(w)
		case ordinals[w] != "":
			out, number = append(out, ordinals[w]), false
		case tens[w] != 0:
			n := tens[w]
			if i+1 < len(in) && units[in[i+1]] > 0 && units[in[i+1]] < 10 {
				n += units[in[i+1]]
				i++
			}
			add(strconv.Itoa(n))
		default:
			if n, ok := units[w]; ok {
				add(strconv.Itoa(n))
				continue
			}
			out, number = append(out, w), false
		}
	}
	return out
}

// What callers say around a name. Longer ones first.
var (
	before = [][]string{
		{"i", "would", "like", "to"},
		{"i", "would", "like"},
		{"id", "like", "to"},
		{"id", "like"},
		{"can", "i", "have"},
		{"could", "i", "have"},
		{"can", "you"},
		{"could", "you"},
		{"i", "want", "to"},
		{"i", "want"},
		{"i", "need"},
		{"give", "me"},
		{"lets", "do"},
		{"please"},
		{"um"},
		{"uh"},
		{"erm"},
		{"er"},
		{"hm"},
		{"well"},
		{"okay"},
		{"ok"},
		{"so"},
		{"bitte"},
		{"ah"},
		{"oh"},
	}
	after = [][]string{
		{"thank", "you", "very", "much"},
		{"thank", "you"},
		{"thanks"},
		{"please"},
		{"bitte"},
		{"por", "favor"},
		{"sil", "vous", "plait"},
		{"per", "favore"},
		{"alstublieft"},
	}
	articles = map[string]bool{"a": true, "an": true, "the": true}
)

// bare is numbers without politeness and without articles, unless nothing would
// be left.
func bare(in []string) []string {
	out := in
	for again := true; again; {
		again = false
		for _, p := range before {
			if len(out) > len(p) && slices.Equal(out[:len(p)], p) {
				out, again = out[len(p):], true
			}
		}
		for _, p := range after {
			if len(out) > len(p) && slices.Equal(out[len(out)-len(p):], p) {
				out, again = out[:len(out)-len(p)], true
			}
		}
	}
	var kept []string
	for i, w := range out {
		if articles[w] && i+1 < len(out) {
			continue
		}
		kept = append(kept, w)
	}
	return numbers(kept)
}

// unnumbered takes a list number off a name: "1. Billing", "2) Sales".
func unnumbered(name string) (string, bool) {
	name = strings.TrimSpace(name)
	rest := strings.TrimLeft(name, "0123456789")
	if rest == name || rest == "" || !strings.ContainsAny(rest[:1], ".):-") {
		return "", false
	}
	return rest[1:], true
}
