package media

import "sync/atomic"

// A command is something that another goroutine wants of a leg.
type command struct {
	next *command
	run  func(l *Leg)
}

// A mailbox takes commands from any goroutine for the one that serves the leg.
// It is a stack without a lock: whoever posts may be descheduled at any point
// and does not hold up the wheel.
type mailbox struct{ top atomic.Pointer[command] }

// shut is on top of a mailbox that takes no more commands.
var shut = new(command)

// post adds a command. It reports false after close.
func (m *mailbox) post(run func(l *Leg)) bool {
	c := &command{run: run}
	for {
		top := m.top.Load()
		if top == shut {
			return false
		}
		c.next = top
		if m.top.CompareAndSwap(top, c) {
			return true
		}
	}
}

// take removes all commands and returns them linked in the order of posting.
func (m *mailbox) take() *command {
	if m.top.Load() == nil {
		return nil
	}
	return inOrder(m.top.Swap(nil))
}

// close returns the commands that nobody has taken, and lets no more in.
func (m *mailbox) close() *command {
	top := m.top.Swap(shut)
	if top == shut {
		return nil
	}
	return inOrder(top)
}

func inOrder(top *command) *command {
	var first *command
	for top != nil {
		next := top.next
		top.next = first
		first, top = top, next
	}
	return first
}
