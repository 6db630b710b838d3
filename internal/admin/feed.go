package admin

import (
	"context"
	"encoding/json"
	"iter"
	"sync"
)

const (
	feedEvents = 1000
	feedBytes  = 8 << 20 // of all events that a feed keeps
)

// A Feed fans the events of one call out to those who watch it. It keeps the
// last 1,000 of them, of at most 8 MB together, so that a watcher who lost his
// connection misses nothing. Its methods may be called from any goroutine; it
// has none of its own.
type Feed struct {
	mu      sync.Mutex
	kept    []FeedEvent   // the oldest first, without gaps
	bytes   int           // of kept
	last    uint64        // the number of the newest event ever
	changed chan struct{} // closed and replaced at every change; nil: nobody waits
	closed  bool
}

// A FeedEvent is one event of a call.
type FeedEvent struct {
	ID   uint64          // from 1, without gaps
	Kind string          // such as state
	Data json.RawMessage // never changed afterwards; one line
}

// NewFeed returns an empty feed.
func NewFeed() *Feed { return &Feed{} }

// Publish adds an event and never blocks. The data is encoded before it returns;
// what JSON cannot express arrives as {"error": "…"}. After Close it does
// nothing.
func (f *Feed) Publish(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()}) // texts can be encoded
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.last++
	f.kept = append(f.kept, FeedEvent{ID: f.last, Kind: kind, Data: b})
	f.bytes += len(b)
	for len(f.kept) > feedEvents || f.bytes > feedBytes && len(f.kept) > 1 {
		f.bytes -= len(f.kept[0].Data)
		f.kept[0] = FeedEvent{}
		f.kept = f.kept[1:]
	}
	f.wake()
}

// Close ends all watchers after they got what was published.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.wake()
}

// Watch returns the events after the one with the number after, those that are
// kept at once and the others as they come. 0, and numbers that no event has
// yet, mean all that are kept. The sequence ends with the context, after Close,
// and when the watcher falls so far behind that he would miss events.
func (f *Feed) Watch(ctx context.Context, after uint64) iter.Seq[FeedEvent] {
	return func(yield func(FeedEvent) bool) {
		next := f.begin(after)
		for {
			e, wait, ok := f.take(next)
			switch {
			case ok:
				if ctx.Err() != nil || !yield(e) {
					return
				}
				next++
			case wait == nil:
				return
			default:
				select {
				case <-ctx.Done():
					return
				case <-wait:
				}
			}
		}
	}
}

// over reports whether nothing comes after the event with the number after.
func (f *Feed) over(after uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed && after == f.last
}

// begin returns the number that a watcher begins with.
func (f *Feed) begin(after uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.last - uint64(len(f.kept)) + 1
	if after > f.last {
		return oldest
	}
	return max(after+1, oldest)
}

// take returns the event with a number, or what to wait for until it comes; nil
// when it never will.
func (f *Feed) take(id uint64) (FeedEvent, <-chan struct{}, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if oldest := f.last - uint64(len(f.kept)) + 1; id < oldest {
		return FeedEvent{}, nil, false
	} else if id <= f.last {
		return f.kept[id-oldest], nil, true
	}
	if f.closed {
		return FeedEvent{}, nil, false
	}
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return FeedEvent{}, f.changed, false
}

// wake ends the waiting of all watchers. The lock is held.
func (f *Feed) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}
