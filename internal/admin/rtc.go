package admin

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of what browsers send.
const (
	maxPhoneBody  = 64 << 10
	maxText       = 2000 // characters of typed words
	maxKeys       = 64   // keys in one request
	maxCandidates = 100  // in one request
	maxVariables  = 64
	maxValue      = 4096 // bytes of a variable's text
	maxKey        = 256  // bytes of a session's key
)

// limits are the budgets of an address.
type limits struct{ offer, setup, token, mint, signin *limit }

func newLimits() limits {
	return limits{
		offer:  newLimit(500*time.Millisecond, 60),
		setup:  newLimit(100*time.Millisecond, 100),
		token:  newLimit(time.Second, 30),
		mint:   newLimit(20*time.Millisecond, 200), // by those who have the token of http.token
		signin: newLimit(6*time.Second, 10),
	}
}

// phone adds the addresses of browser calls.
func (s *server) phone(mux *http.ServeMux) {
	for path, methods := range map[string]map[string]handler{
		"/api/v1/rtc":                      {http.MethodPost: s.offer},
		"/api/v1/rtc/config":               {http.MethodGet: s.setup},
		"/api/v1/rtc/token":                {http.MethodPost: s.giveToken},
		"/api/v1/rtc/tokens":               {http.MethodPost: s.mintToken},
		"/api/v1/rtc/{session}/offer":      {http.MethodPost: s.inCall(reoffer)},
		"/api/v1/rtc/{session}/candidates": {http.MethodPost: s.inCall(candidates)},
		"/api/v1/rtc/{session}/keys":       {http.MethodPost: s.inCall(keys)},
		"/api/v1/rtc/{session}/text":       {http.MethodPost: s.inCall(text)},
		"/api/v1/rtc/{session}/hangup":     {http.MethodPost: s.inCall(hangup)},
		"/api/v1/rtc/{session}/events":     {http.MethodGet: s.inCall(s.events)},
		"/api/v1/rtc/":                     {},
	} {
		mux.HandleFunc(path, s.browser(s.crossOrigin(methods)))
	}
}

