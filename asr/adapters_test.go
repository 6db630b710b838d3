package asr_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/asr/asrtest"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv("IVRBRIDGE_TEST_WORKER"); mode != "" {
		fakeWorker(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

func openVosk(t *testing.T, s *service) asr.Recognizer {
	t.Helper()
	return provider(t, "vosk", func(into any) { into.(*asr.VoskConfig).URL = s.url })
}

func openDeepgram(t *testing.T, s *service, model string) asr.Recognizer {
	t.Helper()
	return provider(t, "deepgram", func(into any) {
		c := into.(*asr.DeepgramConfig)
		c.URL, c.Model, c.APIKey, c.Keyterms = s.url, model, secret.New("key"), []string{"Voiceflow", "SIP trunk"}
	})
}

func openNova(t *testing.T, s *service) asr.Recognizer {
	t.Helper()
	return openDeepgram(t, s, "nova-3")
}

func openFlux(t *testing.T, s *service) asr.Recognizer {
	t.Helper()
	return openDeepgram(t, s, "flux-general-en")
}

// remote lists the adapters that speak with a service.
var remote = map[string]struct {
	handle func(*service, *websocket.Conn)
	open   func(*testing.T, *service) asr.Recognizer
}{
	"vosk":     {voskServer, openVosk},
	"deepgram": {deepgramServer, openNova},
	"flux":     {fluxServer, openFlux},
}

func TestAdaptersConform(t *testing.T) {
	conform := func(t *testing.T, r asr.Recognizer, speech []int16, text string) {
		t.Helper()
		asrtest.Conform(t, func(t *testing.T) asr.Stream {
			t.Helper()
			return stream1(t, r)
		}, speech, text)
	}
	for name, c := range remote {
		t.Run(name, func(t *testing.T) { conform(t, c.open(t, serve(t, c.handle)), tone(12000), "word word word") })
	}
	t.Run("none", func(t *testing.T) { conform(t, provider(t, "none", func(any) {}), tone(1600), "") })
	t.Run("resilient", func(t *testing.T) { conform(t, asr.Resilient(&engine{name: "a", delay: 1}), tone(1600), "a") })
}

func TestVoskHearsWhatTheServerEndsByItself(t *testing.T) {
	srv := serve(t, voskServer)
	s := stream1(t, openVosk(t, srv))
	require.NoError(t, s.Begin(asr.Utterance{ID: 1, Hints: []string{"Large, please!", "", "NO"}}))
	var partials []string
	for range 25 {
		require.NoError(t, s.Write(tone(800)))
	}
	require.NoError(t, s.End(1))
	for ev := range s.Events() {
		if ev.Kind == asr.Final {
			require.Equal(t, strings.TrimSpace(strings.Repeat("word ", 5)), ev.Text)
			require.InDelta(t, 0.8, ev.Confidence, 0.001)
			break
		}
		partials = append(partials, ev.Text)
	}
	for i := 1; i < len(partials); i++ {
		require.Greater(t, len(partials[i]), len(partials[i-1]), "partials grow across the server's own ends")
	}
	require.JSONEq(t, `{"config":{"sample_rate":8000,"words":true,"phrase_list":["large please","no","[unk]"]}}`, srv.said()[0])
	require.Equal(t, `{"eof" : 1}`, srv.said()[1])
}

func TestDeepgramIsAskedAsDocumented(t *testing.T) {
	srv := serve(t, deepgramServer)
	_ = stream1(t, openNova(t, srv))
	u, err := url.Parse(srv.paths[0])
	require.NoError(t, err)
	require.Equal(t, "/v1/listen", u.Path)
	require.Equal(t, url.Values{
		"model": {"nova-3"}, "encoding": {"mulaw"}, "sample_rate": {"8000"}, "channels": {"1"}, "language": {"en-US"},
		"interim_results": {"true"}, "endpointing": {"300"}, "keyterm": {"Voiceflow", "SIP trunk"},
	}, u.Query())
	require.Equal(t, "Token key", srv.headers[0].Get("Authorization"))
}

func TestFluxEndsTheTurnItself(t *testing.T) {
	srv := serve(t, fluxServer)
	s := stream1(t, openFlux(t, srv))
	require.True(t, s.(asr.Endpointer).OwnsEndpoint())
	require.NoError(t, s.Begin(asr.Utterance{ID: 1, Hints: []string{"pizza"}}))
	require.NoError(t, s.Write(tone(4000)))
	for range 11 {
		require.NoError(t, s.Write(make([]int16, 800)))
	}
	var kinds []asr.Kind
	for ev := range s.Events() {
		require.Equal(t, uint64(1), ev.Utterance)
		kinds = append(kinds, ev.Kind)
		if ev.Kind == asr.Final {
			require.Equal(t, "word", ev.Text)
			require.Zero(t, ev.Latency)
			break
		}
	}
	require.Equal(t, []asr.Kind{asr.Partial, asr.TurnEnd, asr.Final}, kinds)
	require.NoError(t, s.End(1), "crosses with the final")
	asrtest.Quiet(t, s)
	u, err := url.Parse(srv.paths[0])
	require.NoError(t, err)
	require.Equal(t, "/v2/listen", u.Path)
	require.Equal(t, "0.7", u.Query().Get("eot_threshold"))
	require.JSONEq(t, `{"type":"Configure","keyterms":["Voiceflow","SIP trunk","pizza"]}`, srv.said()[0])
}

// A service that gives no answer to Finalize because it had no sound left.
func TestDeepgramFinalWithoutAnAnswer(t *testing.T) {
	srv := serve(t, deepgramServer)
	s := stream1(t, openNova(t, srv))
	require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
	require.NoError(t, s.Write(tone(8000)))
	eventually(t, func() bool { return len(s.Events()) > 0 })
	require.NoError(t, s.End(1))
	ev := asrtest.Final(t, s)
	require.Equal(t, "word word", ev.Text)
	require.GreaterOrEqual(t, ev.Latency, 700*time.Millisecond)

	require.NoError(t, s.Begin(asr.Utterance{ID: 2}))
	require.NoError(t, s.Write(tone(4000)))
	require.NoError(t, s.End(2))
	require.Equal(t, "word", asrtest.Final(t, s).Text)
}

// A1: the connection is cut in the middle of an utterance, at each adapter.
func TestCutConnectionIsMadeAgain(t *testing.T) {
	for name, c := range remote {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, c.handle)
			r := c.open(t, srv)
			bare := stream1(t, r)
			require.NoError(t, bare.Begin(asr.Utterance{ID: 9}))
			require.NoError(t, bare.Write(tone(800)))
			eventually(t, func() bool { return len(bare.Events()) > 0 })
			srv.cut()
			require.Error(t, asrtest.Failed(t, bare))

			f, l := open(t, asr.Resilient(r))
			defer f.Close()
			f.Begin(asr.Utterance{ID: 1})
			f.Speech(true)
			l.feed(tone(4000))
			eventually(t, func() bool { return len(f.Events()) > 0 })
			srv.cut()
			l.feed(tone(8000))
			f.End(1)
			ev := asrtest.Final(t, f)
			require.NoError(t, ev.Err)
			require.Equal(t, "word word word", ev.Text)
			require.Less(t, ev.Latency, 3*time.Second)
		})
	}
}

