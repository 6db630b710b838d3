package localflow

import (
	"regexp"
	"strconv"
	"strings"
)

// vfReference is how texts and expressions of a project name a variable or an
// entity.
var vfReference = regexp.MustCompile(`\{\{\[([^\]{}]*)\]\.([^{}\s]*)\}\}`)

// name returns what the variable or entity with the id is called now; fallback is
// what the text calls it.
func (p *project) name(id, fallback string) string {
	if n := p.variables[id]; n != "" {
		return n
	}
	if e := p.entities[id]; e != nil {
		return e.name
	}
	if fallback != "" {
		return fallback
	}
	return id
}

// refer replaces the references in text: form gives the name its new form.
func (p *project) refer(text string, form func(name string) string) string {
	return vfReference.ReplaceAllStringFunc(text, func(m string) string {
		parts := vfReference.FindStringSubmatch(m)
		return form(p.name(parts[2], parts[1]))
	})
}

// braces replaces the references in text by {name}, as the flow knows them.
func (p *project) braces(text string) string {
	return p.refer(text, func(name string) string { return "{" + name + "}" })
}

// only returns the name when text is one reference and nothing else.
func (p *project) only(text string) (string, bool) {
	parts := vfReference.FindStringSubmatch(text)
	if parts == nil || parts[0] != strings.TrimSpace(text) {
		return "", false
	}
	return p.name(parts[2], parts[1]), true
}

// prose reads a text in any of its forms: plain, rich text (a list of lines with
// children) or markup (a list of texts and references).
func (p *project) prose(v any) string { return clip(strings.TrimRight(p.piece(v, 0), "\n")) }

func (p *project) piece(v any, depth int) string {
	if depth > maxDepth {
		return ""
	}
	switch v := v.(type) {
	case string:
		return p.braces(v)
	case []any:
		var b strings.Builder
		for _, item := range v {
			b.WriteString(p.piece(item, depth+1))
			if o, ok := item.(map[string]any); ok && isLine(o) {
				b.WriteString("\n")
			}
		}
		return b.String()
	case map[string]any:
		o := object(v)
		if o.text("type") == "variable" {
			return "{" + p.name(o.text("id"), o.text("name")) + "}"
		}
		for _, key := range []string{"variableID", "entityID"} {
			if id := o.text(key); id != "" {
				return "{" + p.name(id, "") + "}"
			}
		}
		for _, key := range []string{"children", "text", "content"} {
			if o[key] != nil {
				return p.piece(o[key], depth+1)
			}
		}
	}
	return ""
}

// isLine reports whether a piece of rich text is a paragraph; links and variables
// stand within one.
func isLine(o object) bool {
	typ := o.text("type")
	return o["children"] != nil && typ != "link" && typ != "variable"
}

// prompts reads a list of things to say; empty ones are left out.
func (p *project) prompts(list []object) []string {
	var out []string
	for _, o := range list {
		if s := p.spoken(o); strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}

// spoken reads one thing to say: words, or the address of a sound.
func (p *project) spoken(o object) string {
	for _, key := range []string{"audio", "url"} {
		if src := o.text(key); src != "" {
			return sound(p.braces(src))
		}
	}
	content := o["content"]
	if content == nil {
		content = o["text"]
	}
	words := p.prose(content)
	if strings.EqualFold(o.text("voice"), "audio") && strings.TrimSpace(words) != "" {
		return sound(words)
	}
	return words
}

func sound(src string) string {
	return `<audio src="` + strings.NewReplacer(`"`, "%22", "<", "%3C", ">", "%3E").Replace(src) + `"/>`
}

// typed makes a value of what a designer typed: a number where it reads as one.
func typed(text string) any {
	if numeric(text) {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	}
	return text
}
