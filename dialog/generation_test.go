package dialog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// kinds of generations, as the tests of all of them need them.
var tried = []struct {
	api, turn string // path of a turn
	streamed  bool
	list      string // member that holds the traces; "": a bare array
}{
	{"dm", "/state/user/c1/interact", false, ""},
	{"dm-stream", "/v2/project/p1/user/c1/interact/stream", true, ""},
	{"v4", "/v4/interact", false, "traces"},
	{"v4-stream", "/v4/interact/stream", true, ""},
	{"stable", "/v1/stable/conversation/c1", false, "traces"},
}

// answerOf writes traces as the generation sends them.
func answerOf(streamed bool, list string, traces ...string) string {
	switch {
	case streamed:
		var b strings.Builder
		b.WriteString("\n")
		for i, t := range traces {
			b.WriteString("event: trace\nid: " + string(rune('0'+i)) + "\ndata: " + t + "\n\n")
		}
		return b.String() + "event: end\n\n"
	case list != "":
		return `{"` + list + `":[` + strings.Join(traces, ",") + `]}`
	}
	return "[" + strings.Join(traces, ",") + "]"
}

// peer is a service that answers turns by a function and knows sessions.
type peer struct {
	mu    sync.Mutex
	turns int
	asked []string
	turn  func(r *http.Request, n int) (*http.Response, error)
}

func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.URL.RequestURI())
	switch {
	case strings.HasSuffix(r.URL.Path, "/session"):
		p.mu.Unlock()
		return reply(200, `{"sessionKey":"ey.J0.key"}`), nil
	case !strings.Contains(r.URL.Path, "interact") && !strings.Contains(r.URL.Path, "/conversation/"):
		p.mu.Unlock()
		return reply(200, `{}`), nil
	}
	p.turns++
	n := p.turns
	p.mu.Unlock()
	return p.turn(r, n)
}

func clientFor(t *testing.T, api string, rt http.RoundTripper, change ...func(*Config)) Session {
	t.Helper()
	c := DefaultConfig()
	c.API, c.APIKey, c.Environment, c.Project = api, secret.New(testKey), "production", "p1"
	if api == "stable" {
		c.APIKey = secret.New("vfp_x")
	}
	c.HTTP = &http.Client{Transport: rt}
	for _, f := range change {
		f(&c)
	}
	client, err := New(c)
	require.NoError(t, err)
	s, err := client.Open(t.Context(), Caller{ID: "c1", Call: "call-9"})
	require.NoError(t, err)
	return s
}

