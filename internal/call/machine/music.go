package machine

// music is a sound that loops: it is no prompt, but fills the silence between
// them. It begins when the turn that brought it has nothing else to say, and goes
// on while the caller answers and the agent thinks, until the first sound of a
// later turn.
type music struct {
	item    *Item  // nil: none
	cue     uint64 // on the line; 0: it is not
	started bool   // its first sample was sent
	old     bool   // of a turn before the last
}

// setMusic makes a sound the music. The same one goes on without a break.
func (m *Machine) setMusic(it Item) {
	mu := &m.music
	if mu.cue != 0 && mu.item.Src == it.Src {
		mu.old = false
		return
	}
	on := mu.cue != 0
	*mu = music{item: &it}
	if on {
		m.startMusic()
	}
}

// background lets the music fill a silence. Before the agent's answer is
// complete that is left to think: speech may follow at once.
func (m *Machine) background() {
	q := &m.queue
	if m.music.item == nil || m.held || m.closing || m.ended || m.handover != nil || q.playing() || q.suspect || q.filler != 0 ||
		m.turn.running && !m.music.old {
		return
	}
	m.startMusic()
}

func (m *Machine) startMusic() {
	mu := &m.music
	if mu.cue != 0 {
		return
	}
	mu.cue, mu.started = m.next(), false
	m.emit(Play{Cue: mu.cue, Item: *mu.item})
	if m.handover == nil {
		m.arm(dlThinking, m.policy.ThinkingAfter) // its first sample may be late
	}
}

// musicEnded goes on without music that could not be had.
func (m *Machine) musicEnded(ev PlayEnded) {
	it := *m.music.item
	m.music = music{}
	if ev.Bad {
		n := m.queue.len()
		m.badPrompt(it)
		if m.queue.len() > n && m.turn.open {
			m.stopNoReply() // it begins again behind the apology
			m.turn.open = false
		}
	}
	m.advance()
}

// interrupted gives up music that would have begun behind a prompt.
func (mu *music) interrupted() {
	if mu.cue == 0 {
		*mu = music{}
	}
}

// pass keeps music on the line while a turn runs.
func (mu *music) pass() {
	mu.interrupted()
	mu.old = mu.item != nil
}

// cover makes way for a prompt: music of a turn before is over, that of the same
// turn comes back.
func (mu *music) cover() {
	if mu.old {
		*mu = music{}
	}
	mu.cue, mu.started = 0, false
}

// stopPrompt silences the line but for music.
func (m *Machine) stopPrompt() {
	if m.queue.playing() || m.queue.filler != 0 {
		m.stopPlaying()
		return
	}
	m.deadlines.clear(dlStall, dlThinking, dlProtect)
}
