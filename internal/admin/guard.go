package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// A guard decides who may use the API.
type guard struct {
	set      bool
	hash     [sha256.Size]byte
	loopback bool
	front    *front
	cookies  *cookies
}

func newGuard(token secret.Secret, loopback bool, f *front) *guard {
	return &guard{set: token.Set(), hash: sha256.Sum256([]byte(token.Reveal())), loopback: loopback, front: f, cookies: newCookies()}
}

// judge returns 0, or the status of a refusal and why.
func (g *guard) judge(r *http.Request) (int, string) {
	switch {
	case g.set:
		if !g.authorized(r) {
			return http.StatusUnauthorized, "send the token of http.token as a bearer token, or sign in"
		}
		return 0, ""
	case !g.loopback || !arrivedAtLoopback(r):
		return http.StatusForbidden, "the API is off: set http.token, or listen on loopback"
	case !localName(r.Host):
		// A page of another site can make its own name resolve to this machine; the
		// Host header gives it away.
		return http.StatusForbidden, "the API is only served as localhost: set http.token for other names"
	case g.front.client(r).afar:
		return http.StatusForbidden, "a proxy passes requests of other hosts on: set http.token"
	}
	return 0, ""
}

// authorized reports whether a request has the token of http.token, or a cookie
// that was given for it.
func (g *guard) authorized(r *http.Request) bool {
	if !g.set {
		return false
	}
	if r.Header.Get("Authorization") != "" {
		given, ok := bearer(r)
		return ok && g.right(given)
	}
	for _, c := range r.CookiesNamed(cookieName) {
		if g.cookies.has(c.Value) {
			return true
		}
	}
	return false
}

// right compares a token in constant time.
func (g *guard) right(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return g.set && subtle.ConstantTimeCompare(sum[:], g.hash[:]) == 1
}

// local reports whether a request comes from this machine, addressed as such: it
// needs no token when there is none.
func (g *guard) local(r *http.Request) bool {
	return g.loopback && arrivedAtLoopback(r) && localName(r.Host) && !g.front.client(r).afar
}

// bearer returns the token of a request (RFC 6750 section 2.1).
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "bearer")
}

func localName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
