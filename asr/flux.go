package asr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A fluxStream is one caller at /v2/listen. The service cuts speech into turns
// by itself and numbers them; an utterance is answered by the first turn that
// ends in it.
type fluxStream struct {
	*deepgramLine

	id      uint64
	active  bool // id awaits its final
	ended   time.Time
	text    string // of the turn that runs, empty before one does
	certain float64
	turn    int      // number of the turn that was last heard of
	first   int      // turns before it belong to earlier utterances
	begun   int64    // samples that were sent before the utterance
	terms   []string // that hold for the whole call
	hints   []string
	timer   *time.Timer
}

// OwnsEndpoint implements Endpointer.
func (*fluxStream) OwnsEndpoint() bool { return true }

func (s *fluxStream) Begin(u Utterance) error {
	s.mu.Lock()
	var messages []string
	if s.active {
		if !s.ended.IsZero() {
			s.final(s.text) // no later answer could be told from the next utterance's
		} else if s.sent > s.begun {
			messages = append(messages, `{"type":"ForceEndTurn"}`)
		}
		s.pass()
	}
	s.begun = s.sent
	s.id, s.active, s.ended, s.text, s.certain = u.ID, true, time.Time{}, "", 0
	s.open = u.ID
	if !slices.Equal(u.Hints, s.hints) {
		s.hints = slices.Clone(u.Hints)
		b, err := json.Marshal(map[string]any{"type": "Configure", "keyterms": slices.Concat([]string{}, s.terms, u.Hints)})
		if err == nil {
			messages = append(messages, string(b))
		}
	}
	s.mu.Unlock()
	return s.say(messages...)
}

func (s *fluxStream) say(messages ...string) error {
	for _, m := range messages {
		if err := s.socket.text(m); err != nil {
			return s.fail(err)
		}
	}
	return nil
}

// End ends the turn that runs. Where none does, the service says nothing, and
// the utterance is settled after a moment.
func (s *fluxStream) End(id uint64) error {
	s.mu.Lock()
	if !s.active || s.id != id || !s.ended.IsZero() {
		s.mu.Unlock()
		return nil
	}
	s.ended = time.Now()
	if s.sent == s.begun {
		s.final("") // nothing to ask about
		s.mu.Unlock()
		return nil
	}
	wait := settledWait
	if s.text != "" {
		wait = unsettledWait
	}
	s.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.active && s.id == id {
			s.final(s.text)
			s.pass()
		}
	})
	s.mu.Unlock()
	return s.say(`{"type":"ForceEndTurn"}`)
}

// pass leaves the turn that runs to the utterance that had it. The caller holds
// mu.
func (s *fluxStream) pass() {
	if s.text != "" {
		s.first = s.turn + 1
	}
}

func (s *fluxStream) final(text string) {
	if !s.active {
		return
	}
	s.active = false
	if s.timer != nil {
		s.timer.Stop()
	}
	ev := Event{Utterance: s.id, Kind: Final, Text: text, Confidence: s.certain}
	if !s.ended.IsZero() {
		ev.Latency = time.Since(s.ended)
	}
	s.out.post(ev)
}

// idle keeps the connection open with a moment of silence.
func (s *fluxStream) idle() error {
	s.mu.Lock()
	s.spoke = time.Now()
	s.mu.Unlock()
	return s.socket.sound(bytes.Repeat([]byte{pcm.Mu.Silence()}, chunkSamples))
}

type fluxMessage struct {
	Type        string  `json:"type"`
	Event       string  `json:"event"`
	TurnIndex   int     `json:"turn_index"`
	WindowEnd   float64 `json:"audio_window_end"` // seconds of sound that the message is about
	Transcript  string  `json:"transcript"`
	Description string  `json:"description"`
	Words       []struct {
		Confidence float64 `json:"confidence"`
	} `json:"words"`
}

// hear takes one message and tells whether it made sense.
func (s *fluxStream) hear(b []byte) (bool, error) {
	var m fluxMessage
	if err := json.Unmarshal(b, &m); err != nil || m.Type == "" {
		s.log.Debug("message makes no sense", zap.Int("bytes", len(b)))
		return false, nil
	}
	switch m.Type {
	case "Error", "FatalError":
		return true, fmt.Errorf("deepgram: %s", m.Description)
	case "TurnInfo":
	default:
		return true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn = m.TurnIndex
	before := m.WindowEnd > 0 && m.WindowEnd <= float64(s.begun)/pcm.Rate
	if !s.active || m.TurnIndex < s.first || before {
		return true, nil
	}
	text := strings.TrimSpace(m.Transcript)
	if len(m.Words) > 0 {
		sum := 0.0
		for _, w := range m.Words {
			sum += w.Confidence
		}
		s.certain = min(1, max(0, sum/float64(len(m.Words))))
	}
	if m.Event == "EndOfTurn" {
		if s.ended.IsZero() {
			s.out.post(Event{Utterance: s.id, Kind: TurnEnd})
		}
		s.text = ""
		s.final(text)
		s.first = m.TurnIndex + 1
		return true, nil
	}
	if text != s.text && s.ended.IsZero() {
		s.out.post(Event{Utterance: s.id, Kind: Partial, Text: text})
	}
	s.text = text
	return true, nil
}
