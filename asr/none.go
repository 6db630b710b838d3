package asr

import (
	"context"
	"sync"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

func init() {
	registry.Add(&Providers, "none", func() NoneConfig { return NoneConfig{} },
		func(context.Context, NoneConfig, registry.Deps) (Recognizer, error) { return none{}, nil })
}

// NoneConfig configures no recogniser at all: callers use keys.
type NoneConfig struct{}

type none struct{}

// Key implements Keyed.
func (none) Key() string { return "none" }

// Open implements Recognizer.
func (none) Open(context.Context, Params) (Stream, error) {
	return &deaf{out: newOutbox()}, nil
}

// deaf is a stream that understands nothing.
type deaf struct {
	out  *outbox
	mu   sync.Mutex
	open uint64
	on   bool
}

// Segmented spares the feeder the work: there is no use for sound.
func (*deaf) Segmented() bool { return true }

func (d *deaf) Begin(u Utterance) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.on = u.ID, true
	return nil
}

func (*deaf) Write([]int16) error { return nil }

func (d *deaf) End(id uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.on && d.open == id {
		d.on = false
		d.out.post(Event{Utterance: id, Kind: Final})
	}
	return nil
}

func (d *deaf) Events() <-chan Event { return d.out.ch }

func (d *deaf) Close() error {
	d.out.close()
	return nil
}
