package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A dictionary knows how words are pronounced: those of a file in the format of
// the CMU dictionary, and others by rule.
type dictionary struct {
	lines map[string]string
	flite string // program that pronounces unknown words; empty where there is none

	mu      sync.Mutex
	guessed map[string]string
}

func loadDictionary(path string) (*dictionary, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator's folder
	if err != nil {
		return nil, fmt.Errorf("read dictionary: %w", err)
	}
	d := &dictionary{lines: make(map[string]string, 140_000), guessed: make(map[string]string)}
	for line := range strings.Lines(string(b)) {
		if word, phones, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			d.lines[word] = strings.TrimSpace(phones)
		}
	}
	d.flite, _ = exec.LookPath("flite")
	return d, nil
}

// pronounce returns the ways in which word, in lower case, may be said.
func (d *dictionary) pronounce(ctx context.Context, word string) []string {
	var all []string
	for n := 1; n < 6; n++ {
		key := word
		if n > 1 {
			key = fmt.Sprintf("%s(%d)", word, n)
		}
		phones, ok := d.lines[key]
		if !ok {
			break
		}
		all = append(all, phones)
	}
	if len(all) > 0 {
		return all
	}
	d.mu.Lock()
	phones, known := d.guessed[word]
	d.mu.Unlock()
	if known {
		return []string{phones}
	}
	if phones = d.ask(ctx, word); phones == "" {
		phones = sound(word)
	}
	d.mu.Lock()
	if len(d.guessed) > maxGuessed {
		clear(d.guessed)
	}
	d.guessed[word] = phones
	d.mu.Unlock()
	return []string{phones}
}

const (
	maxGuessed = 10_000
	askLimit   = 2 * time.Second
)

// ask has flite pronounce word.
func (d *dictionary) ask(ctx context.Context, word string) string {
	if d.flite == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, d.flite, "-voice", "kal16", "-ps", "-t", word, "-o", "/dev/null").Output() //nolint:gosec // a program by name, a word as one argument
	if err != nil {
		return ""
	}
	var phones []string
	for p := range strings.FieldsSeq(string(out)) {
		switch p {
		case "pau":
			continue
		case "ax":
			p = "ah"
		}
		if p = strings.ToUpper(p); !known[p] {
			return ""
		}
		phones = append(phones, p)
	}
	return strings.Join(phones, " ")
}

// known holds the phones of the model.
var known = func() map[string]bool {
	all := make(map[string]bool)
	for p := range strings.FieldsSeq("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH") {
		all[p] = true
	}
	return all
}()

// letters are said as they sound in most English words, the longest first.
var letters = []struct{ text, phones string }{
	{"tion", "SH AH N"},
	{"sch", "SH"},
	{"igh", "AY"},
	{"ch", "CH"},
	{"sh", "SH"},
	{"th", "TH"},
	{"ph", "F"},
	{"ck", "K"},
	{"ng", "NG"},
	{"qu", "K W"},
	{"wh", "W"},
	{"ee", "IY"},
	{"ea", "IY"},
	{"oo", "UW"},
	{"ou", "AW"},
	{"ow", "OW"},
	{"ai", "EY"},
	{"ay", "EY"},
	{"oi", "OY"},
	{"oy", "OY"},
	{"au", "AO"},
	{"ie", "IY"},
	{"er", "ER"},
	{"ar", "AA R"},
	{"or", "AO R"},
	{"a", "AE"},
	{"b", "B"},
	{"c", "K"},
	{"d", "D"},
	{"e", "EH"},
	{"f", "F"},
	{"g", "G"},
	{"h", "HH"},
	{"i", "IH"},
	{"j", "JH"},
	{"k", "K"},
	{"l", "L"},
	{"m", "M"},
	{"n", "N"},
	{"o", "AA"},
	{"p", "P"},
	{"q", "K"},
	{"r", "R"},
	{"s", "S"},
	{"t", "T"},
	{"u", "AH"},
	{"v", "V"},
	{"w", "W"},
	{"x", "K S"},
	{"y", "IY"},
	{"z", "Z"},
}

// sound says word letter by letter where no better source exists.
func sound(word string) string {
	var phones []string
	last := ""
	for word != "" {
		rest := word[1:]
		for _, l := range letters {
			if after, ok := strings.CutPrefix(word, l.text); ok {
				if l.phones != last {
					phones = append(phones, l.phones)
				}
				last, rest = l.phones, after
				break
			}
		}
		word = rest
	}
	return strings.Join(phones, " ")
}
