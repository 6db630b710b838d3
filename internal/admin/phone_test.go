package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shop    = "https://shop.example.com"
	other   = "https://other.example.com"
	evil    = "https://evil.example.com"
	ownPage = "http://127.0.0.1:8080"
	secret1 = "0123456789abcdef"
)

// exchange is a Phone that puts everybody through.
type exchange struct {
	mu     sync.Mutex
	err    error
	offers []Offer
	calls  map[string]*browserCall
}

func newExchange() *exchange { return &exchange{calls: map[string]*browserCall{}} }

func (e *exchange) Call(_ context.Context, o Offer) (Answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return Answer{}, e.err
	}
	e.offers = append(e.offers, o)
	key := key()
	e.calls[key] = &browserCall{origin: o.Origin, feed: NewFeed()}
	return Answer{ID: "call-1", Session: key, SDP: "answer to " + o.SDP, Agent: "pizza", Language: "en-US"}, nil
}

func (e *exchange) Session(key string) (PhoneSession, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.calls[key]
	return c, ok
}

func (e *exchange) Setup(agents []string) PhoneSetup {
	all := []PhoneAgent{{"books", "en-GB", []string{"en-GB"}}, {"pizza", "en-US", []string{"en-US", "de-DE"}}}
	return PhoneSetup{
		Agents:     slices.DeleteFunc(all, func(a PhoneAgent) bool { return agents != nil && !slices.Contains(agents, a.Name) }),
		ICEServers: []PhoneICE{{URLs: []string{"stun:stun.example.com"}}},
	}
}

// begin puts a call up and returns its key.
func (e *exchange) begin(origin string) (string, *browserCall) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, c := key(), &browserCall{origin: origin, feed: NewFeed()}
	e.calls[k] = c
	return k, c
}

type browserCall struct {
	origin string
	feed   *Feed

	mu   sync.Mutex
	did  []string
	err  error
	bang bool
}

func (c *browserCall) note(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bang {
		panic("bang")
	}
	c.did = append(c.did, what)
	return c.err
}

func (c *browserCall) Origin() string { return c.origin }

func (c *browserCall) Reoffer(_ context.Context, sdp string) (string, error) {
	return "answer to " + sdp, c.note("offer " + sdp)
}

func (c *browserCall) Candidates(_ context.Context, l []Candidate) error {
	b, err := json.Marshal(l)
	return errors.Join(err, c.note("candidates "+string(b)))
}
func (c *browserCall) Keys(keys string) error { return c.note("keys " + keys) }
func (c *browserCall) Type(text string) error { return c.note("text " + text) }
func (c *browserCall) Hangup(why string)      { _ = c.note("hangup " + why) }
func (c *browserCall) Feed() *Feed            { return c.feed }

func sites() map[string][]string { return map[string][]string{"pizza": {shop}, "books": {shop, other}} }

const jsonType = "application/json"

// post is a request with a JSON body.
func post(path, body, origin string) request {
	q := request{method: "POST", path: path, body: body, header: map[string]string{"Content-Type": jsonType}}
	if origin != "" {
		q.header["Origin"] = origin
	}
	return q
}

func (q request) with(key, value string) request {
	q.header = maps.Clone(q.header)
	if q.header == nil {
		q.header = map[string]string{}
	}
	q.header[key] = value
	return q
}

func (q request) as(host, token string) request {
	q.host, q.token = host, token
	return q
}

func fieldOf(t *testing.T, w *httptest.ResponseRecorder, name string) string {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &m), w.Body)
	s, _ := m[name].(string)
	return s
}

// signIn returns a cookie for http.token.
func signIn(t *testing.T, h http.Handler, host string) string {
	t.Helper()
	w := do(t, h, post("/api/v1/session", `{"token":"`+secret1+`"}`, "http://"+host).as(host, ""))
	require.Equal(t, 204, w.Code, w.Body)
	return strings.Split(w.Header().Get("Set-Cookie"), ";")[0]
}

const call = `{"sdp":"v=0"}`

