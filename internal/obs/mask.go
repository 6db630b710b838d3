package obs

import "strings"

// Mask returns the first and the last digits of a number, so that an operator
// can compare numbers and nobody can call them: +49…567. Short numbers,
// extensions, keep their length to themselves too. Of a SIP URI the host stays.
func Mask(number string) string {
	scheme, rest := "", number
	if i := strings.IndexByte(number, ':'); i >= 0 && i <= len("sips") && !strings.Contains(number[:i], "@") {
		scheme, rest = number[:i+1], number[i+1:]
	}
	user, host := rest, ""
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, host = rest[:i], rest[i:]
		if j := strings.IndexAny(host, ";?"); j >= 0 {
			host = host[:j]
		}
	} else if scheme == "sip:" || scheme == "sips:" {
		return Printable(scheme + rest) // a host alone
	}
	return Printable(scheme + maskUser(user) + host)
}

func maskUser(s string) string {
	const head, tail, least = 3, 3, 9
	user, _, _ := strings.Cut(s, ";")
	runes := []rune(user)
	switch {
	case len(runes) == 0:
		return ""
	case len(runes) < least:
		return "…" + string(runes[max(1, len(runes)-2):])
	}
	return string(runes[:head]) + "…" + string(runes[len(runes)-tail:])
}
