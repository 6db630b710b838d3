package localflow

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// overHTTP are the generations that this server speaks.
var overHTTP = []string{"dm", "dm-stream", "stable", "v4", "v4-stream"}

func sessionOf(t *testing.T, api, url string, rt http.RoundTripper, change ...func(*dialog.Config)) dialog.Session {
	t.Helper()
	c := dialog.DefaultConfig()
	c.API, c.URL, c.APIKey, c.Project, c.Environment = api, url, secret.New("VF.DM.a.b"), "p1", "production"
	if api == "stable" {
		c.APIKey = secret.New("vfp_a")
	}
	c.HTTP = &http.Client{Transport: rt}
	for _, f := range change {
		f(&c)
	}
	client, err := dialog.New(c)
	require.NoError(t, err)
	s, err := client.Open(t.Context(), dialog.Caller{ID: "a/b", Call: "call-1"})
	require.NoError(t, err)
	return s
}

// heard is what a turn brings that is for the caller.
func heard(t *testing.T, s dialog.Session, turn dialog.Turn) ([]string, dialog.TurnInfo, error) {
	t.Helper()
	var out []string
	info, err := s.Interact(t.Context(), turn, func(tr dialog.Trace) error {
		for _, st := range dialog.Interpret(tr).Split() {
			switch st.Kind {
			case dialog.KindIgnore, dialog.KindDebug:
			case dialog.KindSpeak:
				out = append(out, strings.TrimSpace(st.Text))
			case dialog.KindAction:
				out = append(out, "action "+st.Name)
			default:
				out = append(out, st.Kind.String())
			}
		}
		return nil
	})
	return out, info, err
}

// TestEveryGenerationHoldsTheSameConversation runs the recorded project through
// each.
func TestEveryGenerationHoldsTheSameConversation(t *testing.T) {
	for _, api := range overHTTP {
		t.Run(api, func(t *testing.T) {
			server := New(acme(t), Options{})
			srv := httptest.NewServer(server)
			defer srv.Close()
			key := func(c *dialog.Config) {
				if api != "stable" {
					c.APIKey = secret.New("VF.DM.64d000000000000000000001.abcdefghijklmnop")
				}
			}
			if api == "stable" {
				server.flow.keys = nil
			}
			s := sessionOf(t, api, srv.URL, nil, key)
			got, info, err := heard(t, s, dialog.Turn{Action: dialog.Launch(nil), Variables: map[string]any{"caller_name": "Ann"}})
			require.NoError(t, err)
			require.Equal(t, "production", info.Environment)
			require.Contains(t, strings.Join(got, "|"), "Hello Ann.")
			require.Equal(t, []string{"choice", "no_reply"}, got[len(got)-2:])
			require.Contains(t, got, "audio")
			require.NoError(t, s.SetVariables(t.Context(), map[string]any{"caller_name": "Bob"}))
			got, _, err = heard(t, s, dialog.Turn{Action: dialog.NoReply()})
			require.NoError(t, err)
			require.Equal(t, []string{"Are you still there?", "choice", "no_reply"}, got)
			if st, err := s.State(t.Context()); api == "v4" || api == "v4-stream" {
				require.ErrorIs(t, err, dialog.ErrNoState)
			} else {
				require.NoError(t, err)
				require.Len(t, st.Stack, 2)
				require.JSONEq(t, `"Bob"`, string(st.Variables["caller_name"]))
			}
			got, _, err = heard(t, s, dialog.Turn{Action: dialog.Text("goodbye")})
			require.NoError(t, err)
			require.Equal(t, []string{"Goodbye.", "end"}, got)
			n := len(server.Requests())
			require.NoError(t, s.Close(t.Context(), "hangup"))
			require.Len(t, server.Requests(), n, "nothing is told after the end")
		})
	}
}

func TestEveryGenerationTellsOfTheEndWhereItCan(t *testing.T) {
	for _, api := range overHTTP {
		server := New(parse(t, echo), Options{})
		s := sessionOf(t, api, "http://127.0.0.1", server.Transport())
		_, _, err := heard(t, s, dialog.Turn{Action: dialog.Launch(nil)})
		require.NoError(t, err)
		require.NoError(t, s.Close(t.Context(), "hangup"))
		ended := slices.ContainsFunc(server.Requests(), func(r Request) bool { return r.Action == "end" })
		require.Equal(t, !strings.HasPrefix(api, "dm"), ended, api)
	}
}

