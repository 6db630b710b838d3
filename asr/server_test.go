package asr_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// tone is sound that the fake services take for speech.
func tone(n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(i%8-4)*1000 + 500
	}
	return out
}

// service is a WebSocket server whose connections are served by a function.
type service struct {
	url string

	mu      sync.Mutex
	paths   []string
	headers []http.Header
	texts   []string // messages that it was sent
	open    map[*websocket.Conn]bool
	faulty  func(c *websocket.Conn, message []byte) bool // true: the message is dealt with
	refuse  int                                          // HTTP status
}

func serve(t *testing.T, handle func(s *service, c *websocket.Conn)) *service {
	t.Helper()
	s := &service{open: make(map[*websocket.Conn]bool)}
	var handlers sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.String())
		s.headers = append(s.headers, r.Header)
		refuse := s.refuse
		s.mu.Unlock()
		if refuse != 0 {
			http.Error(w, "refused", refuse)
			return
		}
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[c] = true
		s.mu.Unlock()
		handlers.Add(1)
		defer handlers.Done()
		defer func() {
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
			c.Close()
		}()
		handle(s, c)
	}))
	s.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	t.Cleanup(func() {
		s.cut()
		srv.Close()
		handlers.Wait()
	})
	return s
}

// cut drops all connections.
func (s *service) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
}

func (s *service) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// read returns the next message; false at the end of the connection.
func (s *service) read(c *websocket.Conn) (text string, sound []byte, ok bool) {
	for {
		kind, b, err := c.ReadMessage()
		if err != nil {
			return "", nil, false
		}
		s.mu.Lock()
		faulty := s.faulty
		if kind == websocket.TextMessage {
			s.texts = append(s.texts, string(b))
		}
		s.mu.Unlock()
		if faulty != nil && faulty(c, b) {
			continue
		}
		if kind == websocket.TextMessage {
			return string(b), nil, true
		}
		return "", b, true
	}
}

func (s *service) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.texts...)
}

func write(c *websocket.Conn, format string, args ...any) {
	_ = c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...))
}

// loud counts what is no silence.
func loud(sound []byte, step int, silent func([]byte) bool) (n int) {
	for i := 0; i+step <= len(sound); i += step {
		if !silent(sound[i : i+step]) {
			n++
		}
	}
	return n
}

// voskServer behaves as asr_server.py: a recogniser is made with the first
// message that is no configuration, each later message is answered, and the
// words so far come as a result of their own after every second of sound. It
// hears "word" for each half second of speech.
func voskServer(s *service, c *websocket.Conn) {
	var heard, said, total int
	words := func() string {
		n := (heard+3999)/4000 - said
		said += n
		return strings.TrimSpace(strings.Repeat("word ", n))
	}
	text := func(w string) {
		var result []string
		for range strings.FieldsSeq(w) {
			result = append(result, `{"conf":0.8,"word":"word"}`)
		}
		write(c, `{"result":[%s],"text":%q}`, strings.Join(result, ","), w)
	}
	for {
		m, sound, ok := s.read(c)
		switch {
		case !ok:
			return
		case strings.Contains(m, "config"):
			continue
		case m == `{"eof" : 1}`:
			text(words())
			_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
			return
		case m != "":
			return // the library throws, the connection ends
		}
		n := loud(sound, 2, func(b []byte) bool { return b[0] == 0 && b[1] == 0 })
		heard += n
		if total += n; total >= 8000 {
			total -= 8000
			text(words())
			continue
		}
		write(c, `{"partial" : %q}`, strings.TrimSpace(strings.Repeat("word ", (heard+3999)/4000-said)))
	}
}

// deepgramServer behaves as /v1/listen: partial results as sound arrives, a
// final one each second, one that says so after Finalize where sound was left.
func deepgramServer(s *service, c *websocket.Conn) {
	var heard, said, at, total int
	result := func(final, fromFinalize bool) {
		words := (heard+3999)/4000 - said
		text := strings.TrimSpace(strings.Repeat("word ", words))
		b, _ := json.Marshal(map[string]any{
			"type": "Results", "is_final": final, "speech_final": false, "from_finalize": fromFinalize,
			"start": float64(at) / 8000, "duration": float64(total-at) / 8000, "channel_index": []int{0, 1},
			"channel": map[string]any{"alternatives": []any{map[string]any{"transcript": text, "confidence": 0.9}}},
		})
		_ = c.WriteMessage(websocket.TextMessage, b)
		if final {
			said, at = said+words, total
		}
		if fromFinalize {
			heard, said = 0, 0
		}
	}
	for {
		m, sound, ok := s.read(c)
		switch {
		case !ok:
			return
		case strings.Contains(m, "CloseStream"):
			write(c, `{"type":"Metadata","request_id":"x"}`)
			return
		case strings.Contains(m, "Finalize"):
			if total > at {
				result(true, true)
			}
			continue
		case m != "":
			continue
		}
		heard += loud(sound, 1, func(b []byte) bool { return b[0] == 0xff || b[0] == 0x7f })
		total += len(sound)
		result(total-at >= 8000, false)
	}
}

// fluxServer behaves as /v2/listen: a turn starts with speech and ends with a
// second of silence, or when it is told so.
func fluxServer(s *service, c *websocket.Conn) {
	var turn, pending, quiet, total int
	info := func(event string) {
		b, _ := json.Marshal(map[string]any{
			"type": "TurnInfo", "event": event, "turn_index": turn,
			"transcript": strings.TrimSpace(strings.Repeat("word ", (pending+3999)/4000)),
			"words":      []any{map[string]any{"word": "word", "confidence": 0.7}}, "end_of_turn_confidence": 0.9,
			"audio_window_end": float64(total) / 8000,
		})
		_ = c.WriteMessage(websocket.TextMessage, b)
	}
	end := func() {
		if pending > 0 {
			info("EndOfTurn")
			turn++
			pending, quiet = 0, 0
		}
	}
	write(c, `{"type":"Connected","request_id":"x"}`)
	for {
		m, sound, ok := s.read(c)
		switch {
		case !ok, strings.Contains(m, "CloseStream"):
			return
		case strings.Contains(m, "ForceEndTurn"):
			end()
			continue
		case strings.Contains(m, "Configure"):
			write(c, `{"type":"ConfigureSuccess"}`)
			continue
		}
		total += len(sound)
		n := loud(sound, 1, func(b []byte) bool { return b[0] == 0xff || b[0] == 0x7f })
		if n == 0 {
			if quiet += len(sound); quiet >= 8000 {
				end()
			}
			continue
		}
		quiet = 0
		event := "Update"
		if pending == 0 {
			event = "StartOfTurn"
		}
		pending += n
		info(event)
	}
}

func provider(t *testing.T, name string, set func(into any)) asr.Recognizer {
	t.Helper()
	r, err := asr.Providers.Open(t.Context(), name, func(into any) error { set(into); return nil },
		registry.Deps{Log: zap.NewNop(), HTTP: http.DefaultClient})
	require.NoError(t, err)
	return r
}

func stream1(t *testing.T, r asr.Recognizer) asr.Stream {
	t.Helper()
	s, err := r.Open(t.Context(), asr.Params{CallID: "c", Language: "en-US"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, 5*time.Millisecond)
}
