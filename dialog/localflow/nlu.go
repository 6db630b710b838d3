package localflow

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// phrase is one way to say an intent: words with places for entities, or a
// regular expression whose named groups are entities.
type phrase struct {
	canonical string // without places: compared as a whole
	regex     *regexp.Regexp
}

// place is an entity in a phrase.
var place = regexp.MustCompile(`\{([A-Za-z_][A-Za-z0-9_]*)\}`)

func parsePhrase(text string, entities []entity) (phrase, error) {
	if !place.MatchString(text) {
		return phrase{canonical: dialog.Canonical(text)}, nil
	}
	var b strings.Builder
	b.WriteString("^(?:.* )?")
	at := 0
	for _, m := range place.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		known := false
		for _, e := range entities {
			known = known || e.name == name
		}
		if !known {
			return phrase{}, fmt.Errorf("the phrase %q uses the entity %q, which is not one of the intent's", text, name)
		}
		b.WriteString(fixed(text[at:m[0]]))
		fmt.Fprintf(&b, "(?P<%s>.+?)", name)
		at = m[1]
	}
	b.WriteString(fixed(text[at:]) + "$")
	re, err := regexp.Compile(b.String())
	if err != nil {
		return phrase{}, fmt.Errorf("the phrase %q: %w", text, err)
	}
	return phrase{regex: re}, nil
}

// fixed makes the words between two places a part of an expression over
// canonical text, with the space at their ends kept.
func fixed(text string) string {
	words := regexp.QuoteMeta(dialog.Canonical(text))
	if words == "" {
		return strings.Repeat(" ", min(1, len(text)))
	}
	if strings.HasPrefix(text, " ") {
		words = " " + words
	}
	if strings.HasSuffix(text, " ") {
		words += " "
	}
	return words
}

// match returns the entities found when text says the intent.
func (in *intent) match(text string) (map[string]string, bool) {
	canonical := dialog.Canonical(text)
	if canonical == "" {
		return nil, false
	}
	for _, p := range in.phrases {
		if p.regex == nil {
			if p.canonical == canonical {
				return in.found(text), true
			}
			continue
		}
		subject := canonical
		m := p.regex.FindStringSubmatch(subject)
		if m == nil {
			subject = strings.TrimSpace(text)
			m = p.regex.FindStringSubmatch(subject)
		}
		if m == nil {
			continue
		}
		entities := make(map[string]string)
		ok := true
		for i, name := range p.regex.SubexpNames() {
			if i == 0 || name == "" || m[i] == "" {
				continue
			}
			v, valid := in.value(name, m[i])
			ok = ok && valid
			entities[name] = v
		}
		if ok {
			return entities, true
		}
	}
	return nil, false
}

// found looks for entities with listed values in text that says an intent
// without places.
func (in *intent) found(text string) map[string]string {
	entities := make(map[string]string)
	padded := " " + dialog.Canonical(text) + " "
	for _, e := range in.entities {
		for _, v := range e.order {
			for _, s := range append([]string{v}, e.values[v]...) {
				if strings.Contains(padded, " "+dialog.Canonical(s)+" ") {
					entities[e.name] = v
				}
			}
		}
	}
	return entities
}

// value maps what was said to the entity's value. An entity without values or
// pattern takes anything.
func (in *intent) value(name, said string) (string, bool) {
	for _, e := range in.entities {
		if e.name != name {
			continue
		}
		return e.value(said)
	}
	return said, true
}

func (e *entity) value(said string) (string, bool) {
	canonical := dialog.Canonical(said)
	for _, v := range e.order {
		for _, s := range append([]string{v}, e.values[v]...) {
			if dialog.Canonical(s) == canonical {
				return v, true
			}
		}
	}
	if e.regex != nil {
		for _, s := range []string{said, canonical, strings.ReplaceAll(canonical, " ", "")} {
			if m := e.regex.FindString(s); m != "" {
				return m, true
			}
		}
		return "", false
	}
	return said, len(e.order) == 0
}

// understood is what was made of a request.
type understood struct {
	intent   string // "None" when nothing fits
	query    string
	entities map[string]string
}

// understand finds the intent that text says, among all of the flow: those in
// scope are tried first.
func (f *Flow) understand(text string, scope []string) understood {
	u := understood{intent: "None", query: text, entities: map[string]string{}}
	for _, names := range [][]string{scope, f.intentOrder} {
		for _, name := range names {
			in := f.intents[name]
			if in == nil {
				continue
			}
			if entities, ok := in.match(text); ok {
				u.intent, u.entities = name, entities
				return u
			}
		}
	}
	return u
}
