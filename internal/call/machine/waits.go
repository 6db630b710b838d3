package machine

import (
	"slices"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// Waits is what the conversation waits for from its caller, for live views.
type Waits struct {
	Listening    bool          // what the caller does is taken
	Open         bool          // everything was heard: it is the caller's turn
	NoReply      time.Duration // when silence becomes an event, since the call began; 0: the timer does not run
	Buttons      []dialog.Button
	MaxKeys      int    // of an entry; 0: keys are not taken
	Delimiters   string // any of these ends an entry
	Held         bool
	Transferring bool
	Action       string // the waiting custom action under way, hand-overs included
	Over         bool   // the call is being ended
}

// Waits returns what the machine waits for now.
func (m *Machine) Waits() Waits {
	w := Waits{Listening: m.listens(), Held: m.held, Transferring: m.handover != nil, Over: m.closing}
	if m.waits != nil {
		w.Action = m.waits.Name
	}
	if m.handover != nil {
		w.Action = m.handover.item.Name
	}
	if w.Listening {
		w.Open, w.Buttons = m.turn.open, m.turn.buttons
		if m.deadlines.has(dlNoReply) {
			w.NoReply = m.deadlines.at[dlNoReply]
		}
	}
	if !m.keys.conf.Disabled && (w.Listening || w.Action != "" && m.handover == nil) {
		w.MaxKeys, w.Delimiters = m.keys.conf.Max, m.keys.conf.Delimiters
	}
	return w
}

// Same reports whether two states are alike for somebody who looks on.
func (w Waits) Same(o Waits) bool {
	alike := slices.EqualFunc(w.Buttons, o.Buttons, func(a, b dialog.Button) bool { return a.Name == b.Name })
	return alike && w.Listening == o.Listening && w.Open == o.Open && w.NoReply == o.NoReply && w.MaxKeys == o.MaxKeys &&
		w.Delimiters == o.Delimiters && w.Held == o.Held && w.Transferring == o.Transferring && w.Action == o.Action && w.Over == o.Over
}
