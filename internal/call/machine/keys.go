package machine

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// maxKept bounds the keys that wait for a turn or a prompt to end.
const maxKept = 64

// keys is the collection of the caller's keys into entries.
type keys struct {
	conf    KeyPolicy
	entry   []byte
	kept    []byte // typed ahead
	last    byte   // the key that was pressed last
	down    bool   // and is held
	since   time.Duration
	words   *Heard // spoken ahead, where the policy sends that
	collect *collect
}

// collect is the custom action that waits for an entry of its own.
type collect struct {
	action     string
	min, max   int
	delimiters string
	timeout    time.Duration
	interdigit time.Duration // 0: only a delimiter or max ends the entry
}

// configure follows a dtmf trace. A time-out of zero leaves the end of an entry
// to the delimiter and the largest length.
func (k *keys) configure(c KeypadConf, p KeyPolicy) {
	k.conf = p
	k.conf.Disabled = !c.Enabled
	k.conf.Interdigit = c.Timeout
	k.conf.Delimiters = c.Delimiters
	if c.Max > 0 {
		k.conf.Max = c.Max
	}
}

// pressed takes a key.
func (m *Machine) pressed(ev Key) {
	m.keys.last, m.keys.down, m.keys.since = ev.Digit, ev.Down, m.now
	m.key(ev.Digit)
}

// keyUp begins the time to the next key anew.
func (m *Machine) keyUp(ev KeyUp) {
	if ev.Digit != m.keys.last {
		return
	}
	m.keys.down = false
	if m.deadlines.has(dlDigits) || m.frozen.has(dlDigits) {
		m.awaitKey()
	}
}

// awaitKey waits for the next key of an entry. The time to it runs from the
// release of the key before; should nobody tell that, the key is taken for
// released after the longest press.
func (m *Machine) awaitKey() {
	wait := m.keys.conf.Interdigit
	if c := m.keys.collect; c != nil {
		wait = c.interdigit
	}
	if wait == 0 {
		wait = max(defaultEntry, m.policy.NoReply)
	}
	if m.keys.down {
		wait += max(0, m.keys.since+longestPress-m.now)
	}
	m.arm(dlDigits, wait)
}

func (m *Machine) key(d byte) {
	if m.held || m.closing || !m.started {
		m.count(CountDroppedKey)
		return
	}
	if m.keys.collect != nil && m.waits != nil {
		m.collectKey(d)
		return
	}
	allowed := m.interrupts && m.policy.BargeIn.Keys
	early := m.keys.conf.Typeahead
	if early == Barge && !allowed {
		early = Drop
	}
	q := &m.queue
	switch {
	case m.keys.conf.Disabled:
		m.count(CountDroppedKey)
	case m.turn.running:
		m.keep(d, early)
	case m.skip(m.policy.BargeIn.Keys):
	case m.collectsNext():
		m.keep(d, early)
		if early == Barge {
			m.bargeInByKey()
		}
	case !m.listens():
		m.count(CountDroppedKey)
	case !m.turn.open && (q.playing() || q.suspect || q.pos < len(q.items)):
		if early != Barge {
			m.keep(d, early)
			return
		}
		m.bargeInByKey()
		if m.listens() {
			m.collectEntry(d)
		}
	default:
		m.collectEntry(d)
	}
}

// collectsNext reports whether a collect action waits behind the prompt: what the
// caller keys is for that.
func (m *Machine) collectsNext() bool {
	if m.turn.running || m.waits != nil || m.handover != nil {
		return false
	}
	for _, it := range m.queue.items[m.queue.pos:] {
		if it.Waits {
			return it.Name == actionCollect || it.Name == actionDTMF
		}
	}
	return false
}

// bargeInByKey stops the prompt at once.
func (m *Machine) bargeInByKey() {
	if m.queue.playing() || m.queue.suspect {
		m.count(CountBargeIn)
		m.emit(Note{Kind: NoteBargeIn})
		m.heardUntil()
	}
	m.stopPlaying()
	m.queue.suspect = false
	m.deadlines.clear(dlResume)
	m.dropSpeech()
	m.advance()
}

func (m *Machine) keep(d byte, how Typeahead) {
	if how == Drop || len(m.keys.kept) >= maxKept {
		m.count(CountDroppedKey)
		return
	}
	m.keys.kept = append(m.keys.kept, d)
}

// takeTypeahead uses what the caller typed or said while the turn ran. It
// reports whether that has already begun the next turn.
func (m *Machine) takeTypeahead() bool {
	kept, words := m.keys.kept, m.keys.words
	m.keys.words = nil
	switch {
	case m.collectsNext():
		if len(kept) > 0 && m.keys.conf.Typeahead == Barge {
			m.stopPlaying()
			m.dropSpeech()
		}
	case !m.turn.listening:
		for range kept {
			m.count(CountDroppedKey)
		}
		m.keys.kept = nil
	case len(kept) > 0 && m.keys.conf.Typeahead == Barge && !m.keys.conf.Disabled:
		m.keys.kept = nil
		seq := m.turn.seq
		m.bargeInByKey()
		for _, d := range kept {
			m.key(d)
		}
		return m.turn.seq != seq
	case words != nil:
		m.stopPlaying()
		m.dropSpeech()
		m.spoken(strings.TrimSpace(words.Text), words.Confidence)
		return true
	}
	return false
}

