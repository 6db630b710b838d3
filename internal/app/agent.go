package app

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/fetch"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/target"
	"github.com/ivrbridge/ivrbridge/tts"
)

// An agent is everything that the calls of one configured agent share.
type agent struct {
	conf       configs.Agent
	policy     machine.Policy
	dialog     dialog.Client
	recognizer asr.Recognizer // nil: keys only
	voice      *call.Voice
	inTraces   bool
}

// openAgent connects an agent to its engines. Problems that leave it usable are
// logged.
func (app *App) openAgent(ctx context.Context, a configs.Agent, cache *tts.Cache, f *fetch.Fetcher, d registry.Deps) (*agent, error) {
	log := d.Log.With(zap.String("agent", a.Name))
	d.Log = log
	ag := &agent{conf: a}
	var err error
	if ag.dialog, err = app.openDialog(a, d); err != nil {
		return nil, fmt.Errorf("agent %s: %w", a.Name, err)
	}
	if ag.recognizer, err = app.openRecognizer(ctx, a, d); err != nil {
		return nil, fmt.Errorf("agent %s: %w", a.Name, err)
	}
	synth, err := app.openSynthesizer(ctx, a, d)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", a.Name, err)
	}
	ag.inTraces = tts.InTraces(synth)
	ag.voice = &call.Voice{Synth: synth, Cache: cache, Fetch: f}
	app.renderPrompts(app.background, a, ag.voice, log) //nolint:contextcheck // goes on beside the calls
	ag.policy = policyOf(a, ag.recognizer != nil)
	return ag, nil
}

func (app *App) openDialog(a configs.Agent, d registry.Deps) (dialog.Client, error) {
	transport := d.HTTP.Transport
	if app.opts.Runtime != nil {
		transport = app.opts.Runtime
	}
	client := &http.Client{Transport: app.paces.over(transport, a.Voiceflow)}
	conf := dialogConfig(a.Voiceflow)
	conf.Timeout, conf.HTTP, conf.Log = a.TurnTimeout+time.Second, client, d.Log
	return dialog.New(conf) //nolint:wrapcheck // says what to write instead
}

// dialogConfig is what says which agent of Voiceflow's is meant.
func dialogConfig(v configs.Voiceflow) dialog.Config {
	return dialog.Config{API: v.API, URL: v.URL, APIKey: v.APIKey, Project: v.Project, Environment: v.Environment}
}

func (app *App) openRecognizer(ctx context.Context, a configs.Agent, d registry.Deps) (asr.Recognizer, error) {
	var all []asr.Recognizer
	for _, ad := range a.ASR.All() {
		if ad.Provider == configs.None {
			continue
		}
		r, err := asr.Providers.Open(ctx, ad.Provider, ad.Decode(), d)
		if err != nil {
			return nil, fmt.Errorf("asr: %w", err)
		}
		if c, ok := r.(io.Closer); ok {
			app.later("recogniser "+ad.Provider, func(context.Context) error { return c.Close() })
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // keys only
	}
	return asr.Resilience{Guard: app.guards, Log: d.Log}.Recognizer(all[0], all[1:]...), nil
}

func (app *App) openSynthesizer(ctx context.Context, a configs.Agent, d registry.Deps) (tts.Synthesizer, error) {
	var all []tts.Synthesizer
	for _, ad := range a.TTS.All() {
		s, err := tts.Providers.Open(ctx, ad.Provider, ad.Decode(), d)
		if err != nil {
			return nil, fmt.Errorf("tts: %w", err)
		}
		all = append(all, s)
	}
	return tts.Resilience{Guard: app.guards, Log: d.Log}.Synthesizer(all[0], all[1:]...), nil
}

// targets is the policy of hand-overs for a call that came in on trunk t.
func (app *App) targets(a *agent, t configs.Trunk, local netip.Addr, host string) target.Policy {
	own := app.own
	p := target.Policy{
		Directory: map[string][]string{}, Allow: a.conf.Dial.Allow, Countries: a.conf.Dial.Countries, Region: t.Region,
		Numbers: own.numbers, Addresses: own.addresses, Host: host, Timeout: a.conf.Dial.Timeout,
	}
	for name, list := range a.conf.Dial.Directory {
		p.Directory[name] = list
	}
	if app.opts.Directory != nil {
		maps.Copy(p.Directory, app.opts.Directory(local))
	}
	return p
}

// ownNames are the numbers and addresses that lead back to us.
type ownNames struct{ numbers, addresses []string }
