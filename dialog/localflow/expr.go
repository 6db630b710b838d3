package localflow

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// expr is a compiled expression over a conversation's variables.
type expr func(vars map[string]any) any

// Binding powers of the operators, loosest first.
var powers = map[string]int{
	"or": 1, "and": 2,
	"==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "contains": 3, "matches": 3,
	"+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}

// exprToken splits an expression: number, string, word, operator.
var exprToken = regexp.MustCompile(`^(?:(\d+(?:\.\d+)?)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([A-Za-z_][A-Za-z0-9_]*)|(==|!=|<=|>=|&&|\|\||[-+*/%<>!()]))`)

type parser struct {
	tokens []token
	at     int
	depth  int
}

type token struct {
	text  string
	value any // of a literal
	name  bool
}

// parseExpr compiles source. Operators, loosest first: or, and; == != < <= > >=
// contains matches; + -; * / %; not and -.
func parseExpr(source string) (expr, error) {
	p := &parser{}
	rest := strings.TrimSpace(source)
	for rest != "" {
		m := exprToken.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("the expression %q cannot be read from %q on", source, rest)
		}
		t := token{text: m[0]}
		switch {
		case m[1] != "":
			f, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return nil, fmt.Errorf("the expression %q: %w", source, err)
			}
			t.value, t.text = f, "literal"
		case m[0][0] == '"' || m[0][0] == '\'':
			t.value, t.text = strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`).Replace(m[2]+m[3]), "literal"
		case m[4] == "true" || m[4] == "false":
			t.value, t.text = m[4] == "true", "literal"
		case m[4] != "":
			t.name = powers[m[4]] == 0 && m[4] != "not"
		case m[0] == "&&":
			t.text = "and"
		case m[0] == "||":
			t.text = "or"
		case m[0] == "!":
			t.text = "not"
		}
		p.tokens = append(p.tokens, t)
		rest = strings.TrimSpace(rest[len(m[0]):])
	}
	e, err := p.expression(0)
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("%q is not expected", p.tokens[p.at].text)
	}
	if err != nil {
		return nil, fmt.Errorf("the expression %q: %w", source, err)
	}
	return e, nil
}

func (p *parser) next() (token, bool) {
	if p.at >= len(p.tokens) {
		return token{}, false
	}
	p.at++
	return p.tokens[p.at-1], true
}

func (p *parser) expression(power int) (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("it is nested too deeply")
	}
	defer func() { p.depth-- }()
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	for p.at < len(p.tokens) {
		op := p.tokens[p.at]
		if op.value != nil || powers[op.text] <= power {
			break
		}
		p.at++
		right, err := p.expression(powers[op.text])
		if err != nil {
			return nil, err
		}
		left = binary(op.text, left, right)
	}
	return left, nil
}

func (p *parser) operand() (expr, error) {
	t, ok := p.next()
	switch {
	case !ok:
		return nil, errors.New("it ends too early")
	case t.value != nil:
		return func(map[string]any) any { return t.value }, nil
	case t.text == "null":
		return func(map[string]any) any { return nil }, nil
	case t.name:
		return func(vars map[string]any) any { return vars[t.text] }, nil
	case t.text == "(":
		e, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		if closing, ok := p.next(); !ok || closing.text != ")" {
			return nil, errors.New("a bracket is not closed")
		}
		return e, nil
	case t.text == "not":
		e, err := p.expression(2)
		if err != nil {
			return nil, err
		}
		return func(vars map[string]any) any { return !truth(e(vars)) }, nil
	case t.text == "-":
		e, err := p.expression(5)
		if err != nil {
			return nil, err
		}
		return func(vars map[string]any) any { return -number(e(vars)) }, nil
	}
	return nil, fmt.Errorf("%q is not expected", t.text)
}

func binary(op string, left, right expr) expr {
	switch op {
	case "or":
		return func(v map[string]any) any { return truth(left(v)) || truth(right(v)) }
	case "and":
		return func(v map[string]any) any { return truth(left(v)) && truth(right(v)) }
	}
	return func(v map[string]any) any { return apply(op, left(v), right(v)) }
}

func apply(op string, a, b any) any {
	switch op {
	case "==":
		return equal(a, b)
	case "!=":
		return !equal(a, b)
	case "contains":
		return strings.Contains(strings.ToLower(show(a)), strings.ToLower(show(b)))
	case "matches":
		re, err := regexp.Compile("(?i)" + show(b))
		return err == nil && re.MatchString(show(a))
	case "+":
		if numeric(a) && numeric(b) {
			return number(a) + number(b)
		}
		return clip(show(a) + show(b))
	}
	x, y := number(a), number(b)
	switch op {
	case "<":
		return x < y
	case "<=":
		return x <= y
	case ">":
		return x > y
	case ">=":
		return x >= y
	case "-":
		return x - y
	case "*":
		return x * y
	}
	if y == 0 {
		return 0.0
	}
	if op == "%" {
		return float64(int64(x) % max(int64(y), 1))
	}
	return x / y
}

// equal compares a number with what reads as one by value, and all else as it is
// shown: "0100" and "100" are two texts.
func equal(a, b any) bool {
	_, textA := a.(string)
	_, textB := b.(string)
	if (!textA || !textB) && numeric(a) && numeric(b) {
		return number(a) == number(b)
	}
	return show(a) == show(b)
}

func numeric(v any) bool {
	switch v := v.(type) {
	case float64, int, bool, nil:
		return true
	case string:
		_, err := strconv.ParseFloat(v, 64)
		return err == nil && strings.Trim(v, "0123456789.-+eE") == ""
	}
	return false
}

func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int:
		return float64(v)
	case bool:
		if v {
			return 1
		}
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err == nil {
			return f
		}
	}
	return 0
}

func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case nil:
		return false
	case string:
		return v != ""
	case float64:
		return v != 0
	}
	return true
}