func TestWhoMayCall(t *testing.T) {
	const public = "phone.example.com"
	type visitor struct {
		name string
		q    request
		want int
		code string
	}
	for name, tt := range map[string]struct {
		config   Config
		visitors []visitor
	}{
		"loopback": {Config{Loopback: true}, []visitor{
			{"no page", post("/api/v1/rtc", call, ""), 201, ""},
			{"own page", post("/api/v1/rtc", call, ownPage), 201, ""},
			{"own page as localhost", post("/api/v1/rtc", call, "http://localhost:8080").as("localhost:8080", ""), 201, ""},
			{"own page says so", post("/api/v1/rtc", call, ownPage).with("Sec-Fetch-Site", "same-origin"), 201, ""},
			{"foreign page", post("/api/v1/rtc", call, evil), 403, CodeOrigin},
			{"another port", post("/api/v1/rtc", call, "http://127.0.0.1:3000"), 403, CodeOrigin},
			{"another scheme", post("/api/v1/rtc", call, "https://127.0.0.1:8080"), 403, CodeOrigin},
			{"page in a sandbox", post("/api/v1/rtc", call, "null"), 403, CodeOrigin},
			{"cross-site", post("/api/v1/rtc", call, "").with("Sec-Fetch-Site", "cross-site"), 403, CodeOrigin},
			{"same-site", post("/api/v1/rtc", call, "").with("Sec-Fetch-Site", "same-site"), 403, CodeOrigin},
			{"rebinding", post("/api/v1/rtc", call, "http://evil.example.com").as("evil.example.com", ""), 403, CodeOrigin},
			{"through a proxy", post("/api/v1/rtc", call, "").with("X-Forwarded-For", "203.0.113.5"), 403, CodeSignin},
			{"through a proxy that hides", post("/api/v1/rtc", call, "").with("X-Forwarded-For", "unknown"), 403, CodeSignin},
			{"through a modern proxy", post("/api/v1/rtc", call, "").with("Forwarded", "for=203.0.113.5"), 403, CodeSignin},
			{"through a proxy on this machine", post("/api/v1/rtc", call, "").with("X-Forwarded-For", "127.0.0.1"), 201, ""},
			{"listed page without token", post("/api/v1/rtc", call, shop), 401, CodeToken},
			{"wrong token", post("/api/v1/rtc", `{"sdp":"v=0","token":"x"}`, ownPage), 401, CodeToken},
		}},
		"loopback with token": {Config{Loopback: true, Token: secret.New(secret1)}, []visitor{
			{"no page", post("/api/v1/rtc", call, ""), 401, CodeSignin},
			{"own page", post("/api/v1/rtc", call, ownPage), 401, CodeSignin},
			{"bearer", post("/api/v1/rtc", call, "").as("", "Bearer "+secret1), 201, ""},
			{"bearer of own page", post("/api/v1/rtc", call, ownPage).as("", "Bearer "+secret1), 201, ""},
			{"bearer of a foreign page", post("/api/v1/rtc", call, evil).as("", "Bearer "+secret1), 403, CodeOrigin},
			{"wrong bearer", post("/api/v1/rtc", call, "").as("", "Bearer x"), 401, CodeSignin},
		}},
		"public without token": {Config{}, []visitor{
			{"no page", post("/api/v1/rtc", call, "").as(public, ""), 403, CodeSignin},
			{"localhost", post("/api/v1/rtc", call, "").as("localhost", ""), 403, CodeSignin},
			{"own page", post("/api/v1/rtc", call, "http://"+public).as(public, ""), 403, CodeSignin},
			{"foreign page", post("/api/v1/rtc", call, evil).as(public, ""), 403, CodeOrigin},
			{"listed page", post("/api/v1/rtc", call, shop).as(public, ""), 401, CodeToken},
		}},
		"public with token": {Config{Token: secret.New(secret1)}, []visitor{
			{"no page", post("/api/v1/rtc", call, "").as(public, ""), 401, CodeSignin},
			{"bearer", post("/api/v1/rtc", call, "").as(public, "Bearer "+secret1), 201, ""},
			{"without offer", post("/api/v1/rtc", `{}`, "").as(public, ""), 401, CodeSignin},
			{"without offer, foreign", post("/api/v1/rtc", `{}`, evil).as(public, ""), 403, CodeOrigin},
			{"bearer without offer", post("/api/v1/rtc", `{}`, "").as(public, "Bearer "+secret1), 400, CodeBadOffer},
		}},
	} {
		for _, v := range tt.visitors {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				phone := newExchange()
				tt.config.Phone, tt.config.Origins = phone, sites
				w := do(t, New(tt.config), v.q)
				require.Equal(t, v.want, w.Code, w.Body)
				require.True(t, json.Valid(w.Body.Bytes()))
				if v.want == 201 {
					require.Len(t, phone.offers, 1)
					require.Equal(t, v.q.header["Origin"], phone.offers[0].Origin)
					return
				}
				require.Empty(t, phone.offers)
				require.Equal(t, v.code, fieldOf(t, w, "code"))
				require.NotEmpty(t, fieldOf(t, w, "error"))
			})
		}
	}
}

func TestCookieCalls(t *testing.T) {
	const host = "phone.example.com"
	phone := newExchange()
	h := New(Config{Phone: phone, Origins: sites, Calls: newSwitchboard(), Token: secret.New(secret1)})
	cookie := signIn(t, h, host)
	own := post("/api/v1/rtc", call, "http://"+host).as(host, "").with("Cookie", cookie)
	require.Equal(t, 201, do(t, h, own).Code)
	for _, origin := range []string{evil, shop, "null", "http://" + host + ":8443", "https://" + host} {
		require.NotEqual(t, 201, do(t, h, own.with("Origin", origin)).Code, origin)
	}
	require.Equal(t, 403, do(t, h, own.with("Sec-Fetch-Site", "cross-site")).Code)
	for _, path := range []string{"/api/v1/rtc/tokens", "/api/v1/calls/" + live + "/hangup"} {
		q := post(path, `{}`, evil).as(host, "").with("Cookie", cookie)
		require.Equal(t, 403, do(t, h, q).Code, path)
	}
	// A path that only looks as if it were one of the calls' is not spared.
	q := post("/api/v1/rtc/../calls/"+live+"/hangup", "", evil).as(host, "").with("Cookie", cookie)
	require.NotEqual(t, 202, do(t, h, q).Code)

	get := request{method: "GET", path: "/api/v1/calls", host: host}
	require.Equal(t, 401, do(t, h, get).Code)
	require.Equal(t, 200, do(t, h, get.with("Cookie", cookie)).Code, "the cookie opens every guarded address")
	require.Equal(t, 401, do(t, h, get.with("Cookie", cookie).as(host, "Bearer x")).Code, "a wrong token is wrong")
	require.Equal(t, 401, do(t, h, get.with("Cookie", cookie+"x")).Code)
	require.JSONEq(t, `{"needed":true,"signed_in":true}`, do(t, h, request{method: "GET", path: "/api/v1/session", host: host}.with("Cookie", cookie)).Body.String())

	w := do(t, h, request{method: "DELETE", path: "/api/v1/session", host: host}.with("Cookie", cookie))
	require.Equal(t, 204, w.Code)
	require.Contains(t, w.Header().Get("Set-Cookie"), "Max-Age=0")
	require.Equal(t, 401, do(t, h, get.with("Cookie", cookie)).Code, "signed out")
	require.Equal(t, 401, do(t, h, own).Code)
	require.JSONEq(t, `{"needed":true,"signed_in":false}`, do(t, h, request{method: "GET", path: "/api/v1/session", host: host}.with("Cookie", cookie)).Body.String())
}

