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
}

func newGuard(token secret.Secret, loopback bool) *guard {
	return &guard{set: token.Set(), hash: sha256.Sum256([]byte(token.Reveal())), loopback: loopback}
}

// judge returns 0, or the status of a refusal and why.
func (g *guard) judge(r *http.Request) (int, string) {
	switch {
	case g.set:
		given, ok := bearer(r)
		sum := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(sum[:], g.hash[:]) != 1 {
			return http.StatusUnauthorized, "send the token of http.token as a bearer token"
		}
		return 0, ""
	case !g.loopback:
		return http.StatusForbidden, "the API is off: set http.token, or listen on loopback"
	case !localName(r.Host):
		// A page of another site can make its own name resolve to this machine; the
		// Host header gives it away.
		return http.StatusForbidden, "the API is only served as localhost: set http.token for other names"
	}
	return 0, ""
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