// feed hands sound over at once.
func (l *line) feed(pcm []int16) {
	for len(pcm) > 0 {
		n := min(160, len(pcm))
		l.f.Frame(l.at, pcm[:n], nil)
		l.at += int64(n)
		pcm = pcm[n:]
	}
}

// A4: refusals, garbage and giants.
func TestRefusalIsPermanent(t *testing.T) {
	for status, permanent := range map[int]bool{401: true, 402: true, 403: true, 429: false, 500: false, 503: false} {
		srv := serve(t, deepgramServer)
		srv.refuse = status
		r := openNova(t, srv)
		_, err := r.Open(t.Context(), asr.Params{})
		var refused *asr.StatusError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, status, refused.Status)
		require.Equal(t, permanent, refused.Permanent())
	}
	srv := serve(t, deepgramServer)
	srv.refuse = http.StatusUnauthorized
	b := &engine{name: "b"}
	resilient := asr.Resilient(openNova(t, srv), b)
	for range 3 {
		s, err := resilient.Open(t.Context(), asr.Params{})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	require.Len(t, srv.paths, 1, "the key is tried once")
	require.Equal(t, 3, b.opened)
}

func TestMalformedMessagesAreSurvived(t *testing.T) {
	for name, c := range remote {
		for fault, message := range map[string]string{
			"not json": "<html>", "null": "null", "a list": "[]", "a number": "7", "wrong types": `{"type":7,"text":[],"partial":{}}`,
			"no channel": `{"type":"Results"}`, "no alternatives": `{"type":"Results","channel":{}}`, "empty": "",
			"no transcript": `{"type":"TurnInfo"}`, "binary": "\x00\xff",
		} {
			t.Run(name+" "+fault, func(t *testing.T) {
				srv := serve(t, c.handle)
				srv.faulty = func(conn *websocket.Conn, b []byte) bool {
					srv.set(func() { srv.faulty = nil })
					kind := websocket.TextMessage
					if fault == "binary" {
						kind = websocket.BinaryMessage
					}
					_ = conn.WriteMessage(kind, []byte(message))
					return false
				}
				s := stream1(t, c.open(t, srv))
				require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
				require.NoError(t, s.Write(tone(12000)))
				require.NoError(t, s.End(1))
				require.Contains(t, asrtest.Final(t, s).Text, "word")
			})
		}
		for fault, messages := range map[string][]string{
			"giant":       {strings.Repeat("x", 2<<20)},
			"only noise":  strings.Split(strings.Repeat("x ", 30), " "),
			"broken pipe": nil,
		} {
			t.Run(name+" "+fault, func(t *testing.T) {
				srv := serve(t, c.handle)
				s := stream1(t, c.open(t, srv))
				require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
				srv.set(func() {
					srv.faulty = func(conn *websocket.Conn, _ []byte) bool {
						for _, m := range messages {
							write(conn, "%s", m)
						}
						if messages == nil {
							conn.Close()
						}
						return true
					}
				})
				_ = s.Write(tone(800))
				require.Error(t, asrtest.Failed(t, s))
				require.Eventually(t, func() bool { return s.Write(tone(800)) != nil }, 5*time.Second, time.Millisecond)
				require.NoError(t, s.Close())
			})
		}
	}
}