// crossOrigin lets pages of known sites read answers, and chooses the handler of
// a method.
func (s *server) crossOrigin(methods map[string]handler) handler {
	allowed := slices.Sorted(maps.Keys(methods))
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Add("Vary", "Origin")
		from := origin(r)
		known := from != "" && s.known(r, from)
		if known {
			h.Set("Access-Control-Allow-Origin", from)
			h.Set("Access-Control-Expose-Headers", "Retry-After")
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle, ok := methods[method]
		switch {
		case ok:
			return handle(w, r)
		case len(methods) == 0:
			return &PhoneError{Status: http.StatusNotFound, Code: CodeGone, Reason: "there is nothing at this address"}
		}
		h.Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		if r.Method != http.MethodOptions {
			return &PhoneError{Status: http.StatusMethodNotAllowed, Code: CodeBadRequest, Reason: "send " + strings.Join(allowed, " or ") + " to this address"}
		}
		if known {
			h.Set("Access-Control-Allow-Methods", strings.Join(allowed, ", "))
			h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// known reports whether pages of an origin may talk to us: they may call some
// agent, have a token, or the call that the request is about.
func (s *server) known(r *http.Request, from string) bool {
	if len(s.agentsOf(from)) > 0 {
		return true
	}
	session := r.PathValue("session")
	if session == "" || len(session) > maxKey {
		return false
	}
	p, ok := s.Phone.Session(session)
	return ok && p.Origin() == from
}

// agentsOf returns the agents that pages of some origins may call.
func (s *server) agentsOf(from ...string) []string {
	var out []string
	for _, o := range from {
		if o != "" {
			out = append(out, s.tokens.of(o)...)
		}
	}
	for agent, origins := range s.origins() {
		if slices.ContainsFunc(origins, func(o string) bool { return slices.Contains(from, o) }) {
			out = append(out, agent)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *server) origins() map[string][]string {
	if s.Origins == nil {
		return nil
	}
	return s.Origins()
}

// setup answers GET /api/v1/rtc/config.
func (s *server) setup(w http.ResponseWriter, r *http.Request) error {
	if wait, ok := s.limits.setup.take(s.front.client(r).addr); !ok {
		return tooMany(wait, "too many requests")
	}
	var agents []string // all of them
	if !s.permitted(r) {
		from := r.Header["Origin"]
		if len(from) == 0 && s.front.same(r) {
			from = s.front.own(r) // browsers leave it out when they only read
		}
		if agents = s.agentsOf(from...); len(agents) == 0 {
			p := s.stranger(r)
			p.https = s.https(r)
			return p
		}
	}
	setup := s.Phone.Setup(agents)
	if setup.Agents == nil {
		setup.Agents = []PhoneAgent{}
	}
	if setup.ICEServers == nil {
		setup.ICEServers = []PhoneICE{}
	}
	answer(w, http.StatusOK, map[string]any{"agents": setup.Agents, "ice_servers": setup.ICEServers, "https": s.https(r)})
	return nil
}

// permitted reports whether a request needs no one-time token: it comes from one
// of our own pages, or from none, and shows that it is an operator's, or it comes
// from this machine and no token is set.
func (s *server) permitted(r *http.Request) bool {
	return s.front.same(r) && (s.guard.authorized(r) || !s.guard.set && s.guard.local(r))
}

// stranger is the refusal of a request that shows no permission.
func (s *server) stranger(r *http.Request) *PhoneError {
	switch {
	case !s.front.same(r):
		return &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "pages of this site may not call: list it in web.origins of the agent"}
	case s.guard.set:
		return &PhoneError{Status: http.StatusUnauthorized, Code: CodeSignin, Reason: "sign in, or send a one-time token"}
	case s.guard.loopback && arrivedAtLoopback(r) && !localName(r.Host):
		return &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "calls need no token as localhost alone: open the page as localhost, or set http.token"}
	}
	return &PhoneError{Status: http.StatusForbidden, Code: CodeSignin, Reason: "calls from other hosts need a token: set http.token, or list the site in web.origins of an agent"}
}

// https returns where browsers reach us by https, "" when they do not.
func (s *server) https(r *http.Request) string {
	if strings.HasPrefix(s.front.public, "https://") {
		return s.front.public
	}
	c := s.front.client(r)
	if c.scheme == "https" {
		return "https://" + c.host
	}
	_, port, err := net.SplitHostPort(s.HTTPS)
	if err != nil {
		return ""
	}
	host := (&url.URL{Host: c.host}).Hostname()
	if port == "443" {
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			host = "[" + host + "]"
		}
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, port)
}

type tokenWish struct {
	Agent  string `json:"agent"`
	Origin string `json:"origin"`
}

// giveToken answers POST /api/v1/rtc/token, which pages of allowed sites send.
func (s *server) giveToken(w http.ResponseWriter, r *http.Request) error {
	if wait, ok := s.limits.token.take(s.front.client(r).addr); !ok {
		return tooMany(wait, "too many requests for tokens")
	}
	var wish struct {
		Agent string `json:"agent"`
	}
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	from := origin(r)
	origins := s.origins()
	if wish.Agent == "" {
		wish.Agent = onlyAgent(origins, from)
	}
	if from != "" && len(s.agentsOf(from)) > 0 && len(s.Phone.Setup([]string{wish.Agent}).Agents) == 0 {
		return noAgent()
	}
	if from == "" || !slices.Contains(origins[wish.Agent], from) {
		return &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "pages of this site may not call this agent: list the site in the agent's web.origins"}
	}
	s.token(w, wish.Agent, from)
	return nil
}

// onlyAgent returns the agent that pages of an origin may call when there is
// only one.
func onlyAgent(origins map[string][]string, from string) string {
	found := ""
	for agent, list := range origins {
		if !slices.Contains(list, from) {
			continue
		}
		if found != "" {
			return ""
		}
		found = agent
	}
	return found
}

// mintToken answers POST /api/v1/rtc/tokens, which programs of operators send
// for a page of theirs.
func (s *server) mintToken(w http.ResponseWriter, r *http.Request) error {
	switch {
	case r.Header.Get("Authorization") == "" && !s.front.same(r):
		return &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "pages of other sites get no tokens here: let your server ask for them"}
	case s.guard.authorized(r) || s.permitted(r):
	case s.guard.set:
		w.Header().Set("WWW-Authenticate", `Bearer realm="ivrbridge"`)
		return &PhoneError{Status: http.StatusUnauthorized, Code: CodeSignin, Reason: "send the token of http.token as a bearer token, or sign in"}
	default:
		return &PhoneError{Status: http.StatusForbidden, Code: CodeSignin, Reason: "the API is off: set http.token, or listen on loopback"}
	}
	if wait, ok := s.limits.mint.take(s.front.client(r).addr); !ok {
		return tooMany(wait, "too many requests for tokens")
	}
	var wish tokenWish
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	if wish.Origin != "" && !validOrigin(wish.Origin) {
		return bad(CodeBadRequest, "origin is not as browsers write it: send such as https://shop.example.com")
	}
	if all := s.Phone.Setup(nil).Agents; wish.Agent == "" && len(all) == 1 {
		wish.Agent = all[0].Name
	}
	if len(s.Phone.Setup([]string{wish.Agent}).Agents) == 0 {
		return noAgent()
	}
	s.token(w, wish.Agent, wish.Origin)
	return nil
}

