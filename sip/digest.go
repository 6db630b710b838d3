package sip

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"go.uber.org/zap"
)

// maxChallenges is how often one request may be challenged: by a proxy, by the
// far end, and once more for a stale nonce.
const maxChallenges = 3

// credentialStore keeps the challenges of one call, so that its later requests
// carry credentials at once.
type credentialStore struct {
	mu    sync.Mutex
	known []*challenge
}

type challenge struct {
	header string // of the answer: Authorization or Proxy-Authorization
	chal   *digest.Challenge
	count  int
	tried  bool // credentials for this nonce were sent
}

// ranks orders the algorithms (RFC 8760 2.3 and 2.4: the first we support that
// the far end prefers; here the strongest, MD5 last).
var ranks = map[string]int{"SHA-256": 4, "SHA-512-256": 3, "SHA-512": 2, "MD5": 1, "": 1}

// take reads the challenges of a 401 or 407 and reports whether a further
// attempt makes sense: the trunk's own address asks, for the trunk's realm,
// with an algorithm that we have, and not because the password is wrong.
func (cs *credentialStore) take(s *Server, t *Trunk, r *response) bool {
	if t == nil || t.Username == "" || !t.trusted(r.source.Addr()) {
		return false
	}
	ask, answer := "WWW-Authenticate", "Authorization"
	if r.code == 407 {
		ask, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	var best *digest.Challenge
	for _, v := range headerValues(r.headers, ask) {
		c, err := digest.ParseChallenge(v)
		if err != nil {
			continue
		}
		c.Algorithm = strings.ToUpper(c.Algorithm)
		for i := range c.QOP {
			c.QOP[i] = strings.ToLower(strings.TrimSpace(c.QOP[i]))
		}
		if ranks[c.Algorithm] == 0 || !digest.CanDigest(c) || t.Realm != "" && c.Realm != t.Realm {
			continue
		}
		if best == nil || ranks[c.Algorithm] > ranks[best.Algorithm] {
			best = c
		}
	}
	if best == nil || s.admission.pinned(t, best.Realm) != best.Realm {
		s.log.Warn("challenge not answered", zap.String("trunk", t.Name), zap.Int("status", r.code))
		return false
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	i := slices.IndexFunc(cs.known, func(k *challenge) bool { return k.header == answer && k.chal.Realm == best.Realm })
	if i < 0 {
		cs.known = append(cs.known, &challenge{header: answer, chal: best})
		return true
	}
	old := cs.known[i]
	refused := old.tried && !best.Stale
	cs.known[i] = &challenge{header: answer, chal: best}
	if refused && old.count > 1 {
		return true // The nonce had served before: it may have aged without a word.
	}
	return !refused
}

// authorize adds credentials for the challenges seen.
func (cs *credentialStore) authorize(req *gosip.Request, t *Trunk) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, k := range cs.known {
		k.count++
		k.tried = true
		cred, err := digest.Digest(k.chal, digest.Options{
			Method: string(req.Method), URI: req.Recipient.String(), Count: k.count,
			Username: t.Username, Password: t.Password.Reveal(),
			GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(req.Body())), nil },
		})
		if err == nil {
			appendHeader(req, k.header, cred.String())
		}
	}
}

// copyCredentials gives the ACK of a 2xx the credentials of its INVITE
// (RFC 3261 13.2.2.4).
func copyCredentials(from, to *gosip.Request) {
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range from.GetHeaders(name) {
			appendHeader(to, name, h.Value())
		}
	}
}