// A5: a service that does not read. The line never waits for it.
func TestServiceThatDoesNotRead(t *testing.T) {
	stuck := make(chan struct{})
	srv := serve(t, func(*service, *websocket.Conn) { <-stuck })
	f, l := open(t, openVosk(t, srv))
	f.Begin(asr.Utterance{ID: 1})
	start := time.Now()
	for range 600 {
		l.feed(tone(8000))
	}
	require.Less(t, time.Since(start), 2*time.Second)
	close(stuck)
	require.NoError(t, f.Close())
}

func TestServiceThatCannotBeReached(t *testing.T) {
	r := provider(t, "vosk", func(into any) { into.(*asr.VoskConfig).URL = "ws://127.0.0.1:1" })
	_, err := r.Open(t.Context(), asr.Params{})
	require.ErrorContains(t, err, "open vosk")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Open(ctx, asr.Params{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestConfigurationIsChecked(t *testing.T) {
	for want, c := range map[string]struct {
		name string
		set  func(any)
	}{
		"url":                 {"vosk", func(c any) { c.(*asr.VoskConfig).URL = "http://x" }},
		"api_key":             {"deepgram", func(any) {}},
		"model":               {"deepgram", func(c any) { c.(*asr.DeepgramConfig).Model = "" }},
		"endpointing":         {"deepgram", func(c any) { c.(*asr.DeepgramConfig).Endpointing = -1 }},
		"end_of_turn:":        {"deepgram", func(c any) { c.(*asr.DeepgramConfig).EndOfTurn = 2 }},
		"end_of_turn_timeout": {"deepgram", func(c any) { c.(*asr.DeepgramConfig).EndOfTurnTimeout = 0 }},
		"program":             {"pocketsphinx", func(c any) { c.(*asr.PocketsphinxConfig).Program = "" }},
		"threshold":           {"pocketsphinx", func(c any) { c.(*asr.PocketsphinxConfig).Threshold = 3 }},
		"start":               {"pocketsphinx", func(c any) { c.(*asr.PocketsphinxConfig).Start = 0 }},
	} {
		err := asr.Providers.Check(c.name, func(into any) error { c.set(into); return nil })
		require.ErrorContains(t, err, want)
	}
}