// TestFaultsOfEveryGeneration checks what a turn of unknown fate says, and that
// none is stepped twice.
func TestFaultsOfEveryGeneration(t *testing.T) {
	body := func(s string) *string { return &s }
	tests := []struct {
		name     string
		fault    Fault
		status   int // -1: none
		executed dialog.Executed
		took     time.Duration
		turns    int
	}{
		{"slow", Fault{Turn: 2, Delay: 3 * time.Second}, -1, 0, 3 * time.Second, 2},
		{"too slow", Fault{Turn: 2, Delay: time.Minute}, 0, dialog.ExecutedMaybe, 20 * time.Second, 2},
		{"408", Fault{Turn: 2, Status: 408, Executed: true}, 408, dialog.ExecutedMaybe, 0, 2},
		{"429", Fault{Turn: 2, Status: 429, RetryAfter: time.Minute}, 429, dialog.ExecutedNo, 0, 2},
		{"429 for a moment", Fault{Turn: 2, Status: 429, RetryAfter: time.Second}, -1, 0, time.Second, 3},
		{"500", Fault{Turn: 2, Status: 500, Executed: true}, 500, dialog.ExecutedMaybe, 0, 2},
		{"503", Fault{Turn: 2, Status: 503, Body: body("down")}, 503, dialog.ExecutedMaybe, 0, 2},
		{"garbage", Fault{Turn: 2, Body: body("<html>\x01\x02")}, 200, dialog.ExecutedMaybe, 0, 2},
		{"huge", Fault{Turn: 2, Body: body(strings.Repeat("x", 5<<20))}, 200, dialog.ExecutedMaybe, 0, 2},
	}
	for _, api := range overHTTP {
		for _, tt := range tests {
			t.Run(api+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := New(parse(t, echo), Options{})
					server.SetFaults(tt.fault)
					s := sessionOf(t, api, "http://127.0.0.1", server.Transport())
					_, _, err := heard(t, s, dialog.Turn{Action: dialog.Launch(nil)})
					require.NoError(t, err)
					began := time.Now()
					_, _, err = heard(t, s, dialog.Turn{Action: dialog.Text("x")})
					require.Equal(t, tt.took, time.Since(began))
					turns := 0
					for _, r := range server.Requests() {
						if r.Turn > 0 {
							turns++
						}
					}
					if tt.took < 20*time.Second { // else the server still works on it
						require.Equal(t, tt.turns, turns)
					}
					if tt.status < 0 {
						require.NoError(t, err)
						return
					}
					te, ok := errors.AsType[*dialog.TurnError](err)
					require.True(t, ok, "%v", err)
					require.Equal(t, tt.status, te.Status)
					require.Equal(t, tt.executed, te.Executed)
					_ = server.Close()
				})
			})
		}
	}
}

// TestEveryCutOfEveryGeneration breaks each answer after each byte: what came is
// passed on, the turn ran once, and the conversation goes on.
func TestEveryCutOfEveryGeneration(t *testing.T) {
	for _, api := range overHTTP {
		t.Run(api, func(t *testing.T) {
			for cut := 0; ; cut++ {
				server := New(parse(t, echo), Options{})
				s := sessionOf(t, api, "http://127.0.0.1", server.Transport())
				_, _, err := heard(t, s, dialog.Turn{Action: dialog.Launch(nil)})
				require.NoError(t, err)
				server.SetFaults(Fault{Turn: 2, Cut: &cut})
				got, _, err := heard(t, s, dialog.Turn{Action: dialog.Text("x")})
				require.Equal(t, []string{"You said x", "no_reply"}[:len(got)], append([]string{}, got...))
				turns := server.Requests()
				require.Equal(t, 2, turns[len(turns)-1].Turn, "sent once")
				if err == nil {
					require.Len(t, got, 2, "its end was told")
					break
				}
				te, ok := errors.AsType[*dialog.TurnError](err)
				require.True(t, ok)
				require.Equal(t, dialog.ExecutedMaybe, te.Executed)
				require.Less(t, cut, 4000)
			}
		})
	}
}

