// Package guard keeps a failing service or a faulty goroutine from taking
// healthy calls with it: breakers that stop asking a service that does not
// answer, and goroutines whose panic ends them alone.
//
// The package knows nothing of what it guards.
package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"
)

// ErrOpen is returned while a breaker refuses requests.
var ErrOpen = errors.New("guard: breaker is open")

// Rules say when a breaker opens and when it tries again.
type Rules struct {
	InRow  uint32        // failures one after the other that open it
	Ratio  float64       // share of failures within Window that opens it
	Least  uint32        // requests within Window before Ratio counts
	Window time.Duration // how far back Ratio looks
	Probe  time.Duration // pause before each probe while it is open
}

// DefaultRules open after five failures in a row, or when half of at least
// twenty requests within ten seconds failed, and probe every five seconds.
func DefaultRules() Rules {
	return Rules{InRow: 5, Ratio: 0.5, Least: 20, Window: 10 * time.Second, Probe: 5 * time.Second}
}

// State is what a breaker does with requests.
type State uint8

// The states of a breaker.
const (
	Closed  State = iota // requests pass
	Probing              // one request passes, its result decides
	Open                 // none passes
)

// String returns the state's name for logs and metrics.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Probing:
		return "probing"
	case Open:
		return "open"
	}
	return "unknown"
}

// A Group holds one breaker per key, such as provider, endpoint and account. It
// outlives configurations, so that a reload does not forget what is broken. It
// is safe for concurrent use.
type Group struct {
	rules    Rules
	log      *zap.Logger
	onChange func(key string, s State)

	mu       sync.Mutex
	breakers map[string]*Breaker
}

// NewGroup returns a group whose breakers follow r. A change of state is logged
// once to log and, where onChange is not nil, told to it; it must not block.
func NewGroup(r Rules, log *zap.Logger, onChange func(key string, s State)) *Group {
	return &Group{rules: r, log: log, onChange: onChange, breakers: make(map[string]*Breaker)}
}

// Breaker returns the breaker of key, a new closed one at first.
func (g *Group) Breaker(key string) *Breaker {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.breakers[key]
	if !ok {
		b = newBreaker(key, g.rules, g.changed)
		g.breakers[key] = b
	}
	return b
}

func (g *Group) changed(key string, s State) {
	switch s {
	case Open:
		g.log.Error("provider taken out of use", zap.String("provider", key))
	case Closed:
		g.log.Info("provider back in use", zap.String("provider", key))
	case Probing:
		g.log.Debug("provider is probed", zap.String("provider", key))
	}
	if g.onChange != nil {
		g.onChange(key, s)
	}
}

// A Breaker counts the outcomes of requests to one service and refuses further
// ones while it is down. It is safe for concurrent use.
type Breaker struct {
	key string
	b   *gobreaker.TwoStepCircuitBreaker[struct{}]
}

func newBreaker(key string, r Rules, changed func(string, State)) *Breaker {
	return &Breaker{key: key, b: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         key,
		MaxRequests:  1,
		Interval:     r.Window,
		BucketPeriod: r.Window / 10,
		Timeout:      r.Probe,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= r.InRow ||
				c.Requests >= r.Least && float64(c.TotalFailures) >= r.Ratio*float64(c.Requests)
		},
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) { changed(key, state(to)) },
	})}
}

func state(s gobreaker.State) State {
	switch s {
	case gobreaker.StateClosed:
		return Closed
	case gobreaker.StateHalfOpen:
		return Probing
	case gobreaker.StateOpen:
		return Open
	}
	return Open
}

// Key names the service.
func (b *Breaker) Key() string { return b.key }

// State tells what the breaker does with requests now.
func (b *Breaker) State() State { return state(b.b.State()) }

// Allow asks leave for one request. The caller must call done with its outcome,
// once; context.Canceled counts neither as success nor as failure. The error is
// ErrOpen.
func (b *Breaker) Allow() (done func(error), err error) {
	finish, err := b.b.Allow()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.key, ErrOpen)
	}
	var once sync.Once
	return func(err error) { once.Do(func() { finish(err) }) }, nil
}

// Do runs f as one request.
func (b *Breaker) Do(f func() error) (err error) {
	done, err := b.Allow()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p}
		}
		done(err)
	}()
	return f()
}

// Trip opens the breaker because of err, which asking again cannot mend: a key
// that was refused, a quota that is used up.
func (b *Breaker) Trip(err error) {
	for b.State() != Open {
		done, refused := b.Allow()
		if refused != nil {
			return
		}
		done(err)
	}
}
