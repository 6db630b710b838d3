package app

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/admin"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/rtc"
)

const (
	// browserTrunk is what calls of browsers have in place of a trunk's name.
	browserTrunk = "browser"
	// unfinishedPerSource is how many calls of one address may wait for their
	// media.
	unfinishedPerSource = 20
	// told is how long a page may still read how its call ended.
	told = time.Minute
	// shownStats is how often a page is told the figures of its media.
	shownStats = 2 * time.Second
	// mostVariables bounds what a page may give to the flow.
	mostVariables = 64
)

// phones are the calls of browsers. It implements admin.Phone and is safe for
// concurrent use.
type phones struct {
	app *App
	api *rtc.API

	mu         sync.Mutex
	live       map[string]*phone // by key, for a while after the end, too
	unfinished map[netip.Addr]int
	waiting    int // of all sources
}

func newPhones(a *App, api *rtc.API) *phones {
	return &phones{app: a, api: api, live: map[string]*phone{}, unfinished: map[netip.Addr]int{}}
}

// A phone is one call of a browser.
type phone struct {
	origin string
	feed   *admin.Feed
	line   *line.Browser
	call   *call.Call
}

// Setup implements admin.Phone.
func (p *phones) Setup(names []string) admin.PhoneSetup {
	s := admin.PhoneSetup{Agents: []admin.PhoneAgent{}}
	for _, a := range p.app.conf.Agents {
		if names == nil || slices.Contains(names, a.Name) {
			s.Agents = append(s.Agents, admin.PhoneAgent{Name: a.Name, Language: a.Language, Languages: languages(a)})
		}
	}
	for _, i := range p.app.conf.RTC.ICEServers {
		s.ICEServers = append(s.ICEServers, admin.PhoneICE{URLs: i.URLs, Username: i.Username, Credential: i.Credential.Reveal()})
	}
	return s
}

// languages are those that a page may choose from, the agent's own first.
func languages(a configs.Agent) []string {
	all := []string{a.Language}
	for _, l := range a.Web.Languages {
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// Session implements admin.Phone.
func (p *phones) Session(key string) (admin.PhoneSession, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ph, ok := p.live[key]
	return ph, ok
}

// Call implements admin.Phone: it answers a page's offer and begins the
// conversation, which waits for the media.
func (p *phones) Call(ctx context.Context, o admin.Offer) (admin.Answer, error) {
	began := time.Now()
	if err := p.app.ready(); err != nil {
		return admin.Answer{}, &admin.PhoneError{Status: 503, Code: err.Error(), Reason: "the bridge takes no calls now: " + err.Error(), Retry: 5 * time.Second}
	}
	ag, err := p.agent(o.Agent)
	if err != nil {
		return admin.Answer{}, err
	}
	if o.Language != "" && !slices.Contains(languages(ag.conf), o.Language) {
		return admin.Answer{}, &admin.PhoneError{Status: 400, Code: "bad_offer", Reason: "the agent does not speak " + strconv.Quote(o.Language)}
	}
	release, err := p.admit(o.Source)
	if err != nil {
		return admin.Answer{}, err
	}
	in := call.Info{
		ID: record.NewID(began), Trunk: browserTrunk, Direction: "inbound", Anonymous: true, Called: ag.conf.Name,
		Source: o.Source.String(), Headers: map[string]string{}, Language: cmp.Or(o.Language, ag.conf.Language),
	}
	log := p.app.log.With(zap.String("call", in.ID))
	ph := &phone{origin: o.Origin, feed: admin.NewFeed()}
	watch := newStory(ph.feed, began)
	vars := variables(ag.conf, in, began)
	mine := maps.Clone(o.Variables)
	maps.DeleteFunc(mine, func(name string, _ any) bool { _, taken := vars[name]; return taken })
	if len(mine) > mostVariables {
		release()
		return admin.Answer{}, &admin.PhoneError{Status: 400, Code: "bad_offer", Reason: "too many variables"}
	}
	maps.Copy(vars, mine)
	conf := p.app.callConfig(ag, in, log)
	conf.Session, conf.Variables, conf.OnStep = randomID(), vars, watch.step
	out := p.app.outbound()
	conf.Targets = p.app.targets(ag, out, p.app.reachedAt(out), outboundHost(out))
	ph.call = call.New(conf)
	ph.line, err = line.NewBrowser(p.api, p.app.lineConfig(ag, out, log), ph.call, p.app.dialer(ag, log)) //nolint:contextcheck // the line outlives the request
	if err != nil {
		release()
		log.Warn("browser's call refused", zap.Error(err))
		if errors.Is(err, media.ErrNoPorts) {
			return admin.Answer{}, &admin.PhoneError{Status: 503, Code: "full", Reason: "the bridge takes no calls now: full", Retry: 5 * time.Second}
		}
		return admin.Answer{}, err
	}
	answer, err := ph.line.Negotiate(ctx, o.SDP)
	if err != nil {
		release()
		ph.line.Leave(call.ClassClientError, "the browser's offer could not be answered")
		log.Info("browser's offer refused", zap.Error(err))
		return admin.Answer{}, refusedOffer(err)
	}
	key := randomID()
	p.mu.Lock()
	p.live[key] = ph
	p.mu.Unlock()
	watch.state("connecting", "", "")
	p.app.calls.add(&liveCall{info: in, agent: ag.conf.Name, began: began, call: ph.call, end: ph.end})
	log.Info("call began", zap.String("agent", ag.conf.Name), zap.String("trunk", browserTrunk), zap.String("source", in.Source))
	p.app.work.Go(func() { p.run(ph, key, log, watch, release) }) //nolint:contextcheck // the call outlives the request
	return admin.Answer{ID: in.ID, Session: key, SDP: answer, Agent: ag.conf.Name, Language: in.Language}, nil
}

// refusedOffer says what is wrong with an offer.
func refusedOffer(err error) error {
	if e, ok := errors.AsType[*rtc.Error](err); ok {
		return &admin.PhoneError{Status: 400, Code: "bad_offer", Reason: "the offer cannot be answered: " + e.Error()}
	}
	return err
}

// agent finds the agent that a page names, or the one of the route for browsers.
func (p *phones) agent(name string) (*agent, error) {
	if name == "" {
		route, _, _ := p.app.conf.Route(browserTrunk, "", "")
		name = route.Agent
	}
	ag := p.app.agents[name]
	if ag == nil {
		return nil, &admin.PhoneError{Status: 404, Code: "no_agent", Reason: "there is no such agent"}
	}
	if limit := ag.conf.Limits.Calls; limit > 0 && p.app.calls.of(name) >= limit {
		return nil, &admin.PhoneError{Status: 503, Code: "full", Reason: "the agent is busy, try again soon", Retry: 10 * time.Second}
	}
	return ag, nil
}

// admit counts a call whose media does not run yet.
func (p *phones) admit(source netip.Addr) (release func(), err error) {
	source = network(source)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting >= p.app.conf.RTC.MaxUnfinished || p.unfinished[source] >= unfinishedPerSource {
		return nil, &admin.PhoneError{Status: 429, Code: "limit", Reason: "too many calls are being set up, try again soon", Retry: 10 * time.Second}
	}
	p.waiting++
	p.unfinished[source]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting--
		if p.unfinished[source]--; p.unfinished[source] == 0 {
			delete(p.unfinished, source)
		}
	}), nil
}

