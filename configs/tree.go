package configs

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Bounds of a document, against mistakes and against aliases that multiply.
const (
	maxBytes = 1 << 20
	maxDepth = 40
	maxNodes = 100_000
)

// parse reads one document into a tree without aliases, merge keys and repeated
// keys. The tree is nil for an empty document.
func parse(r io.Reader) (*yaml.Node, Problems) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, Problems{{Message: "read: " + err.Error(), Severity: Error}}
	}
	if len(text) > maxBytes {
		return nil, Problems{{Message: "the document is longer than 1 MiB", Severity: Error}}
	}
	return parseText(text)
}

func parseText(text []byte) (root *yaml.Node, problems Problems) {
	// The parser panics on some malformed documents.
	defer func() {
		if p := recover(); p != nil {
			root, problems = nil, Problems{{Message: fmt.Sprintf("no YAML: %v", p), Severity: Error}}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case err == io.EOF: //nolint:errorlint // the decoder returns it bare
		return nil, nil
	case err != nil:
		return nil, Problems{syntaxProblem(err)}
	}
	if err := dec.Decode(&more); err == nil {
		return nil, Problems{{Line: more.Line, Message: "a second document begins here, write one", Severity: Error}}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil, nil
	}
	e := expander{done: map[*yaml.Node]*yaml.Node{}, open: map[*yaml.Node]bool{}}
	root = e.expand(doc.Content[0], "", 0)
	if size(root, map[*yaml.Node]int{}) > maxNodes {
		e.complain(root, "", "the document is too large once its aliases are resolved")
		root = nil
	}
	return root, e.problems
}

// size counts the nodes of a tree that shares parts, up to a little more than
// maxNodes.
func size(n *yaml.Node, known map[*yaml.Node]int) int {
	if total, ok := known[n]; ok {
		return total
	}
	total := 1
	for _, c := range n.Content {
		total = min(total+size(c, known), maxNodes+1)
	}
	known[n] = total
	return total
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem makes a problem of the parser's error, which has the line in its
// text.
func syntaxProblem(err error) Problem {
	p := Problem{Message: err.Error(), Severity: Error}
	if m := yamlLine.FindStringSubmatch(p.Message); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Message = "no YAML: " + p.Message[len(m[0]):]
	}
	return p
}

// An expander copies a tree, resolving aliases and merge keys on the way.
type expander struct {
	done     map[*yaml.Node]*yaml.Node
	open     map[*yaml.Node]bool
	problems Problems
}

func (e *expander) complain(n *yaml.Node, path, format string, args ...any) {
	e.problems = append(e.problems, Problem{Line: n.Line, Path: path, Message: fmt.Sprintf(format, args...), Severity: Error})
}

func (e *expander) expand(n *yaml.Node, path string, depth int) *yaml.Node {
	if done, ok := e.done[n]; ok {
		return done
	}
	null := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
	if depth > maxDepth || e.open[n] {
		e.complain(n, path, "nested too deeply")
		return null
	}
	e.open[n] = true
	defer delete(e.open, n)
	out := null
	switch n.Kind {
	case yaml.AliasNode:
		if n.Alias != nil {
			out = e.expand(n.Alias, path, depth+1)
		}
	case yaml.SequenceNode:
		c := *n
		c.Anchor, c.Content = "", make([]*yaml.Node, len(n.Content))
		for i, item := range n.Content {
			c.Content[i] = e.expand(item, index(path, i), depth+1)
		}
		out = &c
	case yaml.MappingNode:
		out = e.mapping(n, path, depth)
	case yaml.ScalarNode:
		c := *n
		c.Anchor = ""
		out = &c
	case yaml.DocumentNode: // only at the root, which parseText opens
	}
	e.done[n] = out
	return out
}

func (e *expander) mapping(n *yaml.Node, path string, depth int) *yaml.Node {
	c := *n
	c.Anchor, c.Content = "", nil
	seen := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			e.complain(key, path, "a key must be a word")
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if line, dup := seen[key.Value]; dup {
			e.complain(key, join(path, key.Value), "repeated, first written in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		c.Content = append(c.Content, key, e.expand(value, join(path, key.Value), depth+1))
	}
	for _, m := range merged {
		c.Content = e.merge(c.Content, m, path, depth)
	}
	return &c
}

// merge appends what a << key refers to, without what is there already.
func (e *expander) merge(content []*yaml.Node, m *yaml.Node, path string, depth int) []*yaml.Node {
	from := e.expand(m, path, depth+1)
	switch from.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(from.Content); i += 2 {
			if lookup(content, from.Content[i].Value) == nil {
				content = append(content, from.Content[i], from.Content[i+1])
			}
		}
	case yaml.SequenceNode:
		for _, item := range from.Content {
			content = e.merge(content, item, path, depth+1)
		}
	default:
		e.complain(m, path, "<< wants a mapping or a list of mappings")
	}
	return content
}

// lookup returns the value of key in a mapping's content, or nil.
func lookup(content []*yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(content); i += 2 {
		if content[i].Value == key {
			return content[i+1]
		}
	}
	return nil
}

// child returns the value of key in n, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	return lookup(n.Content, key)
}

// overlay returns base with the fields of over laid over it: mappings field by
// field, everything else whole. Blocks of an adapter are merged only where both
// mean the same provider. Neither argument is changed.
func overlay(base, over *yaml.Node) *yaml.Node {
	if base == nil || over == nil || base.Kind != yaml.MappingNode || over.Kind != yaml.MappingNode {
		if over == nil {
			return base
		}
		return over
	}
	if p, q := child(base, "provider"), child(over, "provider"); q != nil && (p == nil || p.Value != q.Value) {
		return over
	}
	out := *over
	out.Content = nil
	for i := 0; i+1 < len(base.Content); i += 2 {
		key, value := base.Content[i], base.Content[i+1]
		if mine := lookup(over.Content, key.Value); mine == nil {
			out.Content = append(out.Content, key, value)
		}
	}
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		out.Content = append(out.Content, key, overlay(lookup(base.Content, key.Value), value))
	}
	return &out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
