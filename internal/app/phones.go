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
	live       map[string]admin.PhoneSession // by key: a *phone, and for a while after its end an ended
	unfinished map[netip.Addr]int
	waiting    int  // of all sources
	closed     bool // the bridge is shut down
}

func newPhones(a *App, api *rtc.API) *phones {
	return &phones{app: a, api: api, live: map[string]admin.PhoneSession{}, unfinished: map[netip.Addr]int{}}
}

// A phone is one call of a browser.
type phone struct {
	origin string
	agent  configs.Agent
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
	if err := p.app.readyForBrowsers(); err != nil {
		return admin.Answer{}, notNow(err)
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
	ph := &phone{origin: o.Origin, agent: ag.conf, feed: admin.NewFeed()}
	watch := newStory(ph.feed)
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
	lc := p.app.lineConfig(ag, out, log)
	lc.Afar = !o.Source.Unmap().IsLoopback()
	ph.line, err = line.NewBrowser(p.api, lc, ph.call, p.app.dialer(ag, log)) //nolint:contextcheck // the line outlives the request
	if err != nil {
		release()
		log.Warn("browser's call refused", zap.Error(err))
		if errors.Is(err, media.ErrNoPorts) {
			return admin.Answer{}, notNow(errFull)
		}
		return admin.Answer{}, err
	}
	if err := p.enter(ph, in, ag, began); err != nil {
		release()
		ph.line.Leave(call.ClassServerError, "the bridge takes no further calls")
		return admin.Answer{}, err
	}
	answer, err := ph.line.Negotiate(ctx, o.SDP)
	if err != nil {
		p.app.calls.remove(in.ID)
		release()
		ph.line.Leave(call.ClassClientError, "the browser's offer could not be answered")
		log.Info("browser's offer refused", zap.Error(err))
		return admin.Answer{}, refusedOffer(err)
	}
	key := randomID()
	p.mu.Lock()
	p.live[key] = ph
	closed := p.closed
	p.mu.Unlock()
	if closed {
		ph.shutDown()
	}
	log.Info("call began", zap.String("agent", ag.conf.Name), zap.String("trunk", browserTrunk), zap.String("source", in.Source))
	p.app.work.Go(func() { p.run(ph, key, log, watch, release) }) //nolint:contextcheck // the call outlives the request
	return admin.Answer{ID: in.ID, Session: key, SDP: answer, Agent: ag.conf.Name, Language: in.Language}, nil
}

// enter counts a call among those that are up. Many may ask at once, and the
// bridge may have begun to drain meanwhile.
func (p *phones) enter(ph *phone, in call.Info, ag *agent, began time.Time) error {
	l := &liveCall{info: in, agent: ag.conf.Name, began: began, call: ph.call, end: ph.end, bridged: ph.line.HandedOver}
	if !p.app.calls.add(l, ag.conf.Limits.Calls, p.app.conf.SIP.MaxCalls) {
		return agentBusy()
	}
	if err := p.app.readyForBrowsers(); errors.Is(err, errDraining) {
		p.app.calls.remove(in.ID)
		return notNow(err)
	}
	return nil
}

// notNow is the refusal of a bridge that takes no calls.
func notNow(why error) *admin.PhoneError {
	return &admin.PhoneError{Status: 503, Code: why.Error(), Reason: "the bridge takes no calls now: " + why.Error(), Retry: 5 * time.Second}
}

func agentBusy() *admin.PhoneError {
	return &admin.PhoneError{Status: 503, Code: "full", Reason: "the agent is busy, try again soon", Retry: 10 * time.Second}
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
		return nil, agentBusy()
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
	watch.begin()
	over := ph.line.Context()
	p.app.work.Go(func() {
		ph.figures(over, watch, release)
	})
	res := ph.call.Run(p.app.background, ph.line)
	handedOver := ph.line.HandedOver()
	if longest := ph.agent.Limits.Duration; handedOver && longest > 0 {
		late := time.AfterFunc(time.Until(res.Began.Add(longest)), func() {
			ph.line.Leave(call.ClassTransferred, "the call reached its longest duration")
		})
		defer late.Stop()
	}
	ph.line.Wait()
	if handedOver {
		// The conversation was over then, and the call is now.
		res.Ended, res.Media = time.Now(), ph.line.Stats()
	}
	p.app.written(log, res)
	watch.state("ended", string(res.Class), res.Why)
	ph.feed.Close()
	// What the call took is given back at once, its events a while later.
	p.mu.Lock()
	p.live[key] = ended{origin: ph.origin, feed: ph.feed}
	p.mu.Unlock()
	time.AfterFunc(told, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.live, key)
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

// shutDown ends the call with the bridge.
func (ph *phone) shutDown() { ph.line.Leave(call.ClassServerError, "the bridge was shut down") }

// close ends all calls. Their pages are told why.
func (p *phones) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.Collect(maps.Values(p.live))
	p.mu.Unlock()
	for _, s := range all {
		if ph, ok := s.(*phone); ok {
			ph.shutDown()
		}
	}
}
