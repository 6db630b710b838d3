package app

import (
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/ivrbridge/ivrbridge/configs"
)

// paces hold one budget of requests per API key: all calls of all agents with
// the key share it, as they share Voiceflow's.
type paces struct {
	mu  sync.Mutex
	all map[string]*rate.Limiter
}

// over returns a transport that keeps to an agent's rate. A request waits for its
// turn as long as its context allows.
func (p *paces) over(next http.RoundTripper, v configs.Voiceflow) http.RoundTripper {
	if !v.Rate.Limited() {
		return next
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := v.URL + "\x00" + v.APIKey.Reveal()
	if p.all == nil {
		p.all = map[string]*rate.Limiter{}
	}
	l, ok := p.all[key]
	if !ok {
		l = rate.NewLimiter(rate.Limit(v.Rate.PerSecond()), max(1, v.Rate.Count/10))
		p.all[key] = l
	}
	return paced{next, l}
}

type paced struct {
	next  http.RoundTripper
	limit *rate.Limiter
}

// RoundTrip implements http.RoundTripper.
func (p paced) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := p.limit.Wait(r.Context()); err != nil {
		return nil, err
	}
	return p.next.RoundTrip(r)
}
