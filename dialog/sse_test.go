package dialog

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestStreamsOfEveryForm(t *testing.T) {
	one := `{"type":"text","payload":{"message":"a b"}}`
	end := "event: end\ndata: {}\n\n"
	huge := strings.Repeat("x", maxTraceBytes)
	tests := []struct {
		name, body string
		messages   []string
		fails      string
	}{
		{"as documented", "\nevent: trace\nid: 1\ndata: " + one + "\n\nevent: end\nid: 2\n\n", []string{"a b"}, ""},
		{"without spaces, wrapped", "retry:2000\n\nevent:trace\nid:x\ndata:{\"type\":\"trace\",\"trace\":" + one + "}\n\nevent:end\ndata:{\"type\":\"end\"}\n\n", []string{"a b"}, ""},
		{"a trace whose type is trace", "event:trace\ndata:{\"type\":\"trace\",\"payload\":{\"message\":\"q\"}}\n\n" + end, []string{"q"}, ""},
		{"CR LF", strings.ReplaceAll("event: trace\ndata: "+one+"\n\n"+end, "\n", "\r\n"), []string{"a b"}, ""},
		{"CR", strings.ReplaceAll("event: trace\ndata: "+one+"\n\n"+end, "\n", "\r"), []string{"a b"}, ""},
		{"byte order mark", "\xEF\xBB\xBFevent: trace\ndata: " + one + "\n\n" + end, []string{"a b"}, ""},
		{"comments", ": hello\n\n:\nevent: trace\n: between\ndata: " + one + "\n:after\n\n" + end, []string{"a b"}, ""},
		{"data over lines", "event: trace\ndata: {\"type\":\"text\",\ndata: \"payload\":{\"message\":\ndata:\"a b\"}}\n\n" + end, []string{"a b"}, ""},
		{"data before its name", "data: " + one + "\nevent: trace\n\n" + end, []string{"a b"}, ""},
		{"no name", "data: " + one + "\n\n" + end, nil, ""},
		{"unknown events and fields", "event: ping\ndata: {}\n\nevent: trace\nfoo: bar\nfoo\ndata: " + one + "\n\n" + end, []string{"a b"}, ""},
		{"no blank line at the end", "event: trace\ndata: " + one + "\n\nevent: end\ndata: {}\n", []string{"a b"}, ""},
		{"no line end at the end", "event: trace\ndata: " + one + "\n\nevent: end", []string{"a b"}, ""},
		{"control characters in a string", "event: trace\ndata: {\"type\":\"text\",\"payload\":{\"message\":\"a\tb\x00\x1b\"}}\n\n" + end, []string{"a b  "}, ""},
		{"line breaks in a string", "event: trace\ndata: {\"type\":\"text\",\"payload\":{\"message\":\"a\nb: c\r\nd\"}}\n\n" + end, []string{"a b: c d"}, ""},
		{"broken letters", "event: trace\ndata: {\"type\":\"text\",\"payload\":{\"message\":\"a\xff\"}}\n\n" + end, []string{"a\uFFFD"}, ""},
		{"a trace that cannot be read among others", "event: trace\ndata: {\"type\":\n\nevent: trace\ndata: [1]\n\nevent: trace\ndata: " + one + "\n\n" + end, []string{"a b"}, ""},
		{"no trace that can be read", "event: trace\ndata: {\"type\":\n\n" + end, nil, "no trace"},
		{"nothing to say", end, nil, ""},
		{"a state on the way", "event: trace\ndata: " + one + "\n\nevent: state\ndata: {\"stack\":[]}\n\n" + end, []string{"a b"}, ""},
		{"broken behind the state", "event: trace\ndata: " + one + "\n\nevent: state\ndata: {\"stack\":[]}\n\nevent: e", []string{"a b"}, ""},
		{"broken within the state", "event: trace\ndata: " + one + "\n\nevent: state\ndata: {\"stack\":", []string{"a b"}, "ended in the middle"},
		{"no end", "event: trace\ndata: " + one + "\n\n", []string{"a b"}, "ended in the middle"},
		{"the last trace without a blank line", "event: trace\ndata: " + one, []string{"a b"}, "ended in the middle"},
		{"an error", "event: trace\ndata: " + one + "\n\nevent: error\ndata: {\"message\":\"credit limit reached\"}\n\n", []string{"a b"}, "credit limit reached"},
		{"what follows the end", end + "event: trace\ndata: " + one + "\n\n", nil, ""},
		{"no events", "hello\nworld\n", nil, "no stream of events"},
		{"a huge line", "event: trace\ndata: " + one + "\n\ndata: " + huge + huge, []string{"a b"}, "longer than 1 MiB"},
		{"a huge event", "event: trace\ndata: " + one + "\n\nevent: trace\n" + strings.Repeat("data: "+huge[:1<<19]+"\n", 6), []string{"a b"}, "longer than"},
		{"endless comments", strings.Repeat(": "+huge[:1<<19]+"\n\n", 9), nil, "longer than 4 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, chunk := range []int{1 << 30, 1, 3} {
				if len(tt.body) > 1<<20 && chunk < 100 {
					continue
				}
				var got []string
				a := &answer{body: &chunked{tt.body, chunk}, log: zap.NewNop()}
				err := readEvents(a, func(tr Trace) error {
					got = append(got, members(tr.Payload).str("message"))
					return nil
				})
				require.Equal(t, tt.messages, got)
				if tt.fails == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tt.fails)
				}
			}
		})
	}
}