// collectEntry adds a key to the entry and ends it where it is complete.
func (m *Machine) collectEntry(d byte) {
	if len(m.keys.entry) == 0 {
		m.stopNoReply()
	}
	if m.ear.awaiting {
		m.again() // keys beat speech that is still being recognised
	}
	if strings.IndexByte(m.keys.conf.Delimiters, d) >= 0 {
		m.entryComplete()
		return
	}
	m.keys.entry = append(m.keys.entry, d)
	if _, ok := m.button(); ok && !m.longerButton() {
		m.entryComplete()
		return
	}
	if len(m.keys.entry) >= m.keys.conf.Max {
		m.entryComplete()
		return
	}
	m.awaitKey()
}

// button returns the button that the entry selects.
func (m *Machine) button() (int, bool) {
	if !m.keys.conf.ChoiceKeys || len(m.turn.buttons) == 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(m.keys.entry))
	if err != nil || n < 1 || n > len(m.turn.buttons) || m.keys.entry[0] == '0' {
		return 0, false
	}
	return n - 1, true
}

// longerButton reports whether one more key could still select a button.
func (m *Machine) longerButton() bool {
	n, err := strconv.Atoi(string(m.keys.entry))
	return err == nil && n*10 <= len(m.turn.buttons)
}

// entryComplete sends the entry.
func (m *Machine) entryComplete() {
	if m.keys.collect != nil {
		m.collected()
		return
	}
	m.deadlines.clear(dlDigits)
	entry := string(m.keys.entry)
	i, selects := m.button()
	m.keys.entry = m.keys.entry[:0]
	if entry == "" {
		m.resumeNoReply()
		return
	}
	if !m.listens() {
		return
	}
	m.replied()
	m.emit(Note{Kind: NoteKeys, Text: entry})
	m.vars["input_type"] = "keys"
	if selects {
		m.send(dialog.Press(m.turn.buttons[i]), false)
		return
	}
	m.send(m.entryAction(entry), false)
}

func (m *Machine) entryAction(entry string) dialog.Action {
	switch m.keys.conf.As {
	case AsDTMF:
		return dialog.Keys(entry)
	case AsEvent:
		return dialog.Outcome("DTMF "+entry, entry)
	case AsIntent:
		if name, ok := m.policy.Keypad[entry]; ok {
			return dialog.Intent(name, entry, nil, 0)
		}
	case AsText:
	}
	return dialog.Text(entry)
}

// startCollect waits for the entry that a collect action asks for.
func (m *Machine) startCollect(it Item) {
	c := &collect{
		action: it.Name, min: 1, max: m.policy.Keys.Max, delimiters: m.policy.Keys.Delimiters,
		timeout: m.policy.NoReply, interdigit: m.policy.Keys.Interdigit,
	}
	if it.Name == actionDTMF {
		c.max = 1
	}
	c.min = int(number(it.Body, "min", float64(c.min)))
	c.max = int(number(it.Body, "max", float64(c.max)))
	if s, ok := it.Body["delimiter"].(string); ok {
		c.delimiters = s
	}
	c.timeout = seconds(it.Body, "timeout", c.timeout)
	if d := seconds(it.Body, "interdigit", -1); d == 0 {
		c.interdigit = 0 // as in a dtmf trace
	} else if d > 0 {
		c.interdigit = max(d, leastInterdigit)
	}
	m.keys.collect = c
	m.keys.entry = m.keys.entry[:0]
	kept := m.keys.kept
	m.keys.kept = nil
	m.arm(dlCollect, playoutAllowance+c.timeout)
	for _, d := range kept {
		m.key(d)
	}
}

func (m *Machine) collectKey(d byte) {
	c := m.keys.collect
	m.deadlines.clear(dlCollect)
	if strings.IndexByte(c.delimiters, d) >= 0 && c.action != actionDTMF {
		if len(m.keys.entry) < c.min {
			m.arm(dlCollect, c.timeout)
			return
		}
		m.collected()
		return
	}
	m.keys.entry = append(m.keys.entry, d)
	if len(m.keys.entry) >= c.max {
		m.collected()
		return
	}
	m.awaitKey()
}

// collected answers the action with the entry.
func (m *Machine) collected() {
	c := m.keys.collect
	if len(m.keys.entry) < c.min {
		m.collectTimedOut()
		return
	}
	entry := string(m.keys.entry)
	it := m.endCollect()
	m.replied()
	m.emit(Note{Kind: NoteKeys, Text: entry})
	m.vars["collected_digits"], m.vars["input_type"] = entry, "keys"
	if c.action == actionDTMF {
		m.send(dialog.Outcome("DTMF "+entry, entry), true)
		return
	}
	m.answer(it, "entered")
}

func (m *Machine) collectTimedOut() {
	if m.keys.collect == nil {
		return
	}
	it := m.endCollect()
	m.count(CountNoReply)
	m.answer(it, "timeout", "no reply")
}

func (m *Machine) endCollect() Item {
	it := *m.waits
	m.keys.collect, m.waits = nil, nil
	m.keys.entry = m.keys.entry[:0]
	m.deadlines.clear(dlCollect, dlDigits)
	return it
}

func number(body map[string]any, key string, def float64) float64 {
	switch v := body[key].(type) {
	case float64:
		return v
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return f
		}
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return f
		}
	}
	return def
}

// seconds reads a number of seconds, bounded by an hour.
func seconds(body map[string]any, key string, def time.Duration) time.Duration {
	s := number(body, key, -1)
	if !(s >= 0 && s <= 3600) {
		return def
	}
	return time.Duration(s * float64(time.Second))
}