func TestOwnPagesBehindProxies(t *testing.T) {
	phone := newExchange()
	h := New(Config{
		Phone: phone, Token: secret.New(secret1), PublicURL: "https://Phone.example.com/",
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	for _, tt := range []struct {
		name, from, origin string
		header             map[string]string
		want               int
	}{
		{"public address", "10.0.0.1:1", "https://phone.example.com", nil, 201},
		{"public address, unknown proxy", "203.0.113.1:1", "https://phone.example.com", nil, 201},
		{"what the proxy says", "10.0.0.1:1", "https://alias.example.com", map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "alias.example.com", "X-Forwarded-For": "203.0.113.1"}, 201},
		{"what a stranger says", "203.0.113.1:1", "https://alias.example.com", map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "alias.example.com"}, 403},
		{"what the browser says", "203.0.113.1:1", "https://alias.example.com", map[string]string{"Sec-Fetch-Site": "same-origin"}, 201},
		{"plain instead of secure", "10.0.0.1:1", "http://phone.example.com", nil, 403},
	} {
		q := post("/api/v1/rtc", call, tt.origin).as("10.9.9.9:8080", "Bearer "+secret1)
		q.from = tt.from
		for k, v := range tt.header {
			q = q.with(k, v)
		}
		require.Equal(t, tt.want, do(t, h, q).Code, tt.name)
	}
	require.Equal(t, "203.0.113.1", phone.offers[2].Source.String())
}

func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		h := New(Config{Token: secret.New(secret1), Calls: newSwitchboard(), Log: zap.New(core), Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		right := post("/api/v1/session", `{"token":"`+secret1+`"}`, "")
		c := do(t, h, right).Result().Cookies()[0]
		require.Equal(t, http.Cookie{
			Name: cookieName, Value: c.Value, Path: "/", MaxAge: 12 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode, Raw: c.Raw,
		}, *c)
		secure := right.with("X-Forwarded-Proto", "https")
		secure.from = "10.0.0.1:1"
		require.True(t, do(t, h, secure).Result().Cookies()[0].Secure)
		require.Equal(t, 403, do(t, h, right.with("Origin", evil)).Code)
		require.Equal(t, 415, do(t, h, right.with("Content-Type", "text/plain")).Code)
		for _, body := range []string{``, `{`, `[]`, `null`, `"x"`, `{"token":5}`, `{"token":"x","more":1}`, `{} {}`} {
			q := post("/api/v1/session", body, "")
			q.from = "198.51.100.1:1"
			require.Equal(t, 400, do(t, h, q).Code, body)
		}

		wrong := post("/api/v1/session", `{"token":"0123456789abcdeF"}`, "")
		wrong.from, right.from = "203.0.113.9:1", "203.0.113.9:2"
		for range 10 {
			w := do(t, h, wrong)
			require.Equal(t, 401, w.Code)
			require.Empty(t, w.Header().Get("Set-Cookie"))
		}
		w := do(t, h, right)
		require.Equal(t, 429, w.Code, "the right one does not count either")
		require.Equal(t, "6", w.Header().Get("Retry-After"))
		require.Equal(t, CodeLimit, fieldOf(t, w, "code"))
		time.Sleep(6 * time.Second)
		cookie := do(t, h, right).Result().Cookies()[0]
		get := request{method: "GET", path: "/api/v1/calls"}.with("Cookie", cookieName+"="+cookie.Value)
		time.Sleep(signinLife - time.Second)
		require.Equal(t, 200, do(t, h, get).Code)
		time.Sleep(time.Second)
		require.Equal(t, 401, do(t, h, get).Code)
		for _, l := range logs.All() {
			for _, v := range l.ContextMap() {
				require.NotContains(t, fmt.Sprint(v), cookie.Value)
				require.NotContains(t, fmt.Sprint(v), secret1)
			}
		}
	})
}

func TestSignInWithoutToken(t *testing.T) {
	h := New(Config{Loopback: true})
	require.JSONEq(t, `{"needed":false,"signed_in":false}`, do(t, h, request{method: "GET", path: "/api/v1/session"}).Body.String())
	require.Equal(t, 204, do(t, h, post("/api/v1/session", `{"token":""}`, "")).Code)
	h = New(Config{})
	require.JSONEq(t, `{"needed":true,"signed_in":false}`, do(t, h, request{method: "GET", path: "/api/v1/session"}).Body.String())
	require.Equal(t, 403, do(t, h, post("/api/v1/session", `{"token":""}`, "")).Code)
}

func TestCookiesAreBounded(t *testing.T) {
	c := newCookies()
	first := c.begin()
	require.True(t, c.has(first))
	for range maxSignins {
		c.begin()
	}
	require.False(t, c.has(first))
	require.Len(t, c.byHash, maxSignins)
	require.Equal(t, maxSignins, c.order.Len())
}

