package media

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// A shard is one goroutine and the legs that it serves. Its wheel turns in
// 20 ms and has slots of 5 ms; a leg is visited in its slot, to send and to
// receive, and again half a turn later, to receive what has come meanwhile.
type shard struct {
	engine *Engine
	quit   atomic.Bool
	bell   chan struct{}           // rung when an idle shard has work
	door   atomic.Pointer[arrival] // legs that are coming, latest first
	load   [slots]atomic.Int32     // legs by slot, those on their way included

	// Owned by run.
	slots [slots][]*Leg
	count int
	index int64 // of the slot that is being served, since the epoch
	tally tally
	buf   [2048]byte // receives packets: longer than any that are for us
}

// An arrival is a leg on its way into a shard.
type arrival struct {
	next *arrival
	leg  *Leg
}

func newShard(e *Engine) *shard {
	return &shard{engine: e, bell: make(chan struct{}, 1)}
}

// ring wakes the shard where it waits for its first leg.
func (s *shard) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// admit hands a leg to the shard, from any goroutine.
func (s *shard) admit(l *Leg) {
	n := &arrival{leg: l}
	for {
		top := s.door.Load()
		n.next = top
		if s.door.CompareAndSwap(top, n) {
			break
		}
	}
	s.ring()
}

// run turns the wheel against absolute deadlines until the engine ends.
func (s *shard) run() {
	for !s.quit.Load() {
		if s.count == 0 && s.door.Load() == nil {
			s.tally.flush(s.engine.meter)
			<-s.bell
			continue
		}
		now := s.engine.now()
		next := s.index + 1
		if behind := int64((now - maxLag) / slotStep); next < behind {
			// The machine slept: catching up would send a burst. Legs count what
			// they skip as time that passed.
			next = behind
		}
		if s.count == 0 {
			next = max(next, int64((now+slotStep-1)/slotStep))
		}
		s.index = next
		if wait := time.Duration(next)*slotStep - now; wait > 0 {
			time.Sleep(wait)
		}
		s.serve()
	}
}

// endAll ends the legs of a shard that does not run any more.
func (s *shard) endAll() {
	s.takeIn()
	for i := range s.slots {
		for _, l := range s.slots[i] {
			s.end(l, nil)
		}
		s.slots[i] = nil
	}
	s.tally.flush(s.engine.meter)
}

// serve visits the legs of the slot and those of the slot half a turn away.
func (s *shard) serve() {
	if s.door.Load() != nil {
		s.takeIn()
	}
	due := time.Duration(s.index) * slotStep
	s.visitAll(int(s.index%slots), due, true)
	s.visitAll(int((s.index+slots/2)%slots), due, false)
	if s.index%slots == 0 {
		s.tally.flush(s.engine.meter)
	}
}

func (s *shard) visitAll(slot int, due time.Duration, full bool) {
	for i := 0; i < len(s.slots[slot]); {
		l := s.slots[slot][i]
		s.visit(l, due, full)
		if l.state == running {
			i++
			continue
		}
		s.remove(slot, i)
		if l.state == moving {
			home := l.target
			l.home.Store(home) // from here on the other wheel may look at it
			home.shard.load[home.slot].Add(1)
			home.shard.admit(l)
		}
	}
}

// visit serves one leg. A fault ends that leg, never the wheel.
func (s *shard) visit(l *Leg, due time.Duration, full bool) {
	defer func() {
		if fault := recover(); fault != nil {
			s.tally.panics++
			l.log.Error("leg ended by a fault", zap.Any("fault", fault), zap.ByteString("stack", debug.Stack()))
			s.end(l, fmt.Errorf("media: fault on the wheel: %v", fault))
		}
	}()
	l.visit(due, time.Now(), full)
	if l.state == closing {
		s.end(l, nil)
	}
}

// end takes a leg down; what it posts may be at fault itself.
func (s *shard) end(l *Leg, cause error) {
	if l.state == gone {
		return
	}
	l.state = gone
	defer func() {
		if fault := recover(); fault != nil {
			s.tally.panics++
			l.log.Error("fault at the end of a leg", zap.Any("fault", fault))
		}
		s.engine.ends.Go(l.release) // ranges of ports take a lock
	}()
	l.finish(cause)
}

// remove takes leg i out of a slot.
func (s *shard) remove(slot, i int) {
	legs := s.slots[slot]
	last := len(legs) - 1
	legs[i] = legs[last]
	legs[last] = nil
	s.slots[slot] = legs[:last]
	s.load[slot].Add(-1)
	s.count--
}

// takeIn lets in the legs at the door.
func (s *shard) takeIn() {
	var first *arrival
	for a := s.door.Swap(nil); a != nil; {
		next := a.next
		a.next = first
		first, a = a, next
	}
	for a := first; a != nil; a = a.next {
		l := a.leg
		l.shard = s
		slot := l.home.Load().slot
		s.slots[slot] = append(s.slots[slot], l)
		s.count++
		if l.state == moving {
			l.state = running
			l.arrived()
		}
	}
}
