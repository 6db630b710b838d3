package localflow

import (
	"errors"
	"fmt"
	"strings"
)

// vfCompare are the comparisons of two values in a condition step, by the names
// of both its forms.
var vfCompare = map[string]func(a, b any) bool{
	"equals":           equal,
	"not_equal":        func(a, b any) bool { return !equal(a, b) },
	"greater":          func(a, b any) bool { return number(a) > number(b) },
	"greater_or_equal": func(a, b any) bool { return number(a) >= number(b) },
	"less":             func(a, b any) bool { return number(a) < number(b) },
	"less_or_equal":    func(a, b any) bool { return number(a) <= number(b) },
	"contains":         func(a, b any) bool { return strings.Contains(lower(a), lower(b)) },
	"not_contain":      func(a, b any) bool { return !strings.Contains(lower(a), lower(b)) },
	"starts_with":      func(a, b any) bool { return strings.HasPrefix(lower(a), lower(b)) },
	"ends_with":        func(a, b any) bool { return strings.HasSuffix(lower(a), lower(b)) },
	"has_value":        func(a, _ any) bool { return !blank(a) },
	"is_empty":         func(a, _ any) bool { return blank(a) },
}

var vfArithmetic = map[string]string{"plus": "+", "minus": "-", "times": "*", "divide": "/"}

func lower(v any) string { return strings.ToLower(show(v)) }

// blank reports whether a variable is unfilled, which shows as 0.
func blank(v any) bool { return show(v) == "" || v == 0.0 }

// source compiles an expression as a designer types it.
func (p *project) source(text string) (expr, error) {
	s := p.refer(text, func(name string) string { return name })
	s = place.ReplaceAllString(s, "$1")
	s = strings.NewReplacer("===", "==", "!==", "!=").Replace(s)
	return parseExpr(strings.TrimSuffix(strings.TrimSpace(s), ";"))
}

// expression compiles a tree of a condition or set step.
func (p *project) expression(v any, depth int) (expr, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deeply")
	}
	o, ok := v.(map[string]any)
	if !ok {
		return constant(v)
	}
	e := object(o)
	typ := e.text("type")
	if leaf, err := p.leaf(typ, e["value"]); leaf != nil || err != nil {
		return leaf, err
	}
	var parts []expr
	list := e.list("value")
	if typ == "not" {
		list = []any{e["value"]}
	}
	for _, item := range list {
		if item == nil {
			continue
		}
		part, err := p.expression(item, depth+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return combine(typ, parts)
}

// leaf compiles a value, a variable or a typed expression; nil for all else.
func (p *project) leaf(typ string, value any) (expr, error) {
	text, isText := value.(string)
	switch typ {
	case "value":
		if !isText {
			return constant(value)
		}
		literal := p.braces(text)
		return func(vars map[string]any) any { return fill(literal, vars) }, nil
	case "variable":
		name := p.name(text, "")
		return func(vars map[string]any) any { return vars[name] }, nil
	case "advance":
		if !isText {
			return constant(value)
		}
		return p.source(text)
	}
	return nil, nil
}

func constant(v any) (expr, error) {
	switch v.(type) {
	case string, float64, bool, nil:
		return func(map[string]any) any { return v }, nil
	}
	return nil, errors.New("a value cannot be read")
}

// combine joins the parts of an expression. A group without a type is a list of
// conditions that all must hold.
func combine(typ string, parts []expr) (expr, error) {
	if len(parts) == 0 {
		return nil, errors.New("it is not filled in")
	}
	switch typ {
	case "", "and":
		return func(vars map[string]any) any {
			for _, part := range parts {
				if !truth(part(vars)) {
					return false
				}
			}
			return true
		}, nil
	case "or":
		return func(vars map[string]any) any {
			for _, part := range parts {
				if truth(part(vars)) {
					return true
				}
			}
			return false
		}, nil
	case "not":
		return func(vars map[string]any) any { return !truth(parts[0](vars)) }, nil
	}
	if len(parts) == 1 {
		parts = append(parts, func(map[string]any) any { return "" })
	}
	if op := vfArithmetic[typ]; op != "" {
		return binary(op, parts[0], parts[1]), nil
	}
	if compare := vfCompare[typ]; compare != nil {
		return func(vars map[string]any) any { return compare(parts[0](vars), parts[1](vars)) }, nil
	}
	return nil, fmt.Errorf("the comparison %q is not known", typ)
}
