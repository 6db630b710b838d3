package target

import (
	"errors"
	"fmt"
	"strings"
)

// A pattern is one entry of dial.allow. ? stands for one character, * for any
// number of them.
type pattern struct {
	address
	exact bool
}

// Check explains what is wrong with an entry of dial.allow.
func Check(entry string) error {
	_, err := compile(entry)
	return err
}

// CheckTarget explains what is wrong with a target of the directory.
func CheckTarget(entry string) error {
	if strings.ContainsAny(entry, "?*") {
		return fmt.Errorf("%q is a pattern: the directory wants targets, patterns go to dial.allow", entry)
	}
	if _, err := parseEntry(entry); err != nil {
		return fmt.Errorf("%q cannot be called: %w", entry, err)
	}
	return nil
}

func compile(entry string) (pattern, error) {
	if !strings.ContainsAny(entry, "?*") {
		a, err := parseEntry(entry)
		if err != nil {
			return pattern{}, fmt.Errorf("%q cannot be called: %w", entry, err)
		}
		return pattern{address: a, exact: true}, nil
	}
	if strings.ContainsFunc(entry, isControl) {
		return pattern{}, fmt.Errorf("%q contains a control character", entry)
	}
	scheme, rest, ok := cutScheme(entry)
	if !ok || scheme == "tel" {
		if strings.Contains(rest, "@") {
			return pattern{}, fmt.Errorf("%q has no scheme, write sip:%s", entry, rest)
		}
		if strings.Trim(strings.TrimPrefix(rest, "+"), "0123456789?*") != "" {
			return pattern{}, fmt.Errorf("%q is no pattern of a number, write digits, ? and *, such as 1???", entry)
		}
		return pattern{address: address{user: rest}}, nil
	}
	p, err := compileURI(scheme, rest)
	if err != nil {
		return pattern{}, fmt.Errorf("%q is no pattern of a SIP URI: %w", entry, err)
	}
	return p, nil
}

func compileURI(scheme, rest string) (pattern, error) {
	user, host, ok := strings.Cut(rest, "@")
	if !ok {
		return pattern{}, errors.New("it has no @, write sip:*@host")
	}
	if strings.Trim(user, plainUser+"?*") != "" {
		return pattern{}, errors.New("its user has characters other than letters, digits and - _ . ~ + ? *")
	}
	if strings.ContainsAny(host, ";?") {
		return pattern{}, errors.New("parameters and headers are not matched, leave them out")
	}
	below, wild := strings.CutPrefix(host, "*.")
	name, port, err := splitHost(below)
	switch {
	case err != nil && strings.Contains(host, "*"):
		return pattern{}, errors.New("its host may be a name or *. and a name: anybody could be called otherwise")
	case err != nil:
		return pattern{}, err
	case wild && !strings.Contains(name, "."):
		return pattern{}, errors.New("its host would be all of a top level domain")
	}
	if wild {
		name = "*." + name
	}
	return pattern{address: address{scheme: scheme, user: user, host: name, port: port}}, nil
}

// matches reports whether an address is one that the pattern means: user and
// host apart, and the port only where the pattern names it.
func (e pattern) matches(p Policy, a address) bool {
	if e.host != "" || a.host != "" {
		return e.scheme == a.scheme && e.port == a.port && a.user != "" &&
			matchHost(e.host, a.host) && glob(e.user, a.user)
	}
	n, ok := p.number(a.user)
	if !ok {
		return false
	}
	if strings.HasPrefix(e.user, "+") {
		return n.e164 != "" && glob(e.user[1:], n.e164[1:])
	}
	return glob(e.user, n.dialled)
}

func matchHost(pattern, host string) bool {
	if below, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, "."+below)
	}
	return pattern == host
}

// glob matches ? and *, in time linear in both for practical patterns and never
// worse than their product.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Match reports whether a text is what a pattern with ? and * means.
func Match(pattern, text string) bool { return glob(pattern, text) }
