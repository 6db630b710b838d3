package call

import (
	"sync"
	"time"
)

// inboxSize bounds what may happen to a call before its goroutine looks. A call
// that falls so far behind is ended: an event is never dropped.
const inboxSize = 512

// firstInbox is how many have room at first: most calls never need more, and
// each of them keeps it to the end.
const firstInbox = 16

// An inbox is where everything that happens to a call arrives, in the order of
// its arrival: from the wheel, from turns, recognisers and the far end.
type inbox struct {
	bell chan struct{} // of one; rung when the ring was empty

	mu   sync.Mutex // held for a copy, never while anything is awaited
	ring []letter   // grows by doubling
	head int
	n    int
	full bool
}

// A letter is one event and when it happened.
type letter struct {
	at time.Time
	ev any
}

func newInbox() *inbox {
	return &inbox{bell: make(chan struct{}, 1), ring: make([]letter, firstInbox)}
}

// post adds an event. It reports false when there is no room; the call then
// ends.
func (b *inbox) post(at time.Time, ev any) bool {
	b.mu.Lock()
	ok := b.n < inboxSize
	if ok {
		if b.n == len(b.ring) {
			b.grow()
		}
		b.ring[(b.head+b.n)%len(b.ring)] = letter{at, ev}
		b.n++
	} else {
		b.full = true
	}
	b.mu.Unlock()
	select {
	case b.bell <- struct{}{}:
	default:
	}
	return ok
}

// grow makes room for as many again. Called with mu held.
func (b *inbox) grow() {
	ring := make([]letter, 2*len(b.ring))
	n := copy(ring, b.ring[b.head:])
	copy(ring[n:], b.ring[:b.head])
	b.ring, b.head = ring, 0
}

// take removes the oldest event. Overflow says that one was lost since.
func (b *inbox) take() (l letter, ok, overflow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == 0 {
		return letter{}, false, b.full
	}
	l = b.ring[b.head]
	b.ring[b.head] = letter{}
	b.head = (b.head + 1) % len(b.ring)
	b.n--
	return l, true, b.full
}