// network is what counts as one source: an address, or an IPv6 network of a
// customer.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// run holds the conversation to its end.
func (p *phones) run(ph *phone, key string, log *zap.Logger, watch *storyline, release func()) {
	id := ph.call.ID()
	defer p.app.calls.remove(id)
	defer release()
	over := ph.line.Context()
	p.app.work.Go(func() {
		ph.figures(over, watch, release)
	})
	res := ph.call.Run(p.app.background, ph.line)
	ph.line.Wait()
	p.app.written(log, res)
	watch.state("ended", string(res.Class), res.Why)
	ph.feed.Close()
	p.app.work.Go(func() {
		select {
		case <-time.After(told):
		case <-p.app.background.Done():
		}
		p.mu.Lock()
		delete(p.live, key)
		p.mu.Unlock()
	})
}

// figures tells the page how its media does, as long as the line is up.
func (ph *phone) figures(over context.Context, watch *storyline, connected func()) {
	if ph.line.Answer(over) != nil {
		return
	}
	connected()
	tick := time.NewTicker(shownStats)
	defer tick.Stop()
	for {
		select {
		case <-over.Done():
			return
		case <-tick.C:
			watch.figures(ph.line.Stats())
		}
	}
}

// end ends the call on an operator's wish: politely, or where the caller talks
// to somebody else already, at once.
func (ph *phone) end(why string) {
	ph.call.Drain(why)
	if ph.line.HandedOver() {
		ph.line.Leave(call.ClassCompleted, why)
	}
}

// Origin implements admin.PhoneSession.
func (ph *phone) Origin() string { return ph.origin }

// Feed implements admin.PhoneSession.
func (ph *phone) Feed() *admin.Feed { return ph.feed }

// Reoffer implements admin.PhoneSession.
func (ph *phone) Reoffer(ctx context.Context, sdp string) (string, error) {
	answer, err := ph.line.Negotiate(ctx, sdp)
	if err != nil {
		return "", refusedOffer(err)
	}
	return answer, nil
}

// Candidates implements admin.PhoneSession.
func (ph *phone) Candidates(_ context.Context, all []admin.Candidate) error {
	for _, c := range all {
		if err := ph.line.Candidate(rtc.Candidate{Candidate: c.Candidate, SDPMid: c.SDPMid, SDPMLineIndex: c.SDPMLineIndex}); err != nil { //nolint:contextcheck // the line outlives the request
			return &admin.PhoneError{Status: 400, Code: "bad_offer", Reason: "the candidate cannot be used"}
		}
	}
	return nil
}

// Keys implements admin.PhoneSession.
func (ph *phone) Keys(keys string) error {
	for i := range len(keys) {
		ph.line.Digit(keys[i])
	}
	return nil
}

// Type implements admin.PhoneSession.
func (ph *phone) Type(text string) error {
	ph.call.Type(text)
	return nil
}

// Hangup implements admin.PhoneSession.
func (ph *phone) Hangup(why string) {
	ph.line.Leave(call.ClassCallerHangup, cmp.Or(why, "the caller hung up"))
}
