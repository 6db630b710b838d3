package asr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "deepgram", func() DeepgramConfig {
		return DeepgramConfig{
			URL: "wss://api.deepgram.com", Model: "nova-3", Endpointing: 300 * time.Millisecond,
			EndOfTurn: 0.7, EndOfTurnTimeout: 5 * time.Second,
		}
	}, openDeepgram)
}

// DeepgramConfig configures Deepgram's live recognition. Models whose names
// begin with flux decide themselves when the caller's turn is over.
type DeepgramConfig struct {
	URL              string            `yaml:"url"`                 // wss://host of the service or of an own installation
	APIKey           secret.Secret     `yaml:"api_key"`             // env:NAME or file:PATH
	Model            string            `yaml:"model"`               // nova-3, flux-general-en, flux-general-multi, …
	Language         string            `yaml:"language"`            // empty for the agent's; multi for several
	Keyterms         []string          `yaml:"keyterms"`            // names and terms that callers use
	Endpointing      time.Duration     `yaml:"endpointing"`         // silence after which a stretch of text is settled; not flux
	EndOfTurn        float64           `yaml:"end_of_turn"`         // flux: how sure it must be that a turn is over, 0.5 to 1
	EndOfTurnTimeout time.Duration     `yaml:"end_of_turn_timeout"` // flux: silence that ends a turn in any case
	Params           map[string]string `yaml:"params"`              // further parameters of the service, as they are
}

// Validate implements registry.Validator.
func (c *DeepgramConfig) Validate() error {
	errs := []error{checkURL("url", c.URL, "wss", "ws")}
	if c.Model == "" {
		errs = append(errs, errors.New("model: write one such as nova-3"))
	}
	if !c.APIKey.Set() && strings.HasSuffix(hostOf(c.URL), "deepgram.com") {
		errs = append(errs, errors.New("api_key: write env:NAME of the variable that holds it"))
	}
	if c.Endpointing < 0 {
		errs = append(errs, errors.New("endpointing: write a duration such as 300ms"))
	}
	if c.EndOfTurn < 0.5 || c.EndOfTurn > 1 {
		errs = append(errs, errors.New("end_of_turn: write a number from 0.5 to 1"))
	}
	if c.EndOfTurnTimeout < 500*time.Millisecond || c.EndOfTurnTimeout > time.Minute {
		errs = append(errs, errors.New("end_of_turn_timeout: write a duration from 500ms to 1m"))
	}
	return errors.Join(errs...)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

const (
	// deepgramIdle is how long nothing may be sent: the service ends connections
	// after ten seconds.
	deepgramIdle = 4 * time.Second
	// settledWait is how long after End a text that is settled already waits for
	// more: the service answers Finalize only where it had sound left.
	settledWait = 700 * time.Millisecond
	// unsettledWait is how long after End words that may change, or none, wait.
	unsettledWait = 2 * time.Second
)

type deepgram struct {
	c DeepgramConfig
	d registry.Deps
}

func openDeepgram(_ context.Context, c DeepgramConfig, d registry.Deps) (Recognizer, error) {
	return &deepgram{c: c, d: d}, nil
}

// Key implements Keyed.
func (d *deepgram) Key() string { return "deepgram " + d.c.URL + " " + d.c.Model }

func (d *deepgram) flux() bool { return strings.HasPrefix(d.c.Model, "flux") }

// Open implements Recognizer.
func (d *deepgram) Open(ctx context.Context, p Params) (Stream, error) {
	header := http.Header{}
	if d.c.APIKey.Set() {
		header.Set("Authorization", "Token "+d.c.APIKey.Reveal())
	}
	sock, err := dial(ctx, d.d.HTTP, d.address(p.Language), header)
	if err != nil {
		return nil, fmt.Errorf("open deepgram: %w", err)
	}
	line := newDeepgramLine(sock, d.d.Log.With(zap.String("call", p.CallID)))
	if d.flux() {
		s := &fluxStream{deepgramLine: line, terms: d.c.Keyterms}
		line.start(s.hear, s.idle)
		return s, nil
	}
	s := &deepgramStream{deepgramLine: line}
	line.start(s.hear, func() error { return line.socket.text(`{"type":"KeepAlive"}`) })
	return s, nil
}

func (d *deepgram) address(language string) string {
	q := url.Values{
		"model": {d.c.Model}, "encoding": {"mulaw"}, "sample_rate": {strconv.Itoa(pcm.Rate)},
		"keyterm": d.c.Keyterms,
	}
	if d.c.Language != "" {
		language = d.c.Language
	}
	path := "/v1/listen"
	if d.flux() {
		path = "/v2/listen"
		q.Set("eot_threshold", strconv.FormatFloat(d.c.EndOfTurn, 'f', -1, 64))
		q.Set("eot_timeout_ms", strconv.FormatInt(d.c.EndOfTurnTimeout.Milliseconds(), 10))
		if strings.HasSuffix(d.c.Model, "multi") && language != "" && language != "multi" {
			q.Set("language_hint", strings.SplitN(language, "-", 2)[0])
		}
	} else {
		q.Set("channels", "1")
		q.Set("interim_results", "true")
		q.Set("endpointing", strconv.FormatInt(d.c.Endpointing.Milliseconds(), 10))
		if language != "" {
			q.Set("language", language)
		}
	}
	for k, v := range d.c.Params {
		q.Set(k, v)
	}
	return strings.TrimSuffix(d.c.URL, "/") + path + "?" + q.Encode()
}

// A deepgramLine is the connection of one caller, and what both generations of
// the service have in common.
type deepgramLine struct {
	socket *socket
	out    *outbox
	log    *zap.Logger
	stop   chan struct{}
	work   sync.WaitGroup
	once   sync.Once

	mu    sync.Mutex // also of the streams built on it
	law   []byte
	sent  int64 // samples
	spoke time.Time
	open  uint64 // the utterance that is heard, for Failed
}

func newDeepgramLine(s *socket, log *zap.Logger) *deepgramLine {
	return &deepgramLine{socket: s, out: newOutbox(), log: log, stop: make(chan struct{}), spoke: time.Now()}
}

// start reads messages for hear, which says whether one made sense, and calls
// idle where nothing else was sent.
func (l *deepgramLine) start(hear func([]byte) (bool, error), idle func() error) {
	l.work.Go(func() {
		garbage := 0
		for {
			b, err := l.socket.read()
			if err == nil {
				var ok bool
				if ok, err = hear(b); ok {
					garbage = 0
				} else if garbage++; err == nil && garbage > garbageMost {
					err = ErrGarbage
				}
			}
			if err != nil {
				_ = l.fail(err)
				return
			}
		}
	})
	l.work.Go(func() {
		tick := time.NewTicker(deepgramIdle)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			l.mu.Lock()
			quiet := time.Since(l.spoke) >= deepgramIdle
			l.mu.Unlock()
			if quiet {
				if err := idle(); err != nil {
					_ = l.fail(err)
				}
			}
		}
	})
}