func TestTokensOfPages(t *testing.T) {
	phone := newExchange()
	h := New(Config{Phone: phone, Origins: sites, Token: secret.New(secret1)})
	ask := func(agent, origin string) *httptest.ResponseRecorder {
		return do(t, h, post("/api/v1/rtc/token", `{"agent":"`+agent+`"}`, origin))
	}
	w := ask("pizza", shop)
	require.Equal(t, 201, w.Code, w.Body)
	require.Equal(t, shop, w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
	ends, err := time.Parse(time.RFC3339, fieldOf(t, w, "expires"))
	require.NoError(t, err)
	require.InDelta(t, 60, time.Until(ends).Seconds(), 5)
	token := fieldOf(t, w, "token")
	require.GreaterOrEqual(t, len(token), 22)

	for _, tt := range []struct {
		agent, origin, code string
		want                int
	}{
		{"pizza", evil, CodeOrigin, 403},
		{"pizza", other, CodeOrigin, 403},
		{"pizza", "", CodeOrigin, 403},
		{"pizza", "null", CodeOrigin, 403},
		{"pizza", shop + ".evil.example.com", CodeOrigin, 403},
		{"pizza", strings.ToUpper(shop), CodeOrigin, 403},
		{"pizza", shop + ":443", CodeOrigin, 403},
		{"nobody", shop, CodeNoAgent, 404},
		{"", shop, CodeNoAgent, 404}, // there are two
		{"", other, "", 201},         // there is one
	} {
		w := ask(tt.agent, tt.origin)
		require.Equal(t, tt.want, w.Code, "%v: %s", tt, w.Body)
		require.Equal(t, tt.code, fieldOf(t, w, "code"), tt)
		if tt.origin != shop && tt.origin != other {
			require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), tt)
		}
	}

	spend := func(agent, origin string) *httptest.ResponseRecorder {
		return do(t, h, post("/api/v1/rtc", `{"sdp":"v=0","agent":"`+agent+`","token":"`+token+`","variables":{"a":"b","n":1.5,"t":true},"language":"de-DE"}`, origin))
	}
	require.Equal(t, 403, spend("pizza", evil).Code)
	require.Equal(t, 403, spend("pizza", other).Code)
	require.Equal(t, 403, spend("pizza", "").Code)
	require.Equal(t, 403, spend("books", shop).Code)
	w = spend("pizza", shop)
	require.Equal(t, 201, w.Code, w.Body)
	require.Equal(t, "answer to v=0", fieldOf(t, w, "sdp"))
	require.Equal(t, "call-1", fieldOf(t, w, "id"))
	require.Equal(t, "pizza", fieldOf(t, w, "agent"))
	require.Equal(t, "en-US", fieldOf(t, w, "language"))
	require.NotEmpty(t, fieldOf(t, w, "session"))
	require.Equal(t, shop, w.Header().Get("Access-Control-Allow-Origin"))
	require.Equal(t, []Offer{{
		SDP: "v=0", Agent: "pizza", Language: "de-DE", Variables: map[string]any{"a": "b", "n": 1.5, "t": true}, Source: netip.MustParseAddr("192.0.2.1"), Origin: shop,
	}}, phone.offers)
	w = spend("pizza", shop)
	require.Equal(t, 401, w.Code, "replayed")
	require.Equal(t, CodeToken, fieldOf(t, w, "code"))

	token = fieldOf(t, ask("books", other), "token")
	require.Equal(t, 201, spend("", other).Code)
	require.Equal(t, "books", phone.offers[1].Agent, "the token says which agent")
}

func TestTokensOfPrograms(t *testing.T) {
	const host = "phone.example.com"
	phone := newExchange()
	h := New(Config{Phone: phone, Origins: sites, Token: secret.New(secret1)})
	ask := func(body, token, origin string) *httptest.ResponseRecorder {
		return do(t, h, post("/api/v1/rtc/tokens", body, origin).as(host, token))
	}
	const body = `{"agent":"pizza","origin":"https://new.example.com"}`
	bearer := "Bearer " + secret1
	w := ask(body, "", "")
	require.Equal(t, 401, w.Code)
	require.Equal(t, `Bearer realm="ivrbridge"`, w.Header().Get("WWW-Authenticate"))
	require.Equal(t, 401, ask(body, "Bearer x", "").Code)
	require.Equal(t, 404, ask(`{"agent":"nobody","origin":"https://new.example.com"}`, bearer, "").Code)
	require.Equal(t, 400, ask(`{"agent":"pizza","origin":"https://new.example.com/x"}`, bearer, "").Code)
	require.Equal(t, 400, ask(`{"agent":"pizza","origin":"*"}`, bearer, "").Code)
	require.Equal(t, 415, do(t, h, post("/api/v1/rtc/tokens", body, "").as(host, bearer).with("Content-Type", "text/plain")).Code)
	w = ask(body, bearer, "")
	require.Equal(t, 201, w.Code, w.Body)
	q := post("/api/v1/rtc", `{"sdp":"v=0","token":"`+fieldOf(t, w, "token")+`"}`, "https://new.example.com").as(host, "")

	preflight := request{method: "OPTIONS", path: "/api/v1/rtc", host: host}.with("Origin", "https://new.example.com").with("Access-Control-Request-Method", "POST")
	w = do(t, h, preflight)
	require.Equal(t, 204, w.Code)
	require.Equal(t, "https://new.example.com", w.Header().Get("Access-Control-Allow-Origin"), "it has a live token")
	w = do(t, h, request{method: "GET", path: "/api/v1/rtc/config", host: host}.with("Origin", "https://new.example.com"))
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), `"pizza"`)
	require.NotContains(t, w.Body.String(), `"books"`)

	w = do(t, h, q)
	require.Equal(t, 201, w.Code, w.Body)
	require.Equal(t, "https://new.example.com", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, do(t, h, preflight).Header().Get("Access-Control-Allow-Origin"), "and no more")
	inCall := request{method: "OPTIONS", path: "/api/v1/rtc/" + fieldOf(t, w, "session") + "/keys", host: host}
	require.Equal(t, "https://new.example.com", do(t, h, inCall.with("Origin", "https://new.example.com")).Header().Get("Access-Control-Allow-Origin"), "it has a call")
	require.Empty(t, do(t, h, inCall.with("Origin", evil)).Header().Get("Access-Control-Allow-Origin"))

	token := fieldOf(t, ask(`{"agent":"pizza","origin":""}`, bearer, ""), "token")
	q = post("/api/v1/rtc", `{"sdp":"v=0","token":"`+token+`"}`, "")
	require.Equal(t, 403, do(t, h, q.with("Origin", evil)).Code)
	require.Equal(t, 401, do(t, h, request{method: "GET", path: "/api/v1/rtc/config", host: host}).Code, "that is no permission for everybody")
	require.Equal(t, 201, do(t, h, q).Code, "a program that is no browser")
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTokens()
		a, ends := s.mint("pizza", shop)
		require.Equal(t, tokenLife, time.Until(ends))
		time.Sleep(tokenLife - time.Nanosecond)
		require.Equal(t, []string{"pizza"}, s.of(shop))
		b, _ := s.mint("pizza", shop)
		time.Sleep(time.Nanosecond)
		_, err := s.redeem(a, "pizza", shop)
		require.Equal(t, 401, err.Status)
		require.Equal(t, []string{"pizza"}, s.of(shop))
		agent, err := s.redeem(b, "", shop)
		require.Nil(t, err)
		require.Equal(t, "pizza", agent)
		require.Empty(t, s.of(shop))
		require.Empty(t, s.agents)
		require.Empty(t, s.byHash)
	})
}

