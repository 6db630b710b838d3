// Package ssml makes of an agent's words what may be spoken: plain text of chat
// messages, clean SSML for engines that take it, text of SSML for those that do
// not, and sentences of both.
//
// Whatever goes in, what comes out is well-formed. Words that a caller said and
// an agent repeats can change neither the markup nor the length of a pause. The
// package knows no engine.
package ssml

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxText   = 5000             // characters of one message
	maxPause  = 10 * time.Second // one break
	maxPauses = time.Minute      // all breaks of a message
	maxNest   = 16               // elements within elements
)

// rule says which attributes of an element are kept, by the values they may have.
type rule struct {
	attributes map[string]*regexp.Regexp
	needs      string // attribute without which the element is left out; "*": any
}

var (
	prosodyValue = regexp.MustCompile(`^(?:x-slow|slow|medium|fast|x-fast|x-low|low|high|x-high|silent|x-soft|soft|loud|x-loud|default|[+-]?[0-9]{1,3}(?:\.[0-9]{1,2})?(?:%|Hz|st|dB)?)$`)
	word         = regexp.MustCompile(`^[A-Za-z0-9:_-]{1,32}$`)
	phonemes     = regexp.MustCompile(`^[^<>&"\x00-\x1f]{1,200}$`)
)

// allowed are the elements that reach an engine. Of all others the text is kept.
var allowed = map[string]rule{
	"p":        {},
	"s":        {},
	"break":    {}, // made anew, see pause
	"prosody":  {map[string]*regexp.Regexp{"rate": prosodyValue, "pitch": prosodyValue, "volume": prosodyValue}, "*"},
	"say-as":   {map[string]*regexp.Regexp{"interpret-as": word, "format": word, "detail": word}, "interpret-as"},
	"phoneme":  {map[string]*regexp.Regexp{"alphabet": word, "ph": phonemes}, "ph"},
	"sub":      {map[string]*regexp.Regexp{"alias": phonemes}, "alias"},
	"emphasis": {map[string]*regexp.Regexp{"level": regexp.MustCompile(`^(?:strong|moderate|none|reduced)$`)}, ""},
}

// Speech returns message as one speak element, well-formed and escaped, with only
// the elements break, prosody, say-as, phoneme, sub, emphasis, p and s in it.
// hasMarkup says whether any of these is left; without, an engine may as well be
// given Reduce.
func Speech(message string) (ssml string, hasMarkup bool) {
	w := writer{left: maxText}
	w.b.WriteString("<speak>")
	for _, t := range tokens(message) {
		switch t.kind {
		case textToken:
			w.text(t.text)
		case startToken:
			w.start(t)
		case endToken:
			w.end(t.name)
		}
	}
	w.closeTo(0)
	w.b.WriteString("</speak>")
	return w.b.String(), w.marked
}

// writer builds the output of Speech.
type writer struct {
	b      strings.Builder
	open   []string
	left   int // characters of text that still fit
	paused time.Duration
	marked bool
}

// escaper covers text and attributes alike.
var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

// textEscaper leaves quotes, which mean nothing between elements.
var textEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (w *writer) text(s string) {
	s, n := cut(s, w.left)
	w.left -= n
	_, _ = textEscaper.WriteString(&w.b, s) // a builder does not fail
}

func (w *writer) start(t tok) {
	r, ok := allowed[t.name]
	if !ok || w.left == 0 {
		return
	}
	if t.name == "break" {
		w.pause(t)
		return
	}
	if len(w.open) >= maxNest || !w.fits(t.name) {
		return
	}
	var attributes strings.Builder
	for _, a := range t.attributes {
		check := r.attributes[a.name]
		if check == nil || !check.MatchString(a.value) || strings.Contains(attributes.String(), " "+a.name+"=") {
			continue
		}
		attributes.WriteString(" " + a.name + `="` + escaper.Replace(a.value) + `"`)
	}
	kept := attributes.String()
	if r.needs == "*" && kept == "" || r.needs != "" && r.needs != "*" && !strings.Contains(kept, " "+r.needs+"=") {
		return
	}
	if t.closed {
		return // without content it says nothing
	}
	w.marked = true
	w.b.WriteString("<" + t.name + kept + ">")
	w.open = append(w.open, t.name)
}

// fits reports whether an element may stand here: paragraphs at the top,
// sentences there or in a paragraph, all else anywhere.
func (w *writer) fits(name string) bool {
	switch name {
	case "p":
		return len(w.open) == 0
	case "s":
		return len(w.open) == 0 || len(w.open) == 1 && w.open[0] == "p"
	}
	return true
}

