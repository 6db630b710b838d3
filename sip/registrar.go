package sip

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a REGISTER at a local trunk is granted.
const (
	defaultExpires = 3600
	maxExpires     = 7200
)

// onRegister grants what a phone on a local trunk, or one in a browser, asks
// for, so that it shows itself as registered. Nothing is remembered but how long
// its WebSocket is to stay: calls go from the phone to us.
func (s *Server) onRegister(r *request) {
	if r.to.Scheme != "sip" && r.to.Scheme != "sips" { // RFC 3261 10.2.
		s.reply(r, 400)
		return
	}
	var granted []Header
	expires := registerExpires(r.header("Expires"), defaultExpires)
	contacts := listed(r.headers, "Contact")
	if len(contacts) > 8 {
		s.reply(r, 400)
		return
	}
	longest := 0
	wildcard := slices.Contains(contacts, "*")
	if wildcard && (len(contacts) > 1 || expires != 0) { // RFC 3261 10.3 step 6.
		s.reply(r, 400)
		return
	}
	for _, c := range contacts {
		if wildcard {
			break
		}
		a, err := ParseAddress(c)
		if err != nil {
			s.reply(r, 400)
			return
		}
		own := expires
		if v, ok := a.Param("expires"); ok {
			own = registerExpires([]string{v}, expires)
		}
		if own > 0 {
			granted = append(granted, Header{"Contact", "<" + a.URI + ">" + featureParams(a) + ";expires=" + strconv.Itoa(own)})
			longest = max(longest, own)
		}
		if u, err := parseURI(a.URI); err == nil && own > 0 && r.flow != nil {
			s.resume(r, u)
		}
	}
	if r.flow != nil && len(contacts) > 0 {
		r.flow.registered.Store(time.Now().Add(time.Duration(longest) * time.Second).UnixNano())
	}
	for _, p := range r.header("Path") { // RFC 3327 5.3.
		granted = append(granted, Header{"Path", p})
	}
	granted = append(granted, Header{"Expires", strconv.Itoa(expires)})
	granted = append(granted, Header{"Date", time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05") + " GMT"})
	s.reply(r, 200, granted...)
}

// featureParams are the parameters of a Contact that are given back as they
// came: +sip.instance, reg-id (RFC 5626 4.1), and the like.
func featureParams(a Address) string {
	var b strings.Builder
	for _, p := range a.params {
		if p.name == "expires" || p.name == "q" || !isToken(p.name) {
			continue
		}
		b.WriteString(";" + p.name)
		if p.has {
			b.WriteString("=" + p.value)
		}
	}
	return b.String()
}

// registerExpires bounds an expiry; what is no number counts as the default
// (RFC 3261 10.3 step 7).
func registerExpires(values []string, missing int) int {
	if len(values) == 0 {
		return missing
	}
	n, err := strconv.ParseUint(strings.TrimSpace(values[0]), 10, 32)
	if err != nil {
		return defaultExpires
	}
	return int(min(n, maxExpires))
}