func TestTokensAreBounded(t *testing.T) {
	s := newTokens()
	first, _ := s.mint("pizza", shop)
	second, _ := s.mint("pizza", other)
	for range maxTokens - 1 {
		s.mint("books", evil)
	}
	require.Equal(t, maxTokens, s.order.Len())
	require.Len(t, s.byHash, maxTokens)
	_, err := s.redeem(first, "pizza", shop)
	require.Equal(t, 401, err.Status, "the oldest made room")
	require.Empty(t, s.of(shop))
	_, err = s.redeem(second, "pizza", other)
	require.Nil(t, err)
}

func TestTokenIsSpentOnce(t *testing.T) {
	phone := newExchange()
	s := newServer(Config{Phone: phone, Origins: sites})
	h := s.handler()
	for range 20 {
		value, _ := s.tokens.mint("pizza", shop)
		s.limits = newLimits()
		var all sync.WaitGroup
		codes := make(chan int, 16)
		for range cap(codes) {
			all.Go(func() {
				codes <- do(t, h, post("/api/v1/rtc", `{"sdp":"v=0","token":"`+value+`"}`, shop)).Code
			})
		}
		all.Wait()
		close(codes)
		got := map[int]int{}
		for c := range codes {
			got[c]++
		}
		require.Equal(t, map[int]int{201: 1, 401: 15}, got)
	}
	require.Len(t, phone.offers, 20)
}

func TestPreflights(t *testing.T) {
	phone := newExchange()
	h := New(Config{Phone: phone, Origins: sites})
	session, _ := phone.begin(evil)
	for _, tt := range []struct{ path, origin, methods string }{
		{"/api/v1/rtc", shop, "POST"},
		{"/api/v1/rtc", other, "POST"},
		{"/api/v1/rtc", evil, ""},
		{"/api/v1/rtc", "null", ""},
		{"/api/v1/rtc", "", ""},
		{"/api/v1/rtc/token", shop, "POST"},
		{"/api/v1/rtc/token", evil, ""},
		{"/api/v1/rtc/config", shop, "GET"},
		{"/api/v1/rtc/" + session + "/events", evil, "GET"},
		{"/api/v1/rtc/" + session + "/candidates", evil, "POST"},
		{"/api/v1/rtc/" + session + "/candidates", "https://more.example.com", ""},
		{"/api/v1/rtc/nothing/candidates", evil, ""},
	} {
		q := request{method: "OPTIONS", path: tt.path}.with("Access-Control-Request-Method", "POST")
		if tt.origin != "" {
			q = q.with("Origin", tt.origin)
		}
		w := do(t, h, q)
		require.Equal(t, 204, w.Code, tt)
		require.Contains(t, w.Header()["Vary"], "Origin")
		require.Equal(t, tt.methods, w.Header().Get("Access-Control-Allow-Methods"), tt)
		if tt.methods == "" {
			require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), tt)
			require.Empty(t, w.Header().Get("Access-Control-Allow-Headers"), tt)
			continue
		}
		require.Equal(t, tt.origin, w.Header().Get("Access-Control-Allow-Origin"), tt)
		require.Equal(t, "Content-Type, Last-Event-ID", w.Header().Get("Access-Control-Allow-Headers"))
		require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
	}
	require.Equal(t, 204, do(t, h, request{method: "OPTIONS", path: "/api/v1/rtc"}).Code)
}

