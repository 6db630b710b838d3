package media

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// ErrClosed is returned for what is asked of an engine, a leg or a range of
// ports after its end.
var ErrClosed = errors.New("media: closed")

// EngineConfig is what an [Engine] is built from.
type EngineConfig struct {
	Shards  int                   // goroutines that serve legs; 0: one per core
	Ports   Ports                 // where legs get their sockets
	Log     *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
}

// An Engine serves the media of all calls. There is one per process.
type Engine struct {
	ports  Ports
	log    *zap.Logger
	meter  *meter
	epoch  time.Time // what the wheel's times count from
	shards []*shard
	tones  [16]*pcm.Clip // keys as tones, for joined legs without telephone-events

	wheels sync.WaitGroup // the shards' goroutines
	ends   sync.WaitGroup // sockets being closed

	register prometheus.Registerer // where the meter is; nil: nowhere
	once     sync.Once

	mu     sync.Mutex
	closed bool
}

// NewEngine starts an engine. Close ends it.
func NewEngine(c EngineConfig) *Engine {
	n := c.Shards
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	log := c.Log
	if log == nil {
		log = zap.NewNop()
	}
	e := &Engine{ports: c.Ports, log: log, epoch: time.Now(), meter: newMeter(c.Ports)}
	e.tones = keyTones()
	if c.Metrics != nil {
		if err := c.Metrics.Register(e.meter); err != nil {
			log.Warn("rtp metrics are not exposed", zap.Error(err))
		} else {
			e.register = c.Metrics
		}
	}
	for range n {
		s := newShard(e)
		e.shards = append(e.shards, s)
		e.wheels.Go(s.run)
	}
	return e
}

// Close ends all legs and returns when nothing of the engine runs any more. It
// may be called more than once; not on the wheel.
func (e *Engine) Close() {
	e.once.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		for _, s := range e.shards {
			s.quit.Store(true)
			s.ring()
		}
		e.wheels.Wait()
		for _, s := range e.shards {
			s.endAll()
		}
		e.ends.Wait()
		if e.register != nil {
			e.register.Unregister(e.meter)
		}
	})
}

// NewLeg opens a leg on the emptiest slot. It fails with [ErrNoPorts], with
// [ErrClosed], or with the system's error. The leg is silent and takes nothing
// until [Leg.Apply].
func (e *Engine) NewLeg(c LegConfig) (*Leg, error) {
	if e.ports == nil {
		return nil, fmt.Errorf("new leg: %w", ErrNoPorts)
	}
	rtp, rtcp, err := e.ports.Open()
	if err != nil {
		return nil, fmt.Errorf("new leg: %w", err)
	}
	return e.NewLegOver(c, rtp, rtcp)
}

// NewLegOver is [Engine.NewLeg] over ports that are open already, of whatever
// transport: the leg uses them from one goroutine at a time and closes them when
// it ends, or at once when it cannot begin. It fails with [ErrClosed].
func (e *Engine) NewLegOver(c LegConfig, rtp, rtcp Port) (*Leg, error) {
	l := newLeg(e, c, rtp, rtcp)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.Join(fmt.Errorf("new leg: %w", ErrClosed), rtp.Close(), rtcp.Close())
	}
	s, slot := e.emptiest()
	s.load[slot].Add(1)
	l.home.Store(&place{s, slot})
	s.admit(l)
	return l, nil
}

// emptiest finds the slot with the fewest legs, one on each shard before a
// second on any. Called with mu held.
func (e *Engine) emptiest() (*shard, int) {
	best, slot := e.shards[0], 0
	for i := range slots {
		for _, s := range e.shards {
			if s.load[i].Load() < best.load[slot].Load() {
				best, slot = s, i
			}
		}
	}
	return best, slot
}

// clock turns the time of a wheel into that of a clock.
func (e *Engine) clock(at time.Duration) time.Time { return e.epoch.Add(at) }

// now is the time since the epoch, as the wheel counts.
func (e *Engine) now() time.Duration { return time.Since(e.epoch) }
