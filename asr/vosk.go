package asr

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "vosk", func() VoskConfig {
		return VoskConfig{URL: "ws://127.0.0.1:2700", Phrases: true}
	}, openVosk)
}

// VoskConfig configures a Vosk server, as asr_server.py of vosk-server speaks.
type VoskConfig struct {
	URL     string `yaml:"url"`     // ws://host:port
	Phrases bool   `yaml:"phrases"` // where a turn has choices, listen for these alone
}

// Validate implements registry.Validator.
func (c *VoskConfig) Validate() error { return checkURL("url", c.URL, "ws", "wss") }

const (
	// voskEnd is compared byte by byte by the server.
	voskEnd = `{"eof" : 1}`
	// voskLinger is how long after a text that follows the end another may come.
	voskLinger = 300 * time.Millisecond
	unknown    = "[unk]"
)

type vosk struct {
	c VoskConfig
	d registry.Deps
}

func openVosk(_ context.Context, c VoskConfig, d registry.Deps) (Recognizer, error) {
	return &vosk{c: c, d: d}, nil
}

// Key implements Keyed.
func (v *vosk) Key() string { return "vosk " + v.c.URL }

// Open implements Recognizer.
func (v *vosk) Open(ctx context.Context, p Params) (Stream, error) {
	s := &voskStream{v: v, out: newOutbox(), log: v.d.Log.With(zap.String("call", p.CallID))}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	next, err := s.connect(ctx)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("open vosk: %w", err)
	}
	s.next = next
	return s, nil
}

// A voskStream uses one connection for each utterance: the server takes phrases
// only before the first sound, and versions of it that know another way to get
// a final than the end of the connection are rare. The connection for the next
// utterance is made while the caller hears the answer to the last.
type voskStream struct {
	v      *vosk
	ctx    context.Context
	cancel context.CancelFunc
	out    *outbox
	log    *zap.Logger
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	turns  map[*voskTurn]bool // those whose connections are open
	cur    *voskTurn          // being heard
	next   *voskTurn          // connected for the next utterance

	buf []byte // of Write
}

// A voskTurn is one connection and the utterance that it serves.
type voskTurn struct {
	socket *socket

	mu       sync.Mutex
	id       uint64
	used     bool
	ended    time.Time
	sent     int // messages that the server answers
	answered int
	texts    []string
	words    int
	certain  float64 // sum of the words' confidences
	partial  string
	linger   *time.Timer
}

func (s *voskStream) connect(ctx context.Context) (*voskTurn, error) {
	sock, err := dial(ctx, s.v.d.HTTP, s.v.c.URL, nil)
	if err != nil {
		return nil, err
	}
	t := &voskTurn{socket: sock}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		sock.close()
		return nil, ErrClosed
	}
	if s.turns == nil {
		s.turns = make(map[*voskTurn]bool)
	}
	s.turns[t] = true
	s.work.Go(func() { s.follow(t) })
	return t, nil
}

func (s *voskStream) Events() <-chan Event { return s.out.ch }

func (s *voskStream) Begin(u Utterance) error {
	t, err := s.take()
	if err != nil {
		return s.fail(u.ID, fmt.Errorf("begin: %w", err))
	}
	config := struct {
		SampleRate int      `json:"sample_rate"`
		Words      bool     `json:"words"`
		Phrases    []string `json:"phrase_list,omitempty"`
	}{SampleRate: pcm.Rate, Words: true}
	if s.v.c.Phrases {
		config.Phrases = voskPhrases(u.Hints)
	}
	message, err := json.Marshal(map[string]any{"config": config})
	if err != nil {
		return s.fail(u.ID, fmt.Errorf("begin: %w", err))
	}
	t.mu.Lock()
	t.id, t.used = u.ID, true
	t.mu.Unlock()
	if err := t.socket.text(string(message)); err != nil {
		return s.fail(u.ID, fmt.Errorf("begin: %w", err))
	}
	return nil
}

