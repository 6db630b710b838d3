package dialog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

const testKey = "VF.DM.0123456789abcdef01234567.secretpart"

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(status int, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func openOver(t *testing.T, rt http.RoundTripper, change ...func(*Config)) Session {
	t.Helper()
	c := DefaultConfig()
	c.APIKey, c.Environment = secret.New(testKey), "production"
	c.HTTP = &http.Client{Transport: rt}
	for _, f := range change {
		f(&c)
	}
	client, err := New(c)
	require.NoError(t, err)
	s, err := client.Open(t.Context(), Caller{ID: "caller/1+2", Call: "call-9"})
	require.NoError(t, err)
	return s
}

func collect(into *[]Trace) func(Trace) error {
	return func(tr Trace) error { *into = append(*into, tr); return nil }
}

func TestTurnAsItGoesOverTheWire(t *testing.T) {
	var got *http.Request
	var body map[string]any
	s := openOver(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		got = r
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NotContains(t, string(b), `\u003c`, "the words leave as they are")
		require.NoError(t, json.Unmarshal(b, &body))
		return reply(200, `[{"type":"text","payload":{"message":"hi"},"time":5}]`, "X-RateLimit-Remaining", "421"), nil
	}), func(c *Config) { c.Project = "p1" })
	var traces []Trace
	info, err := s.Interact(t.Context(), Turn{
		Action: Text("a <b>"), Variables: map[string]any{"x": 1}, StopTypes: []string{"dial"}, TTS: true, Debug: true,
	}, collect(&traces))
	require.NoError(t, err)
	require.Equal(t, "POST", got.Method)
	require.Equal(t, "https://general-runtime.voiceflow.com/state/user/caller%2F1%2B2/interact", got.URL.String())
	require.Equal(t, testKey, got.Header.Get("Authorization"))
	require.Equal(t, "production", got.Header.Get("versionID"))
	require.Equal(t, "call-9", got.Header.Get("sessionID"))
	require.Equal(t, "p1", got.Header.Get("projectID"))
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, map[string]any{
		"action": map[string]any{"type": "text", "payload": "a <b>"},
		"config": map[string]any{"tts": true, "stripSSML": false, "stopTypes": []any{"dial"}, "excludeTypes": []any{"block", "flow"}},
		"state":  map[string]any{"variables": map[string]any{"x": 1.0}},
	}, body)
	require.Len(t, traces, 1)
	require.Equal(t, TurnInfo{Status: 200, First: info.First, Took: info.Took, Remaining: 421, Environment: "production", Attempts: 1}, info)
}