// TestFaultMatrix sends one turn of each generation into each fault: what it
// says of the turn is the same for all, and nothing is stepped twice.
func TestFaultMatrix(t *testing.T) {
	type canned struct {
		status int
		text   string
		header []string
	}
	body := func(status int, text string, header ...string) canned { return canned{status, text, header} }
	faults := []struct {
		name     string
		answer   canned
		turn     func(r *http.Request, n int) (*http.Response, error) // where the answer is none
		status   int
		executed Executed
		retry    time.Duration
		sent     int
		took     time.Duration
	}{
		{"408", body(408, "response timeout"), nil, 408, ExecutedMaybe, 0, 1, 0},
		{"429 for long", body(429, `{"data":"Too Many Requests"}`, "Retry-After", "58"), nil, 429, ExecutedNo, 58 * time.Second, 1, 0},
		{"429 for a moment", body(429, ``, "Retry-After", "2"), nil, 429, ExecutedNo, 2 * time.Second, 2, 2 * time.Second},
		{"401", body(401, `{"data":"Auth Key Required"}`), nil, 401, ExecutedNo, 0, 1, 0},
		{"404", body(404, `<html>`), nil, 404, ExecutedNo, 0, 1, 0},
		{"500", body(500, `{"data":"boom"}`), nil, 500, ExecutedMaybe, 0, 1, 0},
		{"502 of a proxy", body(502, ``), nil, 502, ExecutedNo, 0, 2, 100 * time.Millisecond},
		{"503 of the service", body(503, `gone`), nil, 503, ExecutedMaybe, 0, 1, 0},
		{"504", body(504, ``), nil, 504, ExecutedMaybe, 0, 1, 0},
		{"redirect", body(307, ``, "Location", "https://x.example/"), nil, 307, ExecutedNo, 0, 1, 0},
		{"a page", body(200, "<html>\r\n<body>oops</body></html>", "Content-Type", "text/html"), nil, 200, ExecutedMaybe, 0, 1, 0},
		{"nothing", body(200, ``), nil, 200, ExecutedMaybe, 0, 1, 0},
		{"control characters", body(200, "\x00\x01\x02\x1b"), nil, 200, ExecutedMaybe, 0, 1, 0},
		{"a huge line", body(200, strings.Repeat("x", 5<<20)), nil, 200, ExecutedMaybe, 0, 1, 0},
		{"reset", canned{}, func(*http.Request, int) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 0, ExecutedMaybe, 0, 1, 0},
		{"silence", canned{}, func(r *http.Request, _ int) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 0, ExecutedMaybe, 0, 1, 20 * time.Second},
		{"silence within", canned{}, func(r *http.Request, _ int) (*http.Response, error) {
			resp := reply(200, "")
			resp.Body = &pieces{ctx: r.Context(), list: []string{"\n"}, every: 15 * time.Second}
			return resp, nil
		}, 200, ExecutedMaybe, 0, 1, -1},
	}
	for _, g := range tried {
		for _, f := range faults {
			t.Run(g.api+"/"+f.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &peer{turn: f.turn}
					if f.turn == nil {
						p.turn = func(*http.Request, int) (*http.Response, error) {
							return reply(f.answer.status, f.answer.text, f.answer.header...), nil
						}
					}
					s := clientFor(t, g.api, p)
					began := time.Now()
					info, err := s.Interact(t.Context(), Turn{Action: Text("x"), Variables: map[string]any{"a": 1}}, func(Trace) error { return nil })
					te, ok := errors.AsType[*TurnError](err)
					require.True(t, ok, "%v", err)
					require.Equal(t, f.status, te.Status, te.Message)
					require.Equal(t, f.status, info.Status)
					require.Equal(t, f.executed, te.Executed)
					require.Equal(t, f.retry, te.RetryAfter)
					require.Zero(t, te.Received)
					require.Equal(t, f.sent, p.turns)
					if f.took >= 0 {
						require.Equal(t, f.took, time.Since(began))
					}
				})
			})
		}
	}
}

// pieces is a body that comes bit by bit, and then not any more.
type pieces struct {
	ctx   interface{ Done() <-chan struct{} }
	list  []string
	every time.Duration
	ends  bool // in the end of the body, else in silence
	left  []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		if len(p.list) == 0 {
			if p.ends {
				return 0, io.EOF
			}
			<-p.ctx.Done()
			return 0, errors.New("connection closed")
		}
		select {
		case <-time.After(p.every):
		case <-p.ctx.Done():
			return 0, errors.New("connection closed")
		}
		p.left, p.list = []byte(p.list[0]), p.list[1:]
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (*pieces) Close() error { return nil }

// TestEveryCutOfEveryGeneration breaks the connection after each byte.
func TestEveryCutOfEveryGeneration(t *testing.T) {
	traces := []string{
		`{"type":"speak","payload":{"type":"message","message":"grüß Gott"}}`, `{"type":"choice","payload":{"buttons":[]}}`, `{"type":"no-reply","payload":{"timeout":2.5}}`,
	}
	for _, g := range tried {
		t.Run(g.api, func(t *testing.T) {
			whole := answerOf(g.streamed, g.list, traces...)
			for cut := range len(whole) {
				p := &peer{turn: func(*http.Request, int) (*http.Response, error) {
					r := reply(200, "")
					r.Body = io.NopCloser(io.MultiReader(strings.NewReader(whole[:cut]), &broken{}))
					return r, nil
				}}
				var got []Trace
				_, err := clientFor(t, g.api, p).Interact(t.Context(), Turn{Action: Text("x")}, collect(&got))
				require.Equal(t, 1, p.turns)
				for i, tr := range got {
					require.Contains(t, traces[i], `"`+tr.Type+`"`)
				}
				if g.streamed && strings.HasSuffix(whole[:cut], "event: end\n") {
					require.NoError(t, err, "the end was told")
					require.Len(t, got, len(traces))
					continue
				}
				te, ok := errors.AsType[*TurnError](err)
				require.True(t, ok, "cut at %d", cut)
				require.Equal(t, ExecutedMaybe, te.Executed)
				require.Equal(t, len(got), te.Received)
				for i, tr := range traces {
					require.Equal(t, i < len(got), received(whole[:cut], tr, g.streamed), "cut at %d", cut)
				}
			}
		})
	}
}

// received reports whether a trace is whole in what came: of a stream, its line.
func received(came, trace string, streamed bool) bool {
	if streamed {
		trace += "\n"
	}
	return strings.Contains(came, trace)
}

func TestEveryGenerationStopsWithItsReceiver(t *testing.T) {
	for _, g := range tried {
		p := &peer{turn: func(*http.Request, int) (*http.Response, error) {
			return reply(200, answerOf(g.streamed, g.list, `{"type":"a"}`, `{"type":"b"}`)), nil
		}}
		stop := errors.New("caller hung up")
		_, err := clientFor(t, g.api, p).Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return stop })
		require.Equal(t, stop, err, g.api)
		require.Equal(t, 1, p.turns)
	}
}