// take makes the prepared connection the current one, and waits for a new one
// where there is none.
func (s *voskStream) take() (*voskTurn, error) {
	s.mu.Lock()
	old, t := s.cur, s.next
	s.cur, s.next = nil, nil
	s.mu.Unlock()
	if old != nil {
		old.socket.close()
	}
	if t == nil {
		ctx, cancel := context.WithTimeout(s.ctx, connectLimit)
		defer cancel()
		var err error
		if t, err = s.connect(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.cur = t
	s.mu.Unlock()
	return t, nil
}

// voskPhrases are hints as the models spell words, and whatever else is said.
func voskPhrases(hints []string) []string {
	var out []string
	for _, h := range hints {
		words := strings.FieldsFunc(strings.ToLower(h), func(r rune) bool {
			return strings.ContainsRune(" \t\r\n.,;:!?\"()[]{}<>", r)
		})
		if len(words) > 0 {
			out = append(out, strings.Join(words, " "))
		}
	}
	if out != nil {
		out = append(out, unknown)
	}
	return out
}

func (s *voskStream) current() *voskTurn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

func (s *voskStream) Write(samples []int16) error {
	t := s.current()
	if t == nil {
		return nil
	}
	s.buf = s.buf[:0]
	for _, v := range samples {
		s.buf = binary.LittleEndian.AppendUint16(s.buf, uint16(v))
	}
	t.mu.Lock()
	t.sent++
	id := t.id
	t.mu.Unlock()
	if err := t.socket.sound(s.buf); err != nil {
		return s.fail(id, err)
	}
	return nil
}

func (s *voskStream) End(id uint64) error {
	t := s.current()
	if t == nil || !t.is(id) {
		return nil
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.cur = nil
	s.work.Go(s.prepare)
	s.mu.Unlock()
	t.mu.Lock()
	t.sent++
	t.ended = time.Now()
	t.mu.Unlock()
	if err := t.socket.text(voskEnd); err != nil {
		return s.fail(id, fmt.Errorf("end: %w", err))
	}
	return nil
}

func (t *voskTurn) is(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.id == id
}

// prepare connects for the next utterance. Begin tries again where it fails.
func (s *voskStream) prepare() {
	ctx, cancel := context.WithTimeout(s.ctx, connectLimit)
	defer cancel()
	t, err := s.connect(ctx)
	if err != nil {
		s.log.Debug("recogniser cannot be reached", zap.String("provider", s.v.Key()), zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = t
		return
	}
	t.socket.close()
}

// follow reads what the server says on one connection.
func (s *voskStream) follow(t *voskTurn) {
	defer func() {
		t.socket.close()
		s.mu.Lock()
		delete(s.turns, t)
		if s.next == t {
			s.next = nil
		}
		s.mu.Unlock()
	}()
	garbage := 0
	for {
		b, err := t.socket.read()
		if err != nil {
			s.lost(t, err)
			return
		}
		var m voskMessage
		if err := json.Unmarshal(b, &m); err != nil || m.Text == nil && m.Partial == nil {
			if garbage++; garbage > garbageMost {
				s.lost(t, ErrGarbage)
				return
			}
			s.log.Debug("message makes no sense", zap.String("provider", s.v.Key()), zap.Int("bytes", len(b)))
		}
		if s.hear(t, m) {
			return
		}
	}
}

type voskMessage struct {
	Partial *string `json:"partial"`
	Text    *string `json:"text"`
	Result  []struct {
		Conf float64 `json:"conf"`
	} `json:"result"`
}

// hear takes one answer and is true when it was the last.
func (s *voskStream) hear(t *voskTurn, m voskMessage) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered++
	if !t.used {
		return false
	}
	switch {
	case m.Text != nil:
		if text := known(*m.Text); text != "" {
			t.texts = append(t.texts, text)
		}
		for _, w := range m.Result {
			t.certain += w.Conf
			t.words++
		}
		s.partial(t, "")
	case m.Partial != nil:
		s.partial(t, known(*m.Partial))
	}
	if t.ended.IsZero() {
		return false
	}
	if m.Text != nil && t.answered >= t.sent {
		s.final(t)
		return true
	}
	if m.Text != nil && t.linger == nil {
		// A server that does not answer each message: close when it is quiet.
		t.linger = time.AfterFunc(voskLinger, t.socket.close)
	}
	return false
}

func (s *voskStream) partial(t *voskTurn, more string) {
	text := strings.TrimSpace(strings.Join(t.texts, " ") + " " + more)
	if text == "" || text == t.partial || !t.ended.IsZero() {
		return
	}
	t.partial = text
	s.out.post(Event{Utterance: t.id, Kind: Partial, Text: text})
}

func (s *voskStream) final(t *voskTurn) {
	if t.linger != nil {
		t.linger.Stop()
	}
	ev := Event{Utterance: t.id, Kind: Final, Text: strings.Join(t.texts, " "), Latency: time.Since(t.ended)}
	if t.words > 0 && ev.Text != "" {
		ev.Confidence = min(1, max(0, t.certain/float64(t.words)))
	}
	s.out.post(ev)
}

// known drops the marks of words that the phrases do not hold.
func known(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, unknown, " ")), " ")
}

// lost handles the end of a connection: expected behind a final, harmless before
// use, otherwise the end of the stream.
func (s *voskStream) lost(t *voskTurn, err error) {
	current := s.current() == t
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.used || !current && t.ended.IsZero(): // never used, or given up
	case t.linger != nil:
		s.final(t)
	default:
		_ = s.fail(t.id, err)
	}
}

// fail ends the stream because of err.
func (s *voskStream) fail(utterance uint64, err error) error {
	if errors.Is(err, ErrClosed) || !s.out.fail(utterance, err) {
		return ErrClosed
	}
	s.cut()
	return err
}

func (s *voskStream) cut() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for t := range s.turns {
		t.socket.close()
	}
}

func (s *voskStream) Close() error {
	s.cut()
	s.out.close()
	s.work.Wait()
	return nil
}
