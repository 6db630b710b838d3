package sip

import (
	"context"
	"sync"
)

// A mailbox passes values from a reader that must not wait to a goroutine. Its
// length is bounded; what exceeds it is dropped, the oldest kept.
type mailbox[T any] struct {
	mu    sync.Mutex
	items []T
	bell  chan struct{}
}

// maxMail bounds what an invitation may be told before it listens.
const maxMail = 256

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{bell: make(chan struct{}, 1)} }

// put reports whether there was room.
func (b *mailbox[T]) put(v T) bool {
	b.mu.Lock()
	if len(b.items) >= maxMail {
		b.mu.Unlock()
		return false
	}
	b.items = append(b.items, v)
	b.mu.Unlock()
	select {
	case b.bell <- struct{}{}:
	default:
	}
	return true
}

// take waits for a value. What is there is returned even if ctx is over.
func (b *mailbox[T]) take(ctx context.Context) (T, error) {
	for {
		b.mu.Lock()
		if len(b.items) > 0 {
			v := b.items[0]
			b.items = b.items[1:]
			b.mu.Unlock()
			return v, nil
		}
		b.mu.Unlock()
		select {
		case <-b.bell:
		case <-ctx.Done():
			var zero T
			return zero, context.Cause(ctx)
		}
	}
}
