package localflow

import (
	"container/list"
	"sync"
	"time"
)

// sessions keeps the conversations, bounded in number and age.
type sessions struct {
	mu    sync.Mutex
	limit int
	age   time.Duration
	users map[string]*list.Element
	order *list.List // of *session, the one used last in front
}

type session struct {
	user  string
	state *state // nil before the first turn was saved
	key   string // of v4, "" without
	turns int
	used  time.Time
}

func newSessions(limit int, age time.Duration) *sessions {
	return &sessions{limit: limit, age: age, users: make(map[string]*list.Element), order: list.New()}
}

// touch returns the session of user and drops what is too old or too much. The
// caller holds mu.
func (s *sessions) touch(user string, now time.Time) *session {
	for back := s.order.Back(); back != nil; back = s.order.Back() {
		old, _ := back.Value.(*session)
		if now.Sub(old.used) < s.age {
			break
		}
		s.drop(back)
	}
	if e, ok := s.users[user]; ok {
		s.order.MoveToFront(e)
		known, _ := e.Value.(*session)
		known.used = now
		return known
	}
	if len(s.users) >= s.limit {
		s.drop(s.order.Back())
	}
	fresh := &session{user: user, used: now}
	s.users[user] = s.order.PushFront(fresh)
	return fresh
}

func (s *sessions) drop(e *list.Element) {
	old, _ := s.order.Remove(e).(*session)
	delete(s.users, old.user)
}

// turn counts a turn of user and returns a copy of the state that it begins with.
func (s *sessions) turn(user string, now time.Time) (*state, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.touch(user, now)
	known.turns++
	if known.state == nil {
		return &state{Stack: []frame{}, Variables: map[string]any{"sessions": 1.0}}, known.turns
	}
	return known.state.copy(), known.turns
}

// begin gives user's session a key, in place of any other.
func (s *sessions) begin(user, key string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch(user, now).key = key
}

// has reports whether key is that of user's session.
func (s *sessions) has(user, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.users[user]
	if !ok || key == "" {
		return false
	}
	known, _ := e.Value.(*session)
	return known.key == key
}

// load returns a copy of user's state, nil when there is none.
func (s *sessions) load(user string, now time.Time) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user] == nil {
		return nil
	}
	known := s.touch(user, now)
	if known.state == nil {
		return nil
	}
	return known.state.copy()
}

// save replaces user's state by a copy of st.
func (s *sessions) save(user string, st *state, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch(user, now).state = st.copy()
}

func (s *sessions) remove(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.users[user]; ok {
		s.drop(e)
	}
}
