package asr_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ivrbridge/ivrbridge/asr"
)

var errRefused = errors.New("refused")

// engine is a recogniser that answers each utterance with its name and what it
// was told of it, and fails as it is told to.
type engine struct {
	name      string
	segmented bool
	delay     time.Duration // of the final

	mu      sync.Mutex
	refuse  int  // attempts to open that fail
	silent  bool // no finals
	failAt  int  // samples of an utterance after which the stream fails, once
	opened  int
	streams []*stream
}

func (e *engine) Key() string { return e.name }

func (e *engine) Open(ctx context.Context, _ asr.Params) (asr.Stream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened++
	if e.refuse > 0 {
		e.refuse--
		return nil, errRefused
	}
	s := &stream{e: e, events: make(chan asr.Event, 64), written: make(map[uint64][]int16)}
	e.streams = append(e.streams, s)
	return s, ctx.Err()
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *engine) last() *stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.streams[len(e.streams)-1]
}

type stream struct {
	e      *engine
	events chan asr.Event

	mu      sync.Mutex
	closed  bool
	cur     uint64
	open    bool
	begun   []asr.Utterance
	written map[uint64][]int16
	chunks  []int
	block   chan struct{} // Write waits for it
}

func (s *stream) Segmented() bool { return s.e.segmented }

func (s *stream) Begin(u asr.Utterance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur, s.open = u.ID, true
	s.begun = append(s.begun, u)
	s.written[u.ID] = nil
	return nil
}

func (s *stream) Write(pcm []int16) error {
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	s.e.mu.Lock()
	failAt := s.e.failAt
	s.e.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errRefused
	}
	s.chunks = append(s.chunks, len(pcm))
	s.written[s.cur] = append(s.written[s.cur], pcm...)
	if failAt > 0 && len(s.written[s.cur]) >= failAt {
		s.e.set(func() { s.e.failAt = 0 })
		s.events <- asr.Event{Utterance: s.cur, Kind: asr.Failed, Err: errRefused}
		return errRefused
	}
	return nil
}

func (s *stream) End(id uint64) error {
	s.e.mu.Lock()
	silent, delay := s.e.silent, s.e.delay
	s.e.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open || s.cur != id {
		return nil
	}
	s.open = false
	if silent {
		return nil
	}
	text := s.e.name
	if len(s.written[id]) == 0 {
		text = ""
	}
	time.AfterFunc(delay, func() { s.post(asr.Event{Utterance: id, Kind: asr.Final, Text: text}) })
	return nil
}

func (s *stream) post(ev asr.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.events <- ev
	}
}

func (s *stream) Events() <-chan asr.Event { return s.events }

func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.events)
	}
	return nil
}

func (s *stream) heard(id uint64) []int16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written[id]
}