// chunked is a body that comes in chunks of n bytes.
type chunked struct {
	left string
	n    int
}

func (c *chunked) Read(b []byte) (int, error) {
	if c.left == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.n)], c.left)
	c.left = c.left[n:]
	return n, nil
}

func frame(trace string) string { return "event: trace\ndata: " + trace + "\n\n" }

func piece(content string) string {
	b, _ := json.Marshal(content)
	return frame(`{"type":"completion","payload":{"state":"content","content":` + string(b) + `}}`)
}

// overStream opens a conversation whose every turn is answered by what body
// makes.
func overStream(t *testing.T, api string, body func(r *http.Request) *pieces) Session {
	t.Helper()
	return clientFor(t, api, &peer{turn: func(r *http.Request, _ int) (*http.Response, error) {
		resp := reply(200, "", "Content-Type", "text/event-stream")
		resp.Body = body(r)
		return resp, nil
	}})
}

func TestTokensComeAsTheyAreMade(t *testing.T) {
	for _, api := range []string{"dm-stream", "v4-stream"} {
		synctest.Test(t, func(t *testing.T) {
			s := overStream(t, api, func(r *http.Request) *pieces {
				return &pieces{ctx: r.Context(), every: time.Second, list: []string{
					"\n" + frame(`{"type":"completion","payload":{"state":"start"}}`), piece("Hel"), piece("lo."), piece(" More"),
					frame(`{"type":"completion","payload":{"state":"end"}}`) + "event: end\n\n",
				}}
			})
			began := time.Now()
			var at []time.Duration
			info, err := s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error {
				at = append(at, time.Since(began))
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second}, at)
			require.Equal(t, time.Second, info.First)
			require.Equal(t, 5*time.Second, info.Took, "the connection that stays open is not waited for")
			time.Sleep(streamTail) // it is given up behind the turn
		})
	}
}

// TestAnEndWithoutItsBlankLine keeps the connection open behind the end event.
func TestAnEndWithoutItsBlankLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := overStream(t, "dm-stream", func(r *http.Request) *pieces {
			return &pieces{ctx: r.Context(), list: []string{frame(`{"type":"end"}`), "event: end\n"}}
		})
		began := time.Now()
		_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
		time.Sleep(streamTail)
	})
}

func TestThousandsOfTokens(t *testing.T) {
	var list []string
	for i := range 3000 {
		list = append(list, piece("w"+strconv.Itoa(i)+" "))
	}
	s := overStream(t, "dm-stream", func(r *http.Request) *pieces {
		return &pieces{ctx: r.Context(), list: append(list, "event: end\n\n"), ends: true}
	})
	n := 0
	_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { n++; return nil })
	require.NoError(t, err)
	require.Equal(t, 3000, n)
	s = overStream(t, "dm-stream", func(r *http.Request) *pieces {
		return &pieces{ctx: r.Context(), list: []string{strings.Repeat(frame(`{"type":"x"}`), 300)}, ends: true}
	})
	_, err = s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
	require.ErrorContains(t, err, "more than 200 traces")
}