func noAgent() *PhoneError {
	return &PhoneError{Status: http.StatusNotFound, Code: CodeNoAgent, Reason: "there is no such agent for browsers: send the name of one"}
}

func (s *server) token(w http.ResponseWriter, agent, origin string) {
	value, ends := s.tokens.mint(agent, origin)
	answer(w, http.StatusCreated, map[string]any{"token": value, "expires": ends.UTC().Format(time.RFC3339)})
}

type offerWish struct {
	SDP       string         `json:"sdp"`
	Agent     string         `json:"agent"`
	Language  string         `json:"language"`
	Variables map[string]any `json:"variables"`
	Token     string         `json:"token"`
}

var (
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	languagePattern = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,8}$`)
)

func (o *offerWish) check() error {
	switch {
	case strings.TrimSpace(o.SDP) == "":
		return bad(CodeBadOffer, "sdp is missing: send the offer of the browser")
	case len(o.Agent) > 63:
		return noAgent()
	case o.Language != "" && !languagePattern.MatchString(o.Language):
		return bad(CodeBadOffer, "language is no language: send such as en-US")
	case len(o.Variables) > maxVariables:
		return bad(CodeBadOffer, "there are more than %d variables: send fewer", maxVariables)
	}
	for name, value := range o.Variables {
		if !variablePattern.MatchString(name) {
			return bad(CodeBadOffer, "%q is no name of a variable: write letters, digits and _", clip(name, 40))
		}
		switch v := value.(type) {
		case float64, bool:
		case string:
			if len(v) > maxValue {
				return bad(CodeBadOffer, "the variable %s is longer than %d bytes: send a shorter one", clip(name, 40), maxValue)
			}
		default:
			return bad(CodeBadOffer, "the variable %s is neither text nor number nor true nor false", clip(name, 40))
		}
	}
	return nil
}

// offer answers POST /api/v1/rtc: a call.
func (s *server) offer(w http.ResponseWriter, r *http.Request) error {
	from := s.front.client(r)
	if wait, ok := s.limits.offer.take(from.addr); !ok {
		return tooMany(wait, "too many calls")
	}
	// Who may not call anyway learns nothing about what he sent.
	permitted := s.permitted(r)
	var wish offerWish
	if err := decode(r, &wish, CodeBadOffer); err != nil {
		return err
	}
	if err := wish.check(); err != nil && (permitted || wish.Token != "") {
		return err
	}
	switch {
	case wish.Token != "":
		agent, refused := s.tokens.redeem(wish.Token, wish.Agent, origin(r))
		if refused != nil {
			return refused
		}
		wish.Agent = agent
	case permitted:
	case len(s.agentsOf(origin(r))) > 0 && origin(r) != "":
		return &PhoneError{Status: http.StatusUnauthorized, Code: CodeToken, Reason: "calls of this site need a one-time token: ask for one at /api/v1/rtc/token"}
	default:
		return s.stranger(r)
	}
	a, err := s.Phone.Call(r.Context(), Offer{
		SDP: wish.SDP, Agent: wish.Agent, Language: wish.Language, Variables: wish.Variables, Source: from.addr, Origin: origin(r),
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, map[string]string{"id": a.ID, "session": a.Session, "sdp": a.SDP, "agent": a.Agent, "language": a.Language})
	return nil
}