func TestWrongAddressesAndMethods(t *testing.T) {
	phone := newExchange()
	core, logs := observer.New(zapcore.DebugLevel)
	h := New(Config{Phone: phone, Loopback: true, Log: zap.New(core)})
	session, _ := phone.begin("")
	for _, tt := range []struct {
		method, path, allow string
		want                int
	}{
		{"GET", "/api/v1/rtc", "POST, OPTIONS", 405},
		{"DELETE", "/api/v1/rtc/config", "GET, OPTIONS", 405},
		{"GET", "/api/v1/rtc/token", "POST, OPTIONS", 405},
		{"PUT", "/api/v1/rtc/" + session + "/keys", "POST, OPTIONS", 405},
		{"POST", "/api/v1/rtc/" + session + "/events", "GET, OPTIONS", 405},
		{"GET", "/api/v1/rtc/" + session, "", 404},
		{"GET", "/api/v1/rtc/" + session + "/events/1", "", 404},
		{"GET", "/api/v1/rtc/" + session + "/secrets", "", 404},
		{"GET", "/api/v1/rtc/", "", 404},
	} {
		w := do(t, h, request{method: tt.method, path: tt.path})
		require.Equal(t, tt.want, w.Code, tt)
		require.Equal(t, tt.allow, w.Header().Get("Allow"), tt)
		require.NotEmpty(t, fieldOf(t, w, "error"))
	}
	for _, l := range logs.All() {
		for _, v := range l.ContextMap() {
			require.NotContains(t, fmt.Sprint(v), session)
		}
	}
	require.Equal(t, 404, do(t, New(Config{Loopback: true}), post("/api/v1/rtc", call, "")).Code, "without a phone there are no calls")
	require.Equal(t, 404, do(t, New(Config{Loopback: true}), request{method: "GET", path: "/"}).Code)
}

func TestSetup(t *testing.T) {
	const all = `{"agents":[{"name":"books","language":"en-GB","languages":["en-GB"]},{"name":"pizza","language":"en-US","languages":["en-US","de-DE"]}],` +
		`"ice_servers":[{"urls":["stun:stun.example.com"]}],"https":""}`
	phone := newExchange()
	get := request{method: "GET", path: "/api/v1/rtc/config"}
	w := do(t, New(Config{Phone: phone, Loopback: true}), get)
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, all, w.Body.String())
	require.Equal(t, 403, do(t, New(Config{Phone: phone, Loopback: true}), get.with("Origin", evil)).Code)
	require.Equal(t, 403, do(t, New(Config{Phone: phone, Loopback: true}), get.as("evil.example.com", "")).Code)

	h := New(Config{Phone: phone, Origins: sites, Token: secret.New(secret1), HTTPS: "0.0.0.0:8443"})
	w = do(t, h, get.as("192.0.2.7:8080", ""))
	require.Equal(t, 401, w.Code)
	require.Equal(t, "https://192.0.2.7:8443", fieldOf(t, w, "https"), "the page over plain http prints it")
	require.Equal(t, 200, do(t, h, get.as("", "Bearer "+secret1)).Code)
	w = do(t, h, get.with("Origin", other))
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), `"books"`)
	require.NotContains(t, w.Body.String(), `"pizza"`, "of other agents a site learns nothing")
	require.Equal(t, other, w.Header().Get("Access-Control-Allow-Origin"))

	h = New(Config{Phone: phone, PublicURL: shop + "/", Origins: sites})
	w = do(t, h, get.as("10.0.0.1:8080", ""))
	require.Equal(t, 200, w.Code, "our own page is that of an allowed site, and browsers name none")
	require.Equal(t, shop, fieldOf(t, w, "https"))
	require.Equal(t, 403, do(t, h, get.with("Sec-Fetch-Site", "cross-site")).Code)
}