func TestEveryGenerationReadsCompressedAnswers(t *testing.T) {
	for _, g := range tried {
		p := &peer{turn: func(*http.Request, int) (*http.Response, error) {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write([]byte(answerOf(g.streamed, g.list, `{"type":"a"}`)))
			require.NoError(t, z.Close())
			return reply(200, b.String(), "Content-Encoding", "gzip"), nil
		}}
		var got []Trace
		_, err := clientFor(t, g.api, p).Interact(t.Context(), Turn{Action: Text("x")}, collect(&got))
		require.NoError(t, err, g.api)
		require.Len(t, got, 1)

		p.turn = func(*http.Request, int) (*http.Response, error) {
			return reply(200, "this is no gzip at all", "Content-Encoding", "gzip"), nil
		}
		_, err = clientFor(t, g.api, p).Interact(t.Context(), Turn{Action: Text("x")}, collect(&got))
		require.ErrorContains(t, err, "decompress", g.api)
	}
}

// wireTurn is a turn as it goes out.
type wireTurn struct {
	method, uri, auth string
	body              string
}

func TestTurnsOfEachGenerationAsTheyGoOverTheWire(t *testing.T) {
	tests := []struct {
		api  string
		turn Turn
		want wireTurn
	}{
		{
			"dm-stream",
			Turn{Action: Text("a <b>"), Variables: map[string]any{"x": 1}, StopTypes: []string{"dial"}},
			wireTurn{
				"POST", "https://general-runtime.voiceflow.com/v2/project/p1/user/c1/interact/stream?completion_events=true&environment=production", testKey,
				`{"action":{"type":"text","payload":"a <b>"},"variables":{"x":1},"sessionID":"call-9"}`,
			},
		},
		{
			"dm-stream",
			Turn{Action: NoReply(), TTS: true},
			wireTurn{
				"POST", "https://general-runtime.voiceflow.com/v2/project/p1/user/c1/interact/stream?audio_encoding=audio%2Fx-mulaw&audio_events=true&environment=production", testKey,
				`{"action":{"type":"no-reply"},"sessionID":"call-9"}`,
			},
		},
		{
			"v4",
			Turn{Action: Launch(nil), Variables: map[string]any{"x": 1}},
			wireTurn{"POST", "https://general-runtime.voiceflow.com/v4/interact", "ey.J0.key", `{"action":{"type":"launch"},"variables":{"x":1}}`},
		},
		{
			"v4-stream",
			Turn{Action: Launch(nil)},
			wireTurn{"POST", "https://general-runtime.voiceflow.com/v4/interact/stream", "ey.J0.key", `{"action":{"type":"launch"},"config":{"completionEvents":true}}`},
		},
		{
			"stable",
			Turn{Action: Launch(nil)},
			wireTurn{
				"PUT", "https://realtime-api.voiceflow.com/v1/stable/conversation/c1?environmentAlias=production&projectID=p1", "Bearer vfp_x",
				`{"action":{"type":"launch"},"version":"published","sessionID":"call-9","config":{"excludeTypes":["block","debug","flow"]}}`,
			},
		},
	}
	for _, tt := range tests {
		var got wireTurn
		streamed := strings.Contains(tt.api, "stream")
		p := &peer{turn: func(r *http.Request, _ int) (*http.Response, error) {
			b, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			got = wireTurn{r.Method, r.URL.String(), r.Header.Get("Authorization"), string(b)}
			if streamed {
				require.Equal(t, "text/event-stream", r.Header.Get("Accept"))
				require.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
			}
			return reply(200, answerOf(streamed, "traces", `{"type":"end","payload":null}`), "X-RateLimit-Remaining", "7"), nil
		}}
		s := clientFor(t, tt.api, p)
		var traces []Trace
		info, err := s.Interact(t.Context(), tt.turn, collect(&traces))
		require.NoError(t, err, tt.api)
		require.Len(t, traces, 1)
		require.JSONEq(t, tt.want.body, got.body)
		got.body, tt.want.body = "", ""
		require.Equal(t, tt.want, got)
		require.Equal(t, 200, info.Status)
		require.Equal(t, 7, info.Remaining)
		require.Equal(t, "production", info.Environment)
		require.NoError(t, s.Close(t.Context(), "hangup"))
		require.Equal(t, 1, p.turns, "nothing is said after the end")
	}
}

