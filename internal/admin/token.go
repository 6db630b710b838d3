package admin

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

const (
	tokenLife = 60 * time.Second
	maxTokens = 10_000
)

// tokens are one-time permissions to call. Its methods may be called from any
// goroutine.
type tokens struct {
	mu     sync.Mutex
	byHash map[[sha256.Size]byte]*list.Element
	order  *list.List                // of *token, the oldest first
	agents map[string]map[string]int // live tokens of an origin for an agent
}

type token struct {
	hash          [sha256.Size]byte
	agent, origin string
	ends          time.Time
}

func newTokens() *tokens {
	return &tokens{byHash: map[[sha256.Size]byte]*list.Element{}, order: list.New(), agents: map[string]map[string]int{}}
}

// mint returns a new token and when it ends. The oldest one makes room.
func (t *tokens) mint(agent, origin string) (string, time.Time) {
	value := key()
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.expire(now)
	if t.order.Len() >= maxTokens {
		t.drop(t.order.Front())
	}
	n := &token{hash: sha256.Sum256([]byte(value)), agent: agent, origin: origin, ends: now.Add(tokenLife)}
	t.byHash[n.hash] = t.order.PushBack(n)
	if t.agents[origin] == nil {
		t.agents[origin] = map[string]int{}
	}
	t.agents[origin][agent]++
	return value, n.ends
}

// redeem spends a token and returns the agent that it is for. A token that is
// shown for another agent or by another site is not spent.
func (t *tokens) redeem(value, agent, origin string) (string, *PhoneError) {
	hash := sha256.Sum256([]byte(value))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(time.Now())
	e, ok := t.byHash[hash]
	if !ok {
		return "", &PhoneError{Status: http.StatusUnauthorized, Code: CodeToken, Reason: "the token was used already or is older than a minute: ask for a new one"}
	}
	switch n := e.Value.(*token); { //nolint:forcetypeassert // nothing else is in it
	case n.origin != origin:
		return "", &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "the token belongs to another site: ask for one of this site"}
	case agent != "" && n.agent != agent:
		return "", &PhoneError{Status: http.StatusForbidden, Code: CodeToken, Reason: "the token is for another agent: ask for one of this agent"}
	default:
		t.drop(e)
		return n.agent, nil
	}
}

// of returns the agents that live tokens of an origin are for.
func (t *tokens) of(origin string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(time.Now())
	var out []string
	for agent := range t.agents[origin] {
		out = append(out, agent)
	}
	return out
}

// expire removes what has ended. The lock is held.
func (t *tokens) expire(now time.Time) {
	for e := t.order.Front(); e != nil && !now.Before(e.Value.(*token).ends); e = t.order.Front() { //nolint:forcetypeassert // nothing else is in it
		t.drop(e)
	}
}

func (t *tokens) drop(e *list.Element) {
	n := t.order.Remove(e).(*token) //nolint:forcetypeassert // nothing else is in it
	delete(t.byHash, n.hash)
	if t.agents[n.origin][n.agent]--; t.agents[n.origin][n.agent] == 0 {
		delete(t.agents[n.origin], n.agent)
	}
	if len(t.agents[n.origin]) == 0 {
		delete(t.agents, n.origin)
	}
}

// key returns 256 random bits as letters of base64url.
func key() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, as its documentation says
	return base64.RawURLEncoding.EncodeToString(b)
}
