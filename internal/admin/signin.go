package admin

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	cookieName = "ivrbridge_session"
	signinLife = 12 * time.Hour
	maxSignins = 1000
)

// cookies are the operators' browsers that sent the token of http.token. Its
// methods may be called from any goroutine.
type cookies struct {
	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*list.Element
	order  *list.List // of signin, the oldest first
}

type signin struct {
	hash [sha256.Size]byte
	ends time.Time
}

func newCookies() *cookies {
	return &cookies{byHash: map[[sha256.Size]byte]*list.Element{}, order: list.New()}
}

// begin returns the value of a new cookie.
func (s *cookies) begin() string {
	value := key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order.Len() >= maxSignins {
		s.drop(s.order.Front())
	}
	n := signin{sha256.Sum256([]byte(value)), time.Now().Add(signinLife)}
	s.byHash[n.hash] = s.order.PushBack(n)
	return value
}

// has reports whether a cookie counts. Looking its hash up takes no longer for
// one that is nearly right.
func (s *cookies) has(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byHash[sha256.Sum256([]byte(value))]
	if !ok {
		return false
	}
	if n := e.Value.(signin); !time.Now().Before(n.ends) { //nolint:forcetypeassert // nothing else is in it
		s.drop(e)
		return false
	}
	return true
}

// end forgets a cookie.
func (s *cookies) end(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byHash[sha256.Sum256([]byte(value))]; ok {
		s.drop(e)
	}
}

func (s *cookies) drop(e *list.Element) {
	n := s.order.Remove(e).(signin) //nolint:forcetypeassert // nothing else is in it
	delete(s.byHash, n.hash)
}

// signedIn answers GET /api/v1/session.
func (s *server) signedIn(w http.ResponseWriter, r *http.Request) error {
	answer(w, http.StatusOK, map[string]bool{"needed": s.guard.set || !s.guard.local(r), "signed_in": s.guard.authorized(r)})
	return nil
}

// signIn answers POST /api/v1/session.
func (s *server) signIn(w http.ResponseWriter, r *http.Request) error {
	from := s.front.client(r)
	if wait, ok := s.limits.signin.take(from.addr); !ok {
		return tooMany(wait, "too many attempts to sign in")
	}
	var wish struct {
		Token string `json:"token"`
	}
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	if !s.guard.set {
		if s.guard.local(r) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return &PhoneError{Status: http.StatusForbidden, Code: CodeSignin, Reason: "nobody can sign in: set http.token"}
	}
	if !s.guard.right(wish.Token) {
		return &PhoneError{Status: http.StatusUnauthorized, Code: CodeSignin, Reason: "this is not the token of http.token"}
	}
	http.SetCookie(w, s.cookie(r, s.guard.cookies.begin(), signinLife))
	s.Log.Info("signed in", zap.Stringer("peer", from.addr))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// signOut answers DELETE /api/v1/session.
func (s *server) signOut(w http.ResponseWriter, r *http.Request) error {
	for _, c := range r.CookiesNamed(cookieName) {
		s.guard.cookies.end(c.Value)
	}
	http.SetCookie(w, s.cookie(r, "", -time.Second))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// cookie returns the cookie with a value; a negative life removes it.
func (s *server) cookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // over plain http, as on loopback, browsers would not keep a secure one
		Name: cookieName, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.front.client(r).scheme == "https",
	}
}