func TestEveryTurnSendsItsConfig(t *testing.T) {
	var body string
	s := openOver(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		return reply(200, `[]`), nil
	}))
	_, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"action":{"type":"launch"},"config":{"tts":false,"stripSSML":false,"stopTypes":[]}}`, body)
	button := Button{Name: "B", Request: json.RawMessage(`{"type":"path-x","payload":{"label":"a & b <c>"},"diagramID":"d"}`)}
	_, err = s.Interact(t.Context(), Turn{Action: Press(button)}, nil)
	require.NoError(t, err)
	require.Contains(t, body, `"action":`+string(button.Request))
}

func TestAnswersOfEveryShape(t *testing.T) {
	big := strings.Repeat("x", maxTraceBytes)
	tests := []struct {
		name, body string
		traces     int
		fails      string
	}{
		{"array", `[{"type":"text","payload":{"message":"a"}},{"type":"end","payload":null}]`, 2, ""},
		{"empty array", ` [ ] `, 0, ""},
		{"object of the public API", `{"trace":[{"type":"end"}]}`, 1, ""},
		{"object of v4", `{"traces":[{"type":"end"}]}`, 1, ""},
		{"verbose", `{"state":{"stack":[{}]},"trace":[{"type":"end"}],"request":{"type":"launch"}}`, 1, ""},
		{"control characters", "[{\"type\":\"text\",\"payload\":{\"message\":\"a\x01\nb\"}}]", 1, ""},
		{"elements that are no traces", `[null,5,"x",[],{"type":"end"}]`, 1, ""},
		{"members of wrong types", `[{"type":7,"payload":[1],"time":"x","paths":{"a":1},"defaultPath":"q"}]`, 1, ""},
		{"not JSON", `<html>oops</html>`, 0, "not JSON"},
		{"empty", ``, 0, "ended in the middle"},
		{"a string", `"ok"`, 0, "no list of traces"},
		{"an object of something else", `{"ok":true}`, 0, "no list of traces"},
		{"garbage after good ones", `[{"type":"text","payload":{"message":"a"}},{"type":`, 1, "ended in the middle"},
		{"broken after good ones", `[{"type":"text","payload":{"message":"a"}},}`, 1, "not JSON"},
		{"trace too long", `[{"type":"end"},{"type":"text","payload":"` + big + `"},{"type":"end"}]`, 1, "longer than 1 MiB"},
		{"answer too long", `[` + strings.Repeat(`{"type":"x","payload":"`+big[:1000000]+`"},`, 5) + `{}]`, 4, "longer than 4 MiB"},
		{"too many", `[` + strings.Repeat(`{"type":"x"},`, 1000) + `{}]`, 200, "more than 200"},
		{"deep", strings.Repeat(`[`, 100000), 0, "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) { return reply(200, tt.body), nil }))
			var traces []Trace
			info, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, collect(&traces))
			require.Len(t, traces, tt.traces)
			require.Equal(t, 200, info.Status)
			if tt.fails == "" {
				require.NoError(t, err)
				return
			}
			te, ok := errors.AsType[*TurnError](err)
			require.True(t, ok, "%v", err)
			require.Contains(t, te.Error(), tt.fails)
			require.Equal(t, ExecutedMaybe, te.Executed)
			require.Equal(t, tt.traces, te.Received)
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name       string
		status     int
		body       string
		header     []string
		message    string
		executed   Executed
		retryAfter time.Duration
		attempts   int
	}{
		{"no key", 401, `{"code":401,"status":"Unauthorized","data":"Auth Key Required"}`, nil, "Auth Key Required", ExecutedNo, 0, 1},
		{"forbidden", 403, ``, nil, "Forbidden", ExecutedNo, 0, 1},
		{"not published", 400, `{"name":"verror","message":"Voiceflow project was not published to production","requestID":"1"}`, nil, "Voiceflow project was not published to production", ExecutedNo, 0, 1},
		{"validation", 400, `{"errors":{"logs":{"message":"must be known"},"a":{"message":"b"}}}`, nil, "a: b; logs: must be known", ExecutedNo, 0, 1},
		{"realtime", 400, `{"statusCode":400,"message":"invalid environment tag"}`, nil, "invalid environment tag", ExecutedNo, 0, 1},
		{"HTML", 404, "<!DOCTYPE html>\n<html><head><title>Error</title></head>\n<body>\n<pre>Cannot POST /x</pre></body></html>", nil, "Cannot POST /x", ExecutedNo, 0, 1},
		{"time-out", 408, "response timeout", nil, "response timeout", ExecutedMaybe, 0, 1},
		{"500", 500, `{"code":500,"data":"boom"}`, nil, "boom", ExecutedMaybe, 0, 1},
		{"502 without body", 502, "", nil, "Bad Gateway", ExecutedNo, 0, 2},
		{"503 with body", 503, "upstream gone", nil, "upstream gone", ExecutedMaybe, 0, 1},
		{"503 told to wait", 503, "", []string{"Retry-After", "60"}, "Service Unavailable", ExecutedNo, time.Minute, 2},
		{"504", 504, "", nil, "Gateway Timeout", ExecutedMaybe, 0, 1},
		{"429 short", 429, `{"code":429,"data":"Too Many Requests"}`, []string{"Retry-After", "2"}, "Too Many Requests", ExecutedNo, 2 * time.Second, 2},
		{"429 long", 429, ``, []string{"Retry-After", "58"}, "Too Many Requests", ExecutedNo, 58 * time.Second, 1},
		{"429 without a word", 429, ``, nil, "Too Many Requests", ExecutedNo, 0, 1},
		{"redirect", 307, ``, []string{"Location", "https://elsewhere.example/"}, "it redirects to https://elsewhere.example/: write that address as url", ExecutedNo, 0, 1},
		{"strange words", 400, "{\"message\":\"a\\u0000b\\u202e\\n" + strings.Repeat("é", 300) + "\"}", nil, "", ExecutedNo, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) {
					n.Add(1)
					return reply(tt.status, tt.body, tt.header...), nil
				}))
				info, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, nil)
				te, ok := errors.AsType[*TurnError](err)
				require.True(t, ok)
				if tt.message != "" {
					require.Equal(t, tt.message, te.Message)
				}
				require.LessOrEqual(t, len(te.Message), 210)
				require.NotContains(t, te.Message, "\x00")
				require.Equal(t, tt.status, te.Status)
				require.Equal(t, tt.executed, te.Executed)
				require.Equal(t, tt.retryAfter, te.RetryAfter)
				require.EqualValues(t, tt.attempts, n.Load())
				require.Equal(t, tt.attempts, info.Attempts)
			})
		})
	}
}

func TestRefusedTurnIsRepeatedOnceAfterItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n := 0
		s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return reply(429, "", "Retry-After", "2"), nil
			}
			return reply(200, "[]"), nil
		}))
		_, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, nil)
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestLostAnswerIsNeverRepeated(t *testing.T) {
	n := 0
	s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) { n++; return nil, io.ErrUnexpectedEOF }))
	_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedMaybe, te.Executed)
	require.Equal(t, 1, n)
}

func TestRefusedConnectionIsTriedAgain(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	s := openOver(t, nil, func(c *Config) { c.URL, c.HTTP = "http://"+addr, nil })
	info, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedNo, te.Executed)
	require.Equal(t, 2, info.Attempts)
}

// TestHandshakeThatHangs dials a peer that takes what is sent and says nothing.
func TestHandshakeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var peers sync.WaitGroup
		tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			peers.Go(func() { _, _ = io.Copy(io.Discard, far) })
			peers.Go(func() { <-ctx.Done(); _ = far.Close() })
			return near, nil
		}}
		s := openOver(t, tr)
		began := time.Now()
		info, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
		require.ErrorIs(t, err, errConnect)
		te, _ := errors.AsType[*TurnError](err)
		require.Equal(t, ExecutedNo, te.Executed)
		require.Equal(t, 1, info.Attempts)
		require.Equal(t, connectTimeout, time.Since(began))
		cancel()
		peers.Wait()
	})
}

// TestPeerThatHangsUp reads the whole request and closes.
func TestPeerThatHangsUp(t *testing.T) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	defer srv.Close()
	s := openOver(t, nil, func(c *Config) { c.URL, c.HTTP = srv.URL, nil })
	_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedMaybe, te.Executed)
	require.EqualValues(t, 1, n.Load())
}

func TestUntrustedCertificateIsNoReasonToGoOn(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	srv.StartTLS()
	defer srv.Close()
	s := openOver(t, nil, func(c *Config) { c.URL, c.HTTP = srv.URL, nil })
	info, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedNo, te.Executed)
	require.Equal(t, 1, info.Attempts)
}

// TestEveryCutOfAnAnswer breaks the connection after each byte.
func TestEveryCutOfAnAnswer(t *testing.T) {
	body := `[{"type":"speak","payload":{"type":"message","message":"grüß Gott"}},{"type":"choice","payload":{"buttons":[]}},{"type":"no-reply","payload":{"timeout":2.5}}]`
	ends := []int{strings.Index(body, `,{"type":"choice"`), strings.Index(body, `,{"type":"no-reply"`), len(body) - 1}
	for cut := range len(body) {
		n := 0
		s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) {
			n++
			r := reply(200, "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:cut]), &broken{}))
			return r, nil
		}))
		var traces []Trace
		_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, collect(&traces))
		te, ok := errors.AsType[*TurnError](err)
		require.True(t, ok, "cut at %d", cut)
		require.Equal(t, ExecutedMaybe, te.Executed)
		require.Equal(t, 1, n)
		whole := 0
		for _, e := range ends {
			if cut >= e {
				whole++
			}
		}
		require.Equal(t, whole, te.Received, "cut at %d", cut)
		require.Len(t, traces, whole)
	}
}

// broken is a connection that was reset.
type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

func TestTheReceiverCanStopATurn(t *testing.T) {
	s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) {
		return reply(200, `[{"type":"end"},{"type":"end"}]`), nil
	}))
	stop := errors.New("caller hung up")
	_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return stop })
	require.Equal(t, stop, err)
}

func TestCancelledTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOver(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		gone := errors.New("hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		_, err := s.Interact(ctx, Turn{Action: Text("x")}, nil)
		require.ErrorIs(t, err, gone)
		te, _ := errors.AsType[*TurnError](err)
		require.Equal(t, ExecutedMaybe, te.Executed)

		began := time.Now()
		_, err = s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, defaultTimeout, time.Since(began))
	})
}

func TestAutomaticEnvironment(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	var mu sync.Mutex
	ran := map[string]int{}
	published := map[string]bool{"development": true}
	s := openOver(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		env := r.Header.Get("versionID")
		switch {
		case published[env]:
			ran[env]++
			return reply(200, `[{"type":"end"}]`), nil
		case env == "production":
			return reply(400, `{"name":"verror","message":"Voiceflow project was not published to production"}`), nil
		}
		return reply(404, `{"code":404,"data":"Model not found. Ensure project is properly rendered."}`), nil
	}), func(c *Config) { c.Environment, c.Log = "auto", zap.New(core) })
	info, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, func(Trace) error { return nil })
	require.NoError(t, err)
	require.Equal(t, "development", info.Environment)
	require.Equal(t, 3, info.Attempts)
	info, err = s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
	require.NoError(t, err)
	require.Equal(t, 1, info.Attempts, "the one that answered is remembered")
	require.Equal(t, 2, ran["development"])

	delete(published, "development")
	published["main"] = true
	info, err = s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
	require.NoError(t, err)
	require.Equal(t, "main", info.Environment)
	require.Equal(t, 2, logs.FilterMessage("voiceflow environment chosen").Len())

	delete(published, "main")
	_, err = s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedNo, te.Executed)
}

func TestAutomaticEnvironmentStopsAtOtherErrors(t *testing.T) {
	for _, status := range []int{401, 403, 500, 408, 404} {
		n := 0
		s := openOver(t, roundTrip(func(*http.Request) (*http.Response, error) { n++; return reply(status, `{"data":"no"}`), nil }),
			func(c *Config) { c.Environment = "auto" })
		_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, nil)
		require.Error(t, err)
		require.Equal(t, 1, n, status)
	}
}

func TestStateAndVariables(t *testing.T) {
	var asked []string
	s := openOver(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.Method+" "+r.URL.EscapedPath())
		switch r.Method {
		case http.MethodGet:
			return reply(200, `{"stack":[{"nodeID":"menu"}],"storage":{},"variables":{"visits":1},"turn":{}}`), nil
		case http.MethodPatch:
			b, _ := io.ReadAll(r.Body)
			require.JSONEq(t, `{"a":"b"}`, string(b))
			return reply(200, `{}`), nil
		}
		return reply(500, ``), nil
	}))
	st, err := s.State(t.Context())
	require.NoError(t, err)
	require.Len(t, st.Stack, 1)
	require.JSONEq(t, "1", string(st.Variables["visits"]))
	require.NoError(t, s.SetVariables(t.Context(), map[string]any{"a": "b"}))
	require.NoError(t, s.SetVariables(t.Context(), nil))
	require.NoError(t, s.Close(t.Context(), "hangup"))
	require.Equal(t, []string{"GET /state/user/caller%2F1%2B2", "PATCH /state/user/caller%2F1%2B2/variables"}, asked)
	require.Error(t, s.SetVariables(t.Context(), map[string]any{"f": func() {}}))
}

func TestSessionsHaveUsableIDs(t *testing.T) {
	c := DefaultConfig()
	c.APIKey = secret.New(testKey)
	client, err := New(c)
	require.NoError(t, err)
	for _, id := range []string{"", ".", "..", "a\nb", strings.Repeat("x", 129)} {
		_, err := client.Open(t.Context(), Caller{ID: id})
		require.Error(t, err, "%q", id)
	}
	for _, id := range []string{"a", "sip:alice@example.com;x=1/2", "…", strings.Repeat("x", 128)} {
		_, err := client.Open(t.Context(), Caller{ID: id})
		require.NoError(t, err, "%q", id)
	}
	require.Equal(t, "sip%3Aalice%40example.com%3Bx%3D1%2F2%E2%80%A6-._~", escapeSegment("sip:alice@example.com;x=1/2…-._~"))
}

func TestConfigSaysWhatToWrite(t *testing.T) {
	tests := []struct {
		change func(*Config)
		says   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.URL = "http://127.0.0.1:9000/"; c.APIKey = secret.Secret{} }, ""},
		{func(c *Config) { c.APIKey = secret.Secret{} }, "api_key: copy"},
		{func(c *Config) { c.APIKey = secret.New(`"VF.DM.x"`) }, "without quotes"},
		{func(c *Config) { c.APIKey = secret.New("VF.DM.x\r\nX: y") }, "without quotes"},
		{func(c *Config) { c.APIKey = secret.New("VF.WS.x.y") }, "workspace key"},
		{func(c *Config) { c.APIKey = secret.New("Bearer VF.DM.x") }, "without Bearer"},
		{func(c *Config) { c.URL = "general-runtime.voiceflow.com" }, "url:"},
		{func(c *Config) { c.URL = "ftp://x" }, "url:"},
		{func(c *Config) { c.URL = "https://user:pw@x" }, "without user"},
		{func(c *Config) { c.URL = "https://x/state/user/1/interact" }, "only the server's address"},
		{func(c *Config) { c.URL = "https://x/%zz" }, "url:"},
		{func(c *Config) { c.Environment = "'development'" }, "environment:"},
		{func(c *Config) { c.Project = "a b" }, "project:"},
	}
	for _, tt := range tests {
		c := DefaultConfig()
		c.APIKey = secret.New(testKey)
		tt.change(&c)
		_, err := New(c)
		if tt.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tt.says)
		require.NotContains(t, err.Error(), "VF.DM.x")
		require.NotContains(t, err.Error(), "pw")
	}
}

func TestClientIsRegistered(t *testing.T) {
	require.Contains(t, Clients.Names(), "dm")
	decode := func(into any) error {
		c, ok := into.(*Config)
		require.True(t, ok)
		c.APIKey = secret.New(testKey)
		return nil
	}
	require.NoError(t, Clients.Check("dm", decode))
	require.Error(t, Clients.Check("dm", nil), "no key")
	c, err := Clients.Open(t.Context(), "dm", decode, registry.Deps{Log: zap.NewNop(), HTTP: http.DefaultClient})
	require.NoError(t, err)
	require.NotNil(t, c)
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	tests := []struct {
		header []string
		want   time.Duration
	}{
		{[]string{"Retry-After", "58"}, 58 * time.Second},
		{[]string{"Retry-After", "1.5"}, 1500 * time.Millisecond},
		{[]string{"Retry-After", "Fri, 20 Nov 2026 08:00:30 GMT"}, 30 * time.Second},
		{[]string{"Retry-After", "Fri, 20 Nov 2026 07:00:30 GMT"}, 0},
		{[]string{"Retry-After", "99999999999"}, time.Hour},
		{[]string{"Retry-After", "-4"}, 0},
		{[]string{"Retry-After", "soon"}, 0},
		{[]string{"X-RateLimit-Reset", "2026-11-20T08:00:59.5Z", "X-RateLimit-Remaining", "0"}, 59500 * time.Millisecond},
		{[]string{"X-RateLimit-Reset", "2026-11-20T08:00:59.5Z", "X-RateLimit-Remaining", "7"}, 0},
		{nil, 0},
	}
	for _, tt := range tests {
		h := http.Header{}
		for i := 0; i < len(tt.header); i += 2 {
			h.Set(tt.header[i], tt.header[i+1])
		}
		require.Equal(t, tt.want, retryAfterOf(h, now), tt.header)
	}
}

func TestLive(t *testing.T) {
	answer := func(status int, body string) roundTrip {
		return func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				return reply(200, ""), nil
			}
			return reply(status, body), nil
		}
	}
	tests := []struct {
		name string
		rt   roundTrip
		env  string
		ok   bool
		says string
	}{
		{"well", answer(200, `[{"type":"text","payload":{"message":"hi"}}]`), "auto", true, "answered a launch with 1 traces"},
		{"silent", answer(200, `[]`), "auto", false, "says nothing"},
		{"not published", answer(400, `{"message":"Voiceflow project was not published to production"}`), "auto", false, "Press Publish"},
		{"not published there", answer(400, `{"message":"Voiceflow project was not published to production"}`), "production", false, "in production"},
		{"wrong key", answer(401, `{"data":"Auth Key Required"}`), "auto", false, "Copy the Dialog API key"},
		{"wrong key in other words", answer(400, `{"message":"Cannot resolve project version, please verify that your API key is correct."}`), "auto", false, "Copy the Dialog API key"},
		{"no such alias", answer(400, `{"message":"Cannot resolve version alias"}`), "staging", false, "voiceflow.environment (staging)"},
		{"no such environment", answer(404, `{"data":"Model not found. Ensure project is properly rendered."}`), "main", false, "there is no main"},
		{"wrong host", answer(404, `<html><body>nginx</body></html>`), "auto", false, "Correct voiceflow.url"},
		{"not the service", answer(200, `<html>`), "auto", false, "Correct voiceflow.url"},
		{"limit", answer(429, ``), "auto", false, "request limit"},
		{"slow", answer(408, `response timeout`), "auto", false, "slow step"},
		{"broken", answer(500, `{"data":"x"}`), "auto", false, "own test tool"},
		{"refused", func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dial: %w", &net.DNSError{Name: "nowhere.example"})
		}, "auto", false, "nowhere.example cannot be resolved"},
		{"silence", func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }, "auto", false, "firewall"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := DefaultConfig()
				c.APIKey, c.Environment, c.HTTP = secret.New(testKey), tt.env, &http.Client{Transport: tt.rt}
				d := Live(t.Context(), c)
				require.Equal(t, tt.ok, d.OK)
				require.Equal(t, tt.ok, d.Err == nil)
				require.Contains(t, d.Advice, tt.says)
				require.True(t, strings.HasSuffix(d.Advice, "."), d.Advice)
				require.NotContains(t, d.Advice, "secretpart")
			})
		})
	}
	require.Contains(t, Live(t.Context(), DefaultConfig()).Advice, "api_key")
}