// TestTheFirstSentenceComesBeforeTheLastWord streams a text, word by word.
func TestTheFirstSentenceComesBeforeTheLastWord(t *testing.T) {
	const talk = "blocks:\n  start:\n    - text: One two. Three four.\n    - end\n"
	for _, api := range []string{"dm-stream", "v4-stream"} {
		synctest.Test(t, func(t *testing.T) {
			server := New(parse(t, talk), Options{})
			server.SetFaults(Fault{Gap: time.Second})
			s := sessionOf(t, api, "http://127.0.0.1", server.Transport())
			began := time.Now()
			said, at := "", map[string]time.Duration{}
			_, err := s.Interact(t.Context(), dialog.Turn{Action: dialog.Launch(nil)}, func(tr dialog.Trace) error {
				if st := dialog.Interpret(tr); st.Kind == dialog.KindCompletion {
					said += st.Text
					at[said] = time.Since(began)
				}
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, "One two. Three four.", said)
			require.Less(t, at["One two."], at[said])
			synctest.Wait()
			time.Sleep(time.Minute) // what the server still writes is for nobody
		})
	}
}

func TestSessionsOfV4(t *testing.T) {
	server := New(parse(t, echo), Options{})
	ask := func(path, key, body string) (int, string) {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.Header.Set("Authorization", key)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		b, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		return w.Code, string(b)
	}
	launch := `{"action":{"type":"launch"}}`
	status, _ := ask("/v4/interact", "VF.DM.a.b", launch)
	require.Equal(t, 401, status, "the API key is none of a session")
	status, _ = ask("/v4/project/p/session", "", `{"userID":"u"}`)
	require.Equal(t, 401, status)
	status, _ = ask("/v4/project/p/session", "VF.DM.a.b", `{}`)
	require.Equal(t, 400, status)
	key := func() string {
		status, body := ask("/v4/project/p/environment/main/session", "VF.DM.a.b", `{"userID":"u"}`)
		require.Equal(t, 200, status)
		return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(body), `{"sessionKey":"`), `"}`)
	}
	first := key()
	status, body := ask("/v4/interact", first, launch)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `{"traces":[{`)
	second := key()
	status, _ = ask("/v4/interact", first, launch)
	require.Equal(t, 401, status, "a new session ends the one before")
	status, _ = ask("/v4/interact", second, launch)
	require.Equal(t, 200, status)
	server.flow.environments = []string{"main"}
	status, body = ask("/v4/project/p/environment/production/session", "VF.DM.a.b", `{"userID":"u"}`)
	require.Equal(t, 404, status)
	require.Contains(t, body, "environment does not exist")
}

// TestNewerMembersMeanNothingToOlderAPIs: what an API does not know it ignores.
func TestNewerMembersMeanNothingToOlderAPIs(t *testing.T) {
	server := New(acme(t), Options{})
	ask := func(method, path, body string) string {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "VF.DM.64d000000000000000000001.abcdefghijklmnop")
		req.Header.Set("versionID", "production")
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		return w.Body.String()
	}
	launch := `{"action":{"type":"launch"},"variables":`
	require.Contains(t, ask("POST", "/state/user/u/interact", launch+`{"caller_name":"Ann"},"session":5}`), "Hello caller.")
	require.Contains(t, ask("POST", "/state/user/u/interact", launch+`"x"}`), "Hello caller.")
	require.Contains(t, ask("POST", "/v2/project/p/user/u/interact/stream?environment=production", launch+`{"caller_name":"Ann"}}`), "Hello Ann.")
	require.Contains(t, ask("POST", "/v2/project/p/user/w/interact/stream?environment=production&state=true", launch+`7}`), "event: state\n")
	require.Contains(t, ask("POST", "/v2beta1/interact/p/production/stream", launch+`{}}`), "session.userID")
	for _, path := range []string{"/v2/project/p/user/u/interact", "/v4/sessions", "/v1/stable/conversation", "/v1/stable/conversation/u/x", "/public/p/interact", "//", "/state/user/%zz/interact"} {
		require.Contains(t, ask("POST", strings.ReplaceAll(path, "%zz", "x/y"), `{}`), "Cannot POST", path)
	}
}

func TestLiveOfEveryGeneration(t *testing.T) {
	for _, api := range overHTTP {
		server := New(parse(t, echo), Options{})
		server.flow.environments = []string{"main"}
		c := dialog.DefaultConfig()
		c.API, c.URL, c.APIKey, c.Project = api, "http://127.0.0.1", secret.New("VF.DM.a.b"), "p1"
		if api == "stable" {
			c.APIKey = secret.New("vfp_a")
		}
		c.HTTP = &http.Client{Transport: server.Transport()}
		d := dialog.Live(t.Context(), c)
		require.NoError(t, d.Err, api)
		require.True(t, d.OK)
		c.Environment = "staging"
		d = dialog.Live(t.Context(), c)
		require.Error(t, d.Err, api)
		require.Contains(t, d.Advice, "staging", api)
	}
}