func TestAddressOfHTTPS(t *testing.T) {
	for _, tt := range []struct{ public, listen, host, proto, want string }{
		{"", "", "a:8080", "", ""},
		{"", ":443", "a:8080", "", "https://a"},
		{"", "[::]:8443", "[2001:db8::1]:8080", "", "https://[2001:db8::1]:8443"},
		{"", "[::]:443", "[2001:db8::1]:8080", "", "https://[2001:db8::1]"},
		{"", "", "a", "https", "https://a"},
		{"https://b", ":8443", "a", "", "https://b"},
		{"http://b", ":8443", "a", "", "https://a:8443"},
	} {
		s := newServer(Config{PublicURL: tt.public, HTTPS: tt.listen, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = tt.host
		r.Header.Set("X-Forwarded-Proto", tt.proto)
		require.Equal(t, tt.want, s.https(r), tt)
	}
}

func TestOffersThatCannotBe(t *testing.T) {
	phone := newExchange()
	reg := prometheus.NewRegistry()
	h := New(Config{Phone: phone, Loopback: true, Metrics: reg})
	many := make([]string, maxVariables+1)
	for i := range many {
		many[i] = `"v` + strings.Repeat("x", i) + `":1`
	}
	for body, want := range map[string]int{
		``:                                     400,
		`null`:                                 400,
		`[]`:                                   400,
		`{"sdp":""}`:                           400,
		`{"sdp":" "}`:                          400,
		`{"sdp":5}`:                            400,
		`{"sdp":"v=0","more":1}`:               400,
		`{"sdp":"v=0"}{}`:                      400,
		`{"sdp":"v=0"} x`:                      400,
		`{"sdp":"v=0","language":"../x"}`:      400,
		`{"sdp":"v=0","variables":[]}`:         400,
		`{"sdp":"v=0","variables":{"a":{}}}`:   400,
		`{"sdp":"v=0","variables":{"a":[]}}`:   400,
		`{"sdp":"v=0","variables":{"a":null}}`: 400,
		`{"sdp":"v=0","variables":{"a b":1}}`:  400,
		`{"sdp":"v=0","variables":{` + strings.Join(many, ",") + `}}`:         400,
		`{"sdp":"v=0","variables":{"a":"` + strings.Repeat("x", 4097) + `"}}`: 400,
		`{"sdp":"v=0","agent":"` + strings.Repeat("x", 64) + `"}`:             404,
		`{"sdp":"` + strings.Repeat("x", maxPhoneBody) + `"}`:                 413,
	} {
		w := do(t, h, post("/api/v1/rtc", body, ""))
		require.Equal(t, want, w.Code, "%.60s: %s", body, w.Body)
		require.Contains(t, []string{CodeBadOffer, CodeNoAgent}, fieldOf(t, w, "code"))
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ";"} {
		require.Equal(t, 415, do(t, h, post("/api/v1/rtc", call, "").with("Content-Type", kind)).Code, kind)
	}
	require.Equal(t, 201, do(t, h, post("/api/v1/rtc", call, "").with("Content-Type", "Application/JSON; charset=utf-8")).Code)
	require.Len(t, phone.offers, 1)
	require.Equal(t, map[string]float64{"bad_offer": 23, "no_agent": 1}, shown(t, reg, "ivrbridge_http_refused_total"))
}

// shown returns the values of a metric by its first label.
func shown(t *testing.T, r *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label = l.GetValue()
			}
			out[label] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestRefusalsOfThePhone(t *testing.T) {
	phone := newExchange()
	core, logs := observer.New(zapcore.DebugLevel)
	reg := prometheus.NewRegistry()
	h := New(Config{Phone: phone, Loopback: true, Log: zap.New(core), Metrics: reg})
	for _, tt := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{&PhoneError{Status: 503, Code: CodeFull, Reason: "too many calls", Retry: 1500 * time.Millisecond}, 503, CodeFull, "2"},
		{&PhoneError{Status: 503, Code: CodeDraining, Reason: "going away", Retry: time.Minute}, 503, CodeDraining, "60"},
		{&PhoneError{Status: 404, Code: CodeNoAgent, Reason: "no such agent"}, 404, CodeNoAgent, ""},
		{errors.Join(&PhoneError{Status: 400, Code: CodeBadOffer, Reason: "no audio"}), 400, CodeBadOffer, ""},
		{&PhoneError{Status: 418, Code: "invented", Reason: "tea"}, 418, "invented", ""},
		{&PhoneError{Status: 7, Code: CodeFull, Reason: "broken"}, 500, CodeFull, ""},
		{errors.New("dial tcp: secret detail"), 500, "", ""},
	} {
		phone.err = tt.err
		w := do(t, h, post("/api/v1/rtc", call, ""))
		require.Equal(t, tt.status, w.Code)
		require.Equal(t, tt.code, fieldOf(t, w, "code"))
		require.Equal(t, tt.retry, w.Header().Get("Retry-After"))
		require.NotContains(t, w.Body.String(), "secret detail")
	}
	require.Equal(t, 1, logs.FilterMessage("browser request failed").Len())
	require.Equal(t, map[string]float64{CodeFull: 2, CodeDraining: 1, CodeNoAgent: 1, CodeBadOffer: 1, "other": 1}, shown(t, reg, "ivrbridge_http_refused_total"))
}

func TestInCall(t *testing.T) {
	phone := newExchange()
	core, logs := observer.New(zapcore.DebugLevel)
	h := New(Config{Phone: phone, Log: zap.New(core)})
	session, c := phone.begin(shop)
	path := func(what string) string { return "/api/v1/rtc/" + session + "/" + what }
	for _, tt := range []struct {
		what, body string
		want       int
		did        string
	}{
		{"offer", `{"sdp":"v=0"}`, 200, "offer v=0"},
		{"offer", `{"sdp":""}`, 400, ""},
		{"offer", `{}`, 400, ""},
		{"candidates", `{"candidates":[{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0},{"candidate":"","sdpMid":null}]}`, 204, `candidates [{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0},{"candidate":"","sdpMid":null,"sdpMLineIndex":null}]`},
		{"candidates", `{"candidates":[{"candidate":"a\r\nb"}]}`, 400, ""},
		{"candidates", `{"candidates":[{"candidate":"` + strings.Repeat("x", 1025) + `"}]}`, 400, ""},
		{"candidates", `{"candidates":[{"candidate":"x","sdpMLineIndex":-1}]}`, 400, ""},
		{"candidates", `{"candidates":[{"candidate":"x","usernameFragment":"y"}]}`, 204, `candidates [{"candidate":"x","sdpMid":null,"sdpMLineIndex":null}]`},
		{"candidates", `{"candidates":[{"candidate":"x","address":"y"}]}`, 400, ""},
		{"candidates", `{"candidates":[` + strings.Repeat(`{},`, 100) + `{}]}`, 400, ""},
		{"keys", `{"keys":"12#*d"}`, 202, "keys 12#*D"},
		{"keys", `{"keys":""}`, 400, ""},
		{"keys", `{"keys":"1x"}`, 400, ""},
		{"keys", `{"keys":"` + strings.Repeat("1", 65) + `"}`, 400, ""},
		{"text", `{"text":" a pizza "}`, 202, "text a pizza"},
		{"text", `{"text":" "}`, 400, ""},
		{"text", `{"text":"\u0000a\u001b[1m\u0085\u009b\npizza\u0007"}`, 202, "text a [1m   pizza"},
		{"text", `{"text":"\u0000\u0007"}`, 400, ""},
		{"text", `{"text":"` + strings.Repeat("é", 2000) + `"}`, 202, "text " + strings.Repeat("é", 2000)},
		{"text", `{"text":"` + strings.Repeat("é", 2001) + `"}`, 400, ""},
		{"text", `{"text":"` + strings.Repeat("x", maxPhoneBody) + `"}`, 413, ""},
		{"text", `{"txt":"x"}`, 400, ""},
	} {
		c.did = nil
		w := do(t, h, post(path(tt.what), tt.body, shop))
		require.Equal(t, tt.want, w.Code, "%s %.60s: %s", tt.what, tt.body, w.Body)
		require.Equal(t, tt.did, strings.Join(c.did, ";"))
		require.Equal(t, shop, w.Header().Get("Access-Control-Allow-Origin"))
		if tt.what == "offer" && tt.want == 200 {
			require.JSONEq(t, `{"sdp":"answer to v=0"}`, w.Body.String())
		}
		if tt.want < 300 {
			w = do(t, h, post(path(tt.what), tt.body, shop).with("Content-Type", "text/plain"))
			require.Equal(t, 415, w.Code)
		}
	}

	c.did = nil
	for _, origin := range []string{evil, "null", ownPage} {
		for _, what := range []string{"offer", "candidates", "keys", "text", "hangup"} {
			w := do(t, h, post(path(what), `{}`, origin))
			require.Equal(t, 403, w.Code)
			require.Equal(t, CodeOrigin, fieldOf(t, w, "code"))
		}
		require.Equal(t, 403, do(t, h, request{method: "GET", path: path("events")}.with("Origin", origin)).Code)
	}
	require.Empty(t, c.did)
	for _, key := range []string{"unknown", strings.Repeat("x", 300), "%00", "..%2f"} {
		w := do(t, h, post("/api/v1/rtc/"+key+"/keys", `{"keys":"1"}`, shop))
		require.Equal(t, 404, w.Code, key)
		require.Equal(t, CodeGone, fieldOf(t, w, "code"))
	}

	c.err = &PhoneError{Status: 404, Code: CodeGone, Reason: "the call is over"}
	require.Equal(t, 404, do(t, h, post(path("keys"), `{"keys":"1"}`, shop)).Code)
	c.err = errors.New("broken")
	require.Equal(t, 500, do(t, h, post(path("text"), `{"text":"1"}`, shop)).Code)
	c.bang = true
	require.Equal(t, 500, do(t, h, post(path("text"), `{"text":"1"}`, shop)).Code)
	require.Equal(t, 1, logs.FilterMessage("browser request panicked").Len())
	for _, l := range logs.All() {
		for _, v := range l.ContextMap() {
			require.NotContains(t, fmt.Sprint(v), session, "keys never reach a log")
		}
	}
}

func TestBeaconsHangUp(t *testing.T) {
	phone := newExchange()
	h := New(Config{Phone: phone})
	session, c := phone.begin(shop)
	for _, tt := range []struct{ kind, body, did string }{
		{"", "", "hangup "},
		{"text/plain;charset=UTF-8", `{"why":"the page closed"}`, "hangup the page closed"},
		{"text/plain;charset=UTF-8", `the page closed`, "hangup "},
		{jsonType, `{"why":5}`, "hangup "},
		{jsonType, `{"more":5}`, "hangup "},
		{"", strings.Repeat("x", 2*maxPhoneBody), "hangup "},
		{"", `{"why":"` + strings.Repeat("x", 300) + `"}`, "hangup " + strings.Repeat("x", 200) + "…"},
	} {
		c.did = nil
		w := do(t, h, post("/api/v1/rtc/"+session+"/hangup", tt.body, shop).with("Content-Type", tt.kind))
		require.Equal(t, 202, w.Code)
		require.Equal(t, []string{tt.did}, c.did)
	}
}

func TestLimitsPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		phone := newExchange()
		h := New(Config{Phone: phone, Origins: sites, Token: secret.New(secret1), Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		for path, tt := range map[string]struct {
			q     request
			burst int
			wait  time.Duration
		}{
			"calls":              {post("/api/v1/rtc", call, "").as("", "Bearer "+secret1), 60, 500 * time.Millisecond},
			"refused calls":      {post("/api/v1/rtc", `{}`, evil), 60, 500 * time.Millisecond},
			"tokens":             {post("/api/v1/rtc/token", `{"agent":"pizza"}`, shop), 30, time.Second},
			"tokens of programs": {post("/api/v1/rtc/tokens", `{"agent":"pizza"}`, "").as("", "Bearer "+secret1), 200, 20 * time.Millisecond},
		} {
			q := tt.q
			q.from = "[2001:db8:0:1::1]:1000"
			for range tt.burst {
				require.NotEqual(t, 429, do(t, h, q).Code, path)
			}
			q.from = "[2001:db8:0:1:ffff::2]:1000"
			w := do(t, h, q)
			require.Equal(t, 429, w.Code, "%s: a /64 is one customer", path)
			require.Equal(t, "1", w.Header().Get("Retry-After"))
			require.Equal(t, CodeLimit, fieldOf(t, w, "code"))
			q.from = "10.0.0.1:1000"
			require.Equal(t, 429, do(t, h, q.with("X-Forwarded-For", "1.2.3.4, 2001:db8:0:1::5")).Code, "through our proxy too")
			require.NotEqual(t, 429, do(t, h, q.with("X-Forwarded-For", "2001:db8:0:2::5")).Code)
			q.from = "[2001:db8:0:1::1]:1000"
			require.Equal(t, 429, do(t, h, q.with("X-Forwarded-For", "203.0.113.77")).Code, "what strangers say does not count")
			time.Sleep(tt.wait)
			require.NotEqual(t, 429, do(t, h, q).Code, path)
			require.Equal(t, 429, do(t, h, q).Code, path)
			time.Sleep(time.Hour)
		}
	})
}