func TestGenerationsNeedTheirSettings(t *testing.T) {
	require.Equal(t, Clients.Names(), Generations())
	for _, g := range tried {
		c := DefaultConfig()
		c.API, c.APIKey, c.Project = g.api, secret.New(testKey), "p1"
		if g.api == "stable" {
			require.ErrorContains(t, c.Validate(), "personal access token")
			c.APIKey = secret.New("vfp_abc")
		}
		require.NoError(t, c.Validate(), g.api)
		c.Project = ""
		if g.api == "dm" {
			require.NoError(t, c.Validate())
			continue
		}
		require.ErrorContains(t, c.Validate(), "project: is missing", g.api)
	}
	c := DefaultConfig()
	c.API, c.APIKey = "v5", secret.New("vfp_abc")
	require.ErrorContains(t, c.Validate(), `api: "v5" is unknown, write one of dm, dm-stream`)
	require.ErrorContains(t, c.Validate(), "api stable alone")
	c.API, c.APIKey = "stable", secret.Secret{}
	require.ErrorContains(t, c.Validate(), "vfp_")
}

func TestEachGenerationFindsItsEnvironment(t *testing.T) {
	for _, g := range tried {
		t.Run(g.api, func(t *testing.T) {
			there := "development"
			ran := 0
			rt := roundTrip(func(r *http.Request) (*http.Response, error) {
				at := r.Header.Get("versionID") + r.URL.Query().Get("environment") + r.URL.Query().Get("environmentAlias")
				session := strings.HasSuffix(r.URL.Path, "/session")
				if parts := strings.Split(r.URL.Path, "/"); session && len(parts) > 6 {
					at = parts[5]
				}
				switch {
				case session && at != there:
					return reply(404, `{"code":404,"message":"environment does not exist"}`), nil
				case session:
					return reply(200, `{"sessionKey":"k"}`), nil
				case r.URL.Path != "/v4/interact" && r.URL.Path != "/v4/interact/stream" && at != there:
					return reply(400, `{"statusCode":400,"message":"invalid environment tag"}`), nil
				}
				ran++
				return reply(200, answerOf(g.streamed, g.list)), nil
			})
			s := clientFor(t, g.api, rt, func(c *Config) { c.Environment = EnvironmentAuto })
			info, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, func(Trace) error { return nil })
			require.NoError(t, err)
			require.Equal(t, "development", info.Environment)
			require.Equal(t, 1, ran)
			tries := info.Attempts
			info, err = s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
			require.NoError(t, err)
			require.Equal(t, 1, info.Attempts, "the one that answered is remembered")
			require.Greater(t, tries, 2)
			require.Equal(t, 2, ran)
		})
	}
}

func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		"\n" + answerOf(true, "", `{"type":"a"}`), "\xEF\xBB\xBFevent:trace\r\ndata:{\"type\":\"a\"}\r\rdata\n\nevent", ":\n\n\n:x\r", "event: end",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		a := &answer{body: bytes.NewReader(b), log: zap.NewNop()}
		_ = readEvents(a, func(tr Trace) error {
			n++
			_ = Interpret(tr).Split()
			return nil
		})
		require.LessOrEqual(t, n, len(b))
	})
}
