package target

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// An address is a target taken apart.
type address struct {
	scheme string // sip or sips; empty for a bare number
	user   string // for a bare number: as it was written
	host   string // lower case; an IPv6 address without brackets; empty for a bare number
	port   uint16 // 0: none
	params string // with the leading semicolon; only of the configuration's own entries
}

// String returns the URI of an address that has a host.
func (a address) String() string {
	host := a.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.port != 0 {
		host += ":" + strconv.Itoa(int(a.port))
	}
	if a.user != "" {
		host = escapeUser(a.user) + "@" + host
	}
	return a.scheme + ":" + host + a.params
}

// The characters of a user part that need no thought: RFC 3261 section 25.1
// unreserved, without those that quote, and some of user-unreserved.
const plainUser = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+"

// parseText reads a number or a URI that a flow gave. Parameters and headers
// are dropped: they are ours alone.
func parseText(text string) (address, error) {
	if strings.ContainsFunc(text, isControl) {
		return address{}, refuse(ReasonControl, "", "the target contains a control character")
	}
	scheme, rest, ok := cutScheme(text)
	if !ok && !strings.Contains(text, "@") {
		if n := bare(text); n == "" {
			return address{}, refuse(ReasonUnlisted, text, "the target is no number and no SIP URI, and dial.directory has no such name")
		}
		return address{user: text}, nil
	}
	if scheme == "tel" {
		// RFC 3966: parameters follow a semicolon.
		n, _, _ := strings.Cut(rest, ";")
		if bare(n) == "" {
			return address{}, refuse(ReasonMalformed, text, "the tel: URI holds no telephone number")
		}
		return address{user: n}, nil
	}
	if !ok {
		scheme, rest = "sip", text
	}
	a, err := parseURI(scheme, rest)
	if err != nil {
		return address{}, refuse(ReasonMalformed, text, "the SIP URI cannot be called: %v", err)
	}
	if strings.Trim(a.user, plainUser) != "" {
		return address{}, refuse(ReasonMalformed, text, "the user of the SIP URI has characters other than letters, digits and - _ . ~ +")
	}
	a.params = ""
	return a, nil
}

// parseEntry reads a target of the configuration, whose parameters count.
func parseEntry(text string) (address, error) {
	if strings.ContainsFunc(text, isControl) {
		return address{}, errors.New("it contains a control character")
	}
	scheme, rest, ok := cutScheme(text)
	switch {
	case ok && scheme != "tel":
		return parseURI(scheme, rest)
	case ok:
		text, _, _ = strings.Cut(rest, ";")
	case strings.Contains(text, "@"):
		return parseURI("sip", text)
	}
	if bare(text) == "" {
		return address{}, errors.New("it is neither a number nor a SIP URI, such as +14155550100 or sip:desk@pbx.example.com")
	}
	return address{user: text}, nil
}

func cutScheme(text string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(text, ":")
	switch scheme = strings.ToLower(scheme); scheme {
	case "sip", "sips", "tel":
		return scheme, rest, ok
	}
	return "", text, false
}

// parseURI reads user@host:port;params?headers (RFC 3261 section 19.1). Headers
// are dropped.
func parseURI(scheme, rest string) (address, error) {
	rest, _, _ = strings.Cut(rest, "?")
	a := address{scheme: scheme}
	userinfo, hostport, ok := strings.Cut(rest, "@")
	if !ok {
		userinfo, hostport = "", rest
	}
	if strings.Contains(hostport, "@") {
		return a, errors.New("it has two @")
	}
	if ok && userinfo == "" {
		return a, errors.New("it has no user before the @")
	}
	if strings.Contains(userinfo, ":") {
		return a, errors.New("it has a password")
	}
	var err error
	if a.user, err = url.PathUnescape(userinfo); err != nil {
		return a, errors.New("its user has a broken % escape")
	}
	if strings.ContainsFunc(a.user, isControl) {
		return a, errors.New("its user hides a control character")
	}
	if host, params, found := strings.Cut(hostport, ";"); found {
		hostport, a.params = host, ";"+params
		if strings.ContainsAny(params, " <>\"") {
			return a, errors.New("its parameters have characters that must be escaped")
		}
	}
	a.host, a.port, err = splitHost(hostport)
	return a, err
}

// splitHost reads host[:port]. A host is a domain name whose last label begins
// with a letter (RFC 3261 section 25.1), or an address in its usual form: what
// other resolvers read into 2130706433 or 0x7f.1 is none.
func splitHost(s string) (string, uint16, error) {
	var host, portText string
	var hasPort bool
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, errors.New("its host has no closing bracket")
		}
		host, portText = s[1:end], s[end+1:]
		if portText != "" {
			if portText[0] != ':' {
				return "", 0, errors.New("something follows its host")
			}
			portText, hasPort = portText[1:], true
		}
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, errors.New("its host is no IPv6 address")
		}
		host = addr.Unmap().String()
	} else {
		host, portText, hasPort = strings.Cut(s, ":")
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.String()
		} else if !isDomain(host) {
			return "", 0, errors.New("its host is neither a domain name nor an IP address")
		}
	}
	if !hasPort {
		return host, 0, nil
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return "", 0, errors.New("its port is no number from 1 to 65535")
	}
	return host, uint16(port), nil
}

func isDomain(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	top := labels[len(labels)-1]
	return top[0] >= 'a' && top[0] <= 'z'
}

// escapeUser writes a user part with everything escaped that is not plain.
func escapeUser(user string) string {
	var b strings.Builder
	for i := range len(user) {
		c := user[i]
		if strings.IndexByte(plainUser+"*!'()&=$,/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		const hex = "0123456789ABCDEF"
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}