func (w *writer) pause(t tok) {
	d, strength := t.pause()
	d = min(d, maxPauses-w.paused)
	switch {
	case d > 0:
		w.paused += d
		w.b.WriteString(`<break time="` + strconv.FormatInt(d.Milliseconds(), 10) + `ms"/>`)
	case strength != "":
		if w.paused += time.Second; w.paused > maxPauses {
			return
		}
		w.b.WriteString(`<break strength="` + strength + `"/>`)
	default:
		return
	}
	w.marked = true
}

func (w *writer) end(name string) {
	if i := slices.Index(w.open, name); i >= 0 {
		for j := len(w.open) - 1; j > i; j-- {
			if w.open[j] == name {
				i = j
				break
			}
		}
		w.closeTo(i)
	}
}

func (w *writer) closeTo(depth int) {
	for len(w.open) > depth {
		last := len(w.open) - 1
		w.b.WriteString("</" + w.open[last] + ">")
		w.open = w.open[:last]
	}
}

// pause reads a break: its time, at most 10 s, or its strength. A break with
// neither is a medium one.
func (t tok) pause() (time.Duration, string) {
	strength := "medium"
	for _, a := range t.attributes {
		switch a.name {
		case "time":
			if d, ok := parsePause(a.value); ok {
				return min(d, maxPause), "none"
			}
		case "strength":
			if slices.Contains([]string{"none", "x-weak", "weak", "medium", "strong", "x-strong"}, a.value) {
				strength = a.value
			}
		}
	}
	return 0, strength
}

func parsePause(s string) (time.Duration, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	unit := time.Second
	if rest, ok := strings.CutSuffix(s, "ms"); ok {
		s, unit = rest, time.Millisecond
	} else {
		s = strings.TrimSuffix(s, "s")
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || f < 0 {
		return 0, false
	}
	return time.Duration(min(f, 1e6) * float64(unit)), true
}

// Reduce returns the words of an SSML message: entities decoded, breaks as
// punctuation, aliases in place of what they stand for, characters that are to
// be spelt apart from one another. Unresolved {variables} are left out.
func Reduce(message string) string {
	var r reducer
	for _, t := range tokens(message) {
		r.add(t)
	}
	text, _ := cut(tidy(r.b.String()), maxText)
	return text
}

type reducer struct {
	b     strings.Builder
	spelt int // depth of elements that spell
	subs  int // depth within sub, whose content is replaced
	open  []string
}

var speltAs = []string{"characters", "spell-out", "verbatim", "digits", "telephone"}

func (r *reducer) add(t tok) {
	switch t.kind {
	case textToken:
		switch {
		case r.subs > 0:
		case r.spelt > 0:
			r.b.WriteString(spell(t.text))
		default:
			r.b.WriteString(t.text)
		}
	case startToken:
		r.start(t)
	case endToken:
		r.end(t.name)
	}
}

func (r *reducer) start(t tok) {
	switch t.name {
	case "break":
		d, strength := t.pause()
		switch {
		case d == 0 && strength == "none":
		case d >= 700*time.Millisecond || strength == "strong" || strength == "x-strong":
			r.b.WriteString(stop)
		default:
			r.b.WriteString(rest)
		}
	case "br", "p", "s", "li", "div":
		r.b.WriteString(stop)
	case "sub":
		alias := t.attribute("alias")
		if alias == "" || t.closed {
			return
		}
		if r.subs == 0 {
			r.b.WriteString(alias)
		}
		r.subs++
		r.open = append(r.open, "sub")
	case "say-as":
		if !t.closed && slices.Contains(speltAs, t.attribute("interpret-as")) {
			r.spelt++
			r.open = append(r.open, "say-as")
		}
	}
}

func (r *reducer) end(name string) {
	switch name {
	case "p", "s", "li", "div":
		r.b.WriteString(stop)
		return
	}
	i := slices.Index(r.open, name)
	if i < 0 {
		return
	}
	for _, n := range r.open[i:] {
		if n == "sub" {
			r.subs--
		} else {
			r.spelt--
		}
	}
	r.open = r.open[:i]
}

// spell sets the letters and digits of s apart.
func spell(s string) string {
	var b strings.Builder
	for _, c := range s {
		b.WriteRune(c)
		b.WriteByte(' ')
	}
	return b.String()
}

// cut returns the first n characters of s, and how many there are.
func cut(s string, n int) (string, int) {
	count := 0
	for i := range s {
		if count == n {
			return s[:i], n
		}
		count++
	}
	return s, count
}