func (l *deepgramLine) Events() <-chan Event { return l.out.ch }

// Write is called by the feeder alone, as law is its own.
func (l *deepgramLine) Write(samples []int16) error {
	if cap(l.law) < len(samples) {
		l.law = make([]byte, len(samples))
	}
	l.law = l.law[:pcm.Mu.Encode(l.law[:len(samples)], samples)]
	l.mu.Lock()
	l.sent += int64(len(samples))
	l.spoke = time.Now()
	l.mu.Unlock()
	if err := l.socket.sound(l.law); err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *deepgramLine) fail(err error) error {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	if !l.out.fail(open, err) {
		return ErrClosed
	}
	l.cut()
	return err
}

func (l *deepgramLine) cut() {
	l.once.Do(func() { close(l.stop) })
	l.socket.close()
}

// Close ends the connection in the way that the service asks for.
func (l *deepgramLine) Close() error {
	select {
	case <-l.stop:
	default:
		_ = l.socket.text(`{"type":"CloseStream"}`)
	}
	l.out.close()
	l.cut()
	l.work.Wait()
	return nil
}

// A deepgramStream is one caller at /v1/listen. Results carry no number: they
// belong to the oldest utterance that has not had its answer to Finalize.
type deepgramStream struct {
	*deepgramLine

	turns []*deepgramTurn // the last may be open, the others are ended
	owed  int             // answers to Finalize that were not waited for
	till  float64         // seconds of sound that they are about
}

type deepgramTurn struct {
	id      uint64
	begun   int64 // samples that were sent before
	ended   time.Time
	dropped bool // given up: no final
	texts   []string
	certain float64 // sum of the confidences of texts
	interim string
	timer   *time.Timer
}

func (s *deepgramStream) Begin(u Utterance) error {
	s.mu.Lock()
	split := false
	if n := len(s.turns); n > 0 && s.turns[n-1].ended.IsZero() {
		s.end(s.turns[n-1])
		s.turns[n-1].dropped = true
		split = true
	}
	s.turns = append(s.turns, &deepgramTurn{id: u.ID, begun: s.sent})
	s.open = u.ID
	s.mu.Unlock()
	if split {
		return s.finalize()
	}
	return nil
}