func TestHeartbeatsKeepAStreamAlive(t *testing.T) {
	beats := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = ": still here\n\n"
		}
		return list
	}
	tests := []struct {
		name   string
		list   []string
		every  time.Duration
		broken bool
		took   time.Duration
	}{
		{"long and alive", append(beats(4), "event: end\n\n"), 15 * time.Second, false, 75 * time.Second},
		{"silent", append(beats(1), "event: end\n\n"), 21 * time.Second, true, 20 * time.Second},
		{"silent within", beats(2), 15 * time.Second, true, 50 * time.Second},
		{"alive for ever", beats(1000), 15 * time.Second, true, longestStream},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := overStream(t, "dm-stream", func(r *http.Request) *pieces { return &pieces{ctx: r.Context(), list: tt.list, every: tt.every} })
				began := time.Now()
				_, err := s.Interact(t.Context(), Turn{Action: Text("x")}, func(Trace) error { return nil })
				require.Equal(t, tt.took, time.Since(began))
				if !tt.broken {
					require.NoError(t, err)
				} else {
					te, ok := errors.AsType[*TurnError](err)
					require.True(t, ok)
					require.Equal(t, ExecutedMaybe, te.Executed)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				time.Sleep(streamTail)
			})
		})
	}
}

// TestRecordedStream reads the streams of the real engine, also cut anywhere.
func TestRecordedStream(t *testing.T) {
	for i, s := range recordings(t)["38_sse_v2beta1"].Steps {
		if s.Response.Status != 200 {
			require.Equal(t, "Invalid project version tag", errorText(s.Response.Body))
			continue
		}
		var body string
		require.NoError(t, json.Unmarshal(s.Response.Body, &body))
		read := func(r io.Reader) (kinds []string, err error) {
			err = readEvents(&answer{body: r, log: zap.NewNop()}, func(tr Trace) error {
				for _, st := range Interpret(tr).Split() {
					if st.Kind != KindIgnore && st.Kind != KindDebug {
						kinds = append(kinds, st.Kind.String())
					}
				}
				return nil
			})
			return kinds, err
		}
		kinds, err := read(strings.NewReader(body))
		require.NoError(t, err)
		want := [][]string{{"speak", "audio", "speak", "audio", "speak", "choice", "no_reply"}, {"speak", "end"}}[i]
		require.Equal(t, want, kinds)
		told := strings.Index(body, "event:state")
		for cut := 0; cut < len(body); cut += 7 {
			kinds, err := read(io.MultiReader(strings.NewReader(body[:cut]), &broken{}))
			require.Equal(t, want[:len(kinds)], append([]string{}, kinds...))
			if cut < told {
				require.Error(t, err)
			}
		}
	}
}

