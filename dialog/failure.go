package dialog

import (
	"encoding/json"
	"html"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// errorText finds the service's own words in the body of a refusal. Bodies
// differ in shape from one layer of the service to the next.
func errorText(body []byte) string {
	o := members(body)
	if o == nil {
		text := stringOf(body)
		if text == "" {
			text = string(body)
		}
		if strings.HasPrefix(strings.TrimSpace(text), "<") {
			_, page, found := strings.Cut(text, "<body")
			if found {
				text = "<body" + page
			}
			text = html.UnescapeString(tags.ReplaceAllString(text, " "))
		}
		return printableText(text, 200)
	}
	for _, key := range []string{"data", "message", "error", "reason", "status"} {
		if s := o.str(key); s != "" {
			return printableText(s, 200)
		}
		if inner := members(o[key]); inner != nil {
			for _, k := range []string{"message", "reason", "error"} {
				if s := inner.str(k); s != "" {
					return printableText(s, 200)
				}
			}
		}
	}
	var fields map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(o["errors"], &fields) == nil {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			parts = append(parts, strings.TrimPrefix(k+": "+fields[k].Message, ": "))
		}
		return printableText(strings.Join(parts, "; "), 200)
	}
	return ""
}

// printableText makes foreign text fit for a log: one line, no control
// characters, at most limit bytes.
func printableText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// environmentWords are in the refusals of an environment that is not there.
var environmentWords = []string{
	"not published", "version alias", "environment tag", "project version", "versionid", "version tag",
	"environment does not exist", "environment not found", "model not found", "project is properly rendered",
}

// unknownEnvironment reports whether the service refused the environment itself,
// which it does before anything of the flow runs.
func unknownEnvironment(te *TurnError) bool {
	if te.Status != 400 && te.Status != 404 || te.Executed != ExecutedNo {
		return false
	}
	message := strings.ToLower(te.Message)
	return slices.ContainsFunc(environmentWords, func(w string) bool { return strings.Contains(message, w) })
}