func (s *deepgramStream) End(id uint64) error {
	s.mu.Lock()
	n := len(s.turns)
	if n == 0 || s.turns[n-1].id != id || !s.turns[n-1].ended.IsZero() {
		s.mu.Unlock()
		return nil
	}
	s.end(s.turns[n-1])
	if n == 1 && s.sent == s.turns[0].begun {
		s.settle() // nothing to ask about
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.finalize()
}

func (s *deepgramStream) finalize() error {
	if err := s.socket.text(`{"type":"Finalize"}`); err != nil {
		return s.fail(err)
	}
	return nil
}

// end waits for the rest of t. The caller holds mu.
func (s *deepgramStream) end(t *deepgramTurn) {
	t.ended = time.Now()
	t.timer = time.AfterFunc(settledWait, func() { s.late(t) })
}

// late settles a turn that the service leaves open.
func (s *deepgramStream) late(t *deepgramTurn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.turns) == 0 || s.turns[0] != t {
		return // answered meanwhile, or behind another that is late
	}
	if left := unsettledWait - time.Since(t.ended); left > 0 && (t.interim != "" || len(t.texts) == 0) {
		t.timer.Reset(left)
		return
	}
	if t.interim != "" {
		t.texts = append(t.texts, t.interim)
	}
	s.owed++
	s.till = float64(s.sent) / pcm.Rate
	s.settle()
	if len(s.turns) > 0 && !s.turns[0].ended.IsZero() {
		s.turns[0].timer.Reset(settledWait)
	}
}

// settle reports the oldest turn. The caller holds mu.
func (s *deepgramStream) settle() {
	t := s.turns[0]
	s.turns = s.turns[1:]
	t.timer.Stop()
	if t.dropped {
		return
	}
	ev := Event{Utterance: t.id, Kind: Final, Text: strings.Join(t.texts, " "), Latency: time.Since(t.ended)}
	if len(t.texts) > 0 {
		ev.Confidence = min(1, max(0, t.certain/float64(len(t.texts))))
	}
	s.out.post(ev)
}

type deepgramResult struct {
	Type         string  `json:"type"`
	IsFinal      bool    `json:"is_final"`
	FromFinalize bool    `json:"from_finalize"`
	Start        float64 `json:"start"`
	Duration     float64 `json:"duration"`
	Description  string  `json:"description"`
	Channel      json.RawMessage
}

// hear takes one message and tells whether it made sense.
func (s *deepgramStream) hear(b []byte) (bool, error) {
	var r deepgramResult
	if err := json.Unmarshal(b, &r); err != nil || r.Type == "" {
		s.log.Debug("message makes no sense", zap.Int("bytes", len(b)))
		return false, nil
	}
	switch r.Type {
	case "Error":
		return true, fmt.Errorf("deepgram: %s", r.Description)
	case "Results":
	default:
		return true, nil
	}
	var channel struct {
		Alternatives []struct {
			Transcript string  `json:"transcript"`
			Confidence float64 `json:"confidence"`
		} `json:"alternatives"`
	}
	if err := json.Unmarshal(r.Channel, &channel); err != nil {
		return false, nil
	}
	text, sure := "", 0.0
	if len(channel.Alternatives) > 0 {
		text, sure = strings.TrimSpace(channel.Alternatives[0].Transcript), channel.Alternatives[0].Confidence
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result(r, text, sure)
	return true, nil
}

func (s *deepgramStream) result(r deepgramResult, text string, sure float64) {
	if s.owed > 0 && r.Start+r.Duration <= s.till+0.05 && r.Duration > 0 {
		if r.FromFinalize {
			s.owed--
		}
		return // about an utterance that was settled without it
	}
	if len(s.turns) == 0 {
		return
	}
	t := s.turns[0]
	if r.IsFinal {
		t.interim = ""
		if text != "" {
			t.texts = append(t.texts, text)
			t.certain += sure
		}
	} else {
		t.interim = text
	}
	if r.FromFinalize && !t.ended.IsZero() {
		s.settle()
		return
	}
	if text != "" && t.ended.IsZero() {
		words := t.texts
		if t.interim != "" {
			words = append(slices.Clip(words), t.interim)
		}
		s.out.post(Event{Utterance: t.id, Kind: Partial, Text: strings.Join(words, " ")})
	}
}