func TestV4Sessions(t *testing.T) {
	var bodies []string
	refused := false
	p := &peer{turn: func(r *http.Request, n int) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if refused {
			refused = false
			return reply(401, `{"message":"invalid session"}`), nil
		}
		if n == 2 {
			return reply(429, ``, "Retry-After", "60"), nil
		}
		return reply(200, `{"traces":[]}`), nil
	}}
	s := clientFor(t, "v4", p, func(c *Config) { c.Environment = "my/env" })
	none := func(Trace) error { return nil }
	require.NoError(t, s.Close(t.Context(), "hangup"))
	require.Empty(t, p.asked, "a session that never began has no end")
	require.NoError(t, s.SetVariables(t.Context(), map[string]any{"a": 1, "b": 1}))
	_, err := s.Interact(t.Context(), Turn{Action: Launch(nil), Variables: map[string]any{"b": 2}}, none)
	require.NoError(t, err)
	require.JSONEq(t, `{"action":{"type":"launch"},"variables":{"a":1,"b":2}}`, bodies[0])
	_, err = s.Interact(t.Context(), Turn{Action: Text("x"), Variables: map[string]any{"c": 3}}, none)
	require.Error(t, err)
	_, err = s.Interact(t.Context(), Turn{Action: Text("x"), Variables: map[string]any{"c": 3}}, none)
	require.NoError(t, err)
	require.JSONEq(t, `{"action":{"type":"text","payload":"x"},"variables":{"c":3}}`, bodies[2], "a refused turn has set nothing")
	_, err = s.State(t.Context())
	require.ErrorIs(t, err, ErrNoState)
	require.Equal(t, []string{"POST /v4/project/p1/environment/my%2Fenv/session", "POST /v4/interact"}, p.asked[:2])

	refused = true
	_, err = s.Interact(t.Context(), Turn{Action: Text("x")}, none)
	require.Error(t, err, "words in a new session would be lost")
	refused = true
	_, err = s.Interact(t.Context(), Turn{Action: Launch(nil)}, none)
	require.NoError(t, err, "a launch is as good in a new session")
	require.NoError(t, s.Close(t.Context(), "hangup"))
	require.JSONEq(t, `{"action":{"type":"end","payload":{"reason":"hangup"}}}`, bodies[len(bodies)-1])
	require.Error(t, s.SetVariables(t.Context(), map[string]any{"f": func() {}}))

	for _, bad := range []string{`{}`, `{"sessionKey":"a b"}`, `nonsense`, ``} {
		s := clientFor(t, "v4", roundTrip(func(*http.Request) (*http.Response, error) { return reply(200, bad), nil }))
		_, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, none)
		te, ok := errors.AsType[*TurnError](err)
		require.True(t, ok)
		require.Equal(t, ExecutedNo, te.Executed, "no turn was sent")
	}
	for _, status := range []int{400, 401, 404, 408, 429, 500, 503, 504} {
		for _, api := range []string{"v4", "v4-stream"} {
			s := clientFor(t, api, roundTrip(func(r *http.Request) (*http.Response, error) {
				require.Contains(t, r.URL.Path, "/session", "no turn without a session")
				return reply(status, `{"message":"no"}`), nil
			}))
			_, err := s.Interact(t.Context(), Turn{Action: Launch(nil)}, none)
			te, ok := errors.AsType[*TurnError](err)
			require.True(t, ok)
			require.Equal(t, status, te.Status)
			require.Equal(t, ExecutedNo, te.Executed)
		}
	}
	s = clientFor(t, "v4", roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }))
	_, err = s.Interact(t.Context(), Turn{Action: Launch(nil)}, none)
	te, _ := errors.AsType[*TurnError](err)
	require.Equal(t, ExecutedNo, te.Executed)
}

func TestStableConversation(t *testing.T) {
	p := &peer{turn: func(*http.Request, int) (*http.Response, error) { return reply(200, `{"traces":[]}`), nil }}
	s := clientFor(t, "stable", p)
	_, err := s.State(t.Context())
	require.NoError(t, err)
	_, err = s.Interact(t.Context(), Turn{Action: Launch(nil), Variables: map[string]any{"a": 1}}, func(Trace) error { return nil })
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context(), "hangup"))
	at := "/c1?environmentAlias=production&projectID=p1"
	require.Equal(t, []string{
		"GET /v1/stable/conversation-state" + at + "&version=published",
		"PATCH /v1/stable/conversation-state/c1/variables?environmentAlias=production&projectID=p1&version=published",
		"PUT /v1/stable/conversation" + at, "PUT /v1/stable/conversation" + at,
	}, p.asked)

	var asked []string
	s = clientFor(t, "stable", roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.Method)
		if r.Method == http.MethodPatch && len(asked) == 1 {
			return reply(404, `{"message":"no conversation"}`), nil
		}
		return reply(200, `{"traces":[]}`), nil
	}))
	_, err = s.Interact(t.Context(), Turn{Action: Launch(nil), Variables: map[string]any{"a": 1}}, func(Trace) error { return nil })
	require.NoError(t, err)
	require.Equal(t, []string{"PATCH", "PUT", "PATCH"}, asked)

	s = clientFor(t, "stable", roundTrip(func(r *http.Request) (*http.Response, error) {
		require.Equal(t, http.MethodPatch, r.Method, "a turn without its variables is not sent")
		return reply(500, ``), nil
	}))
	_, err = s.Interact(t.Context(), Turn{Action: Text("x"), Variables: map[string]any{"a": 1}}, func(Trace) error { return nil })
	te, ok := errors.AsType[*TurnError](err)
	require.True(t, ok)
	require.Equal(t, ExecutedNo, te.Executed)
}
