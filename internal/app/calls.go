package app

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/admin"
	"github.com/ivrbridge/ivrbridge/internal/call"
)

// calls are those that are up. It is safe for concurrent use.
type calls struct {
	mu   sync.Mutex
	live map[string]*liveCall
}

// A liveCall is one call that is up.
type liveCall struct {
	info  call.Info
	agent string
	began time.Time
	call  *call.Call
	end   func(why string) // on an operator's wish
	// bridged reports whether the caller talks to somebody else through us; nil: never.
	bridged func() bool
}

// add takes a call unless there are as many already as there may be, of its agent
// or of all; 0: any number. Calls that begin at once are counted one by one.
func (c *calls) add(l *liveCall, ofAgent, ofAll int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ofAgent > 0 && c.count(l.agent) >= ofAgent || ofAll > 0 && len(c.live) >= ofAll {
		return false
	}
	if c.live == nil {
		c.live = map[string]*liveCall{}
	}
	c.live[l.info.ID] = l
	return true
}

func (c *calls) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, id)
}

func (c *calls) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.live)
}

// of counts the calls of an agent.
func (c *calls) of(agent string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count(agent)
}

// count is of with mu held.
func (c *calls) count(agent string) int {
	n := 0
	for _, l := range c.live {
		if l.agent == agent {
			n++
		}
	}
	return n
}

// Calls implements admin.Calls.
func (c *calls) Calls() []admin.Call {
	c.mu.Lock()
	out := make([]admin.Call, 0, len(c.live))
	for _, l := range c.live {
		out = append(out, l.shown())
	}
	c.mu.Unlock()
	slices.SortFunc(out, func(a, b admin.Call) int { return a.Began.Compare(b.Began) })
	return out
}

// Call implements admin.Calls.
func (c *calls) Call(_ context.Context, id string) (admin.Detail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.live[id]
	if !ok {
		return admin.Detail{}, admin.ErrNoCall
	}
	return admin.Detail{Call: l.shown(), Live: true}, nil
}

// Hangup implements admin.Calls.
func (c *calls) Hangup(_ context.Context, id, why string) error {
	c.mu.Lock()
	l, ok := c.live[id]
	c.mu.Unlock()
	if !ok {
		return admin.ErrNoCall
	}
	if why == "" {
		why = "an operator ended the call"
	}
	l.end(why)
	return nil
}

func (l *liveCall) shown() admin.Call {
	turns, held := l.call.Progress()
	return admin.Call{
		ID: l.info.ID, Agent: l.agent, Trunk: l.info.Trunk, Direction: l.info.Direction, From: l.info.Caller, To: l.info.Called,
		State: "up", Began: l.began, Turns: turns, OnHold: held, Bridged: l.bridged != nil && l.bridged(),
	}
}
