package asr

import "sync"

const (
	outboxSize   = 32
	partialsMost = outboxSize / 2 // beyond it only what must not be lost is queued
)

// An outbox is the events channel of an adapter's stream. Any goroutine posts,
// none ever waits: where nobody reads, partials are dropped first.
type outbox struct {
	mu     sync.Mutex
	ch     chan Event
	closed bool
}

func newOutbox() *outbox { return &outbox{ch: make(chan Event, outboxSize)} }

func (o *outbox) post(ev Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || ev.Kind == Partial && len(o.ch) >= partialsMost {
		return
	}
	select {
	case o.ch <- ev:
	default:
	}
}

// fail posts Failed and closes the outbox. It is false when that was done before.
func (o *outbox) fail(utterance uint64, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	select {
	case o.ch <- Event{Utterance: utterance, Kind: Failed, Err: err}:
	default:
	}
	o.closed = true
	close(o.ch)
	return true
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		close(o.ch)
	}
}
