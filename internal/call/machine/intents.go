package machine

import (
	"strings"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// understand resolves text by the configured map of phrases. A phrase matches
// whole, without case and punctuation; {name} stands for one word or more and
// becomes the entity of that name.
func understand(intents []Intent, text string, confidence float64) (dialog.Action, bool) {
	words := strings.Fields(dialog.Canonical(text))
	for _, in := range intents {
		if entities, ok := fits(phrase(in.Phrase), words); ok {
			return dialog.Intent(in.Name, text, entities, confidence), true
		}
	}
	return dialog.Action{}, false
}

// phrase splits a pattern into words and {entities}. It is brought to the same
// form as what was said, with a made-up word in the place of each entity.
func phrase(pattern string) []string {
	names := map[string]string{}
	fields := strings.Fields(pattern)
	for i, w := range fields {
		if strings.HasPrefix(w, "{") && strings.HasSuffix(w, "}") {
			token := "zzentity" + strings.Repeat("z", i)
			names[token], fields[i] = w, token
		}
	}
	words := strings.Fields(dialog.Canonical(strings.Join(fields, " ")))
	for i, w := range words {
		if name, ok := names[w]; ok {
			words[i] = name
		}
	}
	return words
}

// fits matches words against a pattern, entities taking as few as they can.
func fits(pattern, words []string) ([]dialog.Entity, bool) {
	if len(pattern) == 0 {
		return nil, len(words) == 0
	}
	name, isEntity := strings.CutPrefix(pattern[0], "{")
	if !isEntity {
		if len(words) == 0 || words[0] != pattern[0] {
			return nil, false
		}
		return fits(pattern[1:], words[1:])
	}
	for n := 1; n <= len(words); n++ {
		if rest, ok := fits(pattern[1:], words[n:]); ok {
			e := dialog.Entity{Name: strings.TrimSuffix(name, "}"), Value: strings.Join(words[:n], " ")}
			return append([]dialog.Entity{e}, rest...), true
		}
	}
	return nil, false
}
