package localflow

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep steps and values may nest, aliases included.
const maxDepth = 64

// reader turns YAML nodes into a flow and collects what is wrong.
type reader struct {
	flow  *Flow
	errs  []error
	depth int
	block string
	count int // steps of the block, for their ids
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if len(r.errs) < 50 {
		r.errs = append(r.errs, fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...)))
	}
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < maxDepth; i++ {
		n = n.Alias
	}
	return n
}

// fields reads a mapping. Keys it does not know are errors that name the nearest.
func (r *reader) fields(n *yaml.Node, what string, keys map[string]func(*yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping of keys", what)
		return
	}
	if r.depth++; r.depth > maxDepth {
		r.fail(n, "%s is nested too deeply", what)
		r.depth--
		return
	}
	defer func() { r.depth-- }()
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		read, ok := keys[key.Value]
		switch {
		case !ok:
			r.fail(key, "%s has no key %q%s", what, key.Value, nearest(key.Value, keys))
		case seen[key.Value]:
			r.fail(key, "%s has the key %q twice", what, key.Value)
		default:
			seen[key.Value] = true
			read(value)
		}
	}
}

// pairs reads a mapping with keys of the author's choice.
func (r *reader) pairs(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping", what)
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			r.fail(key, "%s has %q twice", what, key.Value)
			continue
		}
		seen[key.Value] = true
		each(key, resolve(n.Content[i+1]))
	}
}

func (r *reader) list(n *yaml.Node, what string, each func(*yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s must be a list", what)
		return
	}
	for _, item := range n.Content {
		each(resolve(item))
	}
}

func (r *reader) text(into *string, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			r.fail(n, "%s must be text", what)
			return
		}
		*into = n.Value
	}
}

func (r *reader) flag(into *bool, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Decode(into) != nil {
			r.fail(n, "%s must be true or false", what)
		}
	}
}

func (r *reader) integer(into *int, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Decode(into) != nil || *into < 0 {
			r.fail(n, "%s must be a whole number that is not negative", what)
		}
	}
}

// duration reads seconds as a number (2.5) or a duration (2500ms), up to a day.
func (r *reader) duration(into *time.Duration, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		d, err := parseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			r.fail(n, "%s must be seconds such as 2.5, or a duration such as 2500ms", what)
			return
		}
		*into = d
	}
}

func parseDuration(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err == nil {
		if math.IsNaN(f) || f < 0 || f > 86400 {
			return 0, fmt.Errorf("%s is not between 0 and a day", s)
		}
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("%q is no duration", s)
	}
	return d, nil
}

func (r *reader) regex(into **regexp.Regexp, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		re, err := regexp.Compile("(?i)" + n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			r.fail(n, "%s must be a regular expression: %v", what, err)
			return
		}
		*into = re
	}
}

func (r *reader) texts(into *[]string, what string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			var one string
			r.text(&one, what)(n)
			*into = append(*into, one)
			return
		}
		r.list(n, what, func(item *yaml.Node) {
			var one string
			r.text(&one, what)(item)
			*into = append(*into, one)
		})
	}
}

// value reads anything as JSON would have it: map[string]any, []any, string,
// float64, bool, nil.
func (r *reader) value(n *yaml.Node) any {
	n = resolve(n)
	if r.depth++; r.depth > maxDepth {
		r.fail(n, "the value is nested too deeply")
		r.depth--
		return nil
	}
	defer func() { r.depth-- }()
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any)
		r.pairs(n, "the value", func(k, v *yaml.Node) { m[k.Value] = r.value(v) })
		return m
	case yaml.SequenceNode:
		l := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			l = append(l, r.value(item))
		}
		return l
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!null":
			return nil
		case "!!bool":
			var b bool
			if n.Decode(&b) == nil {
				return b
			}
		case "!!int", "!!float":
			var f float64
			if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				return f
			}
		}
		return n.Value
	default:
	}
	r.fail(n, "the value cannot be used")
	return nil
}

// nearest names the known key that is most like the one written.
func nearest[V any](key string, known map[string]V) string {
	best, distance := "", 4
	for k := range known {
		if d := edits(key, k); d < distance || d == distance && best != "" && k < best {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
	}
	slices.Sort(names)
	return ", write one of " + strings.Join(names, ", ")
}

// edits is the number of letters to change, add or drop between a and b.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
