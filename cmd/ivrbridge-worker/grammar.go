package main

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxPhrases     = 400 // of one grammar
	maxPhraseWords = 30  // longer ones are examples that nobody will repeat word by word
)

// answers may be given to any question.
var answers = []string{"yes", "yeah", "yep", "yes please", "no", "nope", "no thanks", "no thank you"}

// A grammar is what may be said in one turn.
type grammar struct {
	jsgf    string
	words   []pronunciation
	phrases map[string]phrase // by the tokens of their words
}

type phrase struct {
	text   string // as it was given
	phones int    // how long it is to say
}

// A pronunciation is one way to say a word. Its token stands for it in the
// grammar, so that no text can be mistaken for syntax.
type pronunciation struct{ text, token, phones string }

// newGrammar admits the hints, and yes and no.
func newGrammar(ctx context.Context, d *dictionary, hints []string) *grammar {
	g := &grammar{phrases: make(map[string]phrase)}
	tokens := make(map[string]string) // by word
	length := make(map[string]int)    // phones by token
	var rules []string
	for _, text := range append(append([]string(nil), hints...), answers...) {
		words := spoken(text)
		if len(words) == 0 || len(words) > maxPhraseWords || len(rules) == maxPhrases {
			continue
		}
		said := make([]string, 0, len(words))
		phones, sayable := 0, true
		for _, w := range words {
			token, ok := tokens[w]
			if !ok {
				token = fmt.Sprintf("w%d", len(tokens))
				tokens[w], length[token] = token, g.say(ctx, d, w, token)
			}
			said = append(said, token)
			phones += length[token]
			sayable = sayable && length[token] > 0
		}
		key := strings.Join(said, " ")
		if _, dup := g.phrases[key]; dup || !sayable {
			continue
		}
		g.phrases[key] = phrase{text: strings.TrimSpace(text), phones: phones}
		rules = append(rules, key)
	}
	g.jsgf = "#JSGF V1.0;\ngrammar turn;\npublic <turn> = " + strings.Join(rules, " | ") + ";\n"
	return g
}

// say adds the ways to say word and returns how many phones the first has: none
// where nobody knows.
func (g *grammar) say(ctx context.Context, d *dictionary, word, token string) int {
	ways := d.pronounce(ctx, word)
	if ways[0] == "" {
		return 0
	}
	for i, phones := range ways {
		name := token
		if i > 0 {
			name = fmt.Sprintf("%s(%d)", token, i+1)
		}
		g.words = append(g.words, pronunciation{text: word, token: name, phones: phones})
	}
	return len(strings.Fields(ways[0]))
}

// partial is the text of an unfinished path.
func (g *grammar) partial(tokens string) string {
	if p, ok := g.phrases[tokens]; ok {
		return p.text
	}
	text := make(map[string]string, len(g.words))
	for _, w := range g.words {
		text[w.token] = w.text
	}
	words := strings.Fields(tokens)
	for i, w := range words {
		words[i] = text[w]
	}
	return strings.Join(words, " ")
}

// spoken returns the words in which text is read out, in lower case.
func spoken(text string) []string {
	var words []string
	for _, field := range strings.FieldsFunc(expand(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '.'
	}) {
		field = strings.Trim(field, "'.")
		if field == "" {
			continue
		}
		if abbreviation(field) {
			for _, r := range strings.ToLower(field) {
				if unicode.IsLetter(r) {
					words = append(words, string(r)+".")
				}
			}
			continue
		}
		for _, part := range split(strings.ToLower(strings.ReplaceAll(field, ".", " "))) {
			words = append(words, part...)
		}
	}
	return words
}

// abbreviation tells whether field is said letter by letter: U.S. and ATM, not
// NASA, as far as its vowels tell.
func abbreviation(field string) bool {
	if strings.ToUpper(field) != field || strings.ContainsAny(field, "0123456789'") {
		return false
	}
	if strings.Contains(field, ".") {
		return true
	}
	return len(field) > 1 && len(field) <= 4 && !strings.ContainsAny(field[1:], "AEIOUY")
}

// expand writes out signs and drops accents.
func expand(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '’':
			out.WriteByte('\'')
		case signs[r] != "":
			out.WriteString(" " + signs[r] + " ")
		case r < utf8.RuneSelf:
			out.WriteRune(r)
		default:
			out.WriteString(plainLetters(r))
		}
	}
	return out.String()
}

var signs = map[rune]string{'&': "and", '+': "plus", '%': "percent", '@': "at", '#': "number", '$': "dollar", '€': "euro", '£': "pound", '=': "equals"}

// accents lists letters with what is left of them in English.
var accents = map[string]string{
	"a": "àáâãåāą", "ae": "äæ", "c": "çćč", "d": "ďđð", "e": "èéêëēęě", "g": "ğ", "i": "ìíîïīı", "l": "łľ", "n": "ñńň",
	"o": "òóôõōő", "oe": "öøœ", "r": "řŕ", "s": "śšşș", "ss": "ß", "t": "ťțţ", "u": "ùúûūůű", "ue": "ü", "y": "ýÿ", "z": "źžż",
}

func plainLetters(r rune) string {
	lower := unicode.ToLower(r)
	for plain, from := range accents {
		if strings.ContainsRune(from, lower) {
			return plain
		}
	}
	return " "
}

// split separates letters from digits and says the digits: 4 tickets, b12.
func split(text string) [][]string {
	var out [][]string
	for field := range strings.FieldsSeq(text) {
		for field != "" {
			digits := strings.IndexFunc(field, func(r rune) bool { return r < '0' || r > '9' })
			if digits < 0 {
				digits = len(field)
			}
			if digits > 0 {
				out = append(out, number(field[:digits]))
				field = field[digits:]
				continue
			}
			end := strings.IndexFunc(field, func(r rune) bool { return r >= '0' && r <= '9' })
			if end < 0 {
				end = len(field)
			}
			if w := strings.Trim(field[:end], "'"); w != "" {
				out = append(out, []string{w})
			}
			field = field[end:]
		}
	}
	return out
}
