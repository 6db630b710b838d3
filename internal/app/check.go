package app

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/tts"
)

// CheckAdapter decodes and validates the settings of a recogniser, a voice or the
// agent at Voiceflow without opening it. It is a configs.Check.
func CheckAdapter(kind, provider string, d registry.Decode) error {
	switch kind {
	case configs.KindTTS:
		return tts.Providers.Check(provider, d)
	case configs.KindVoiceflow:
		var c dialog.Config
		if err := d(&c); err != nil {
			return err
		}
		return c.Validate() //nolint:wrapcheck // says what to write instead
	}
	if provider == configs.None {
		return nil
	}
	return asr.Providers.Check(provider, d)
}

// UsableAdapter reports whether an adapter is compiled in and, where that shows
// without asking a service, whether it can work.
func UsableAdapter(kind, provider string) bool {
	if provider == localRecogniser && asr.PocketsphinxReady() != nil {
		return false
	}
	names := asr.Providers.Names()
	if kind == configs.KindTTS {
		names = tts.Providers.Names()
	}
	return provider == configs.None || slices.Contains(names, provider)
}

// liveLimit bounds the question to Voiceflow.
const liveLimit = 20 * time.Second

// CheckLive asks Voiceflow whether an agent can be talked to.
func CheckLive(ctx context.Context, a configs.Agent) dialog.Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, liveLimit)
	defer cancel()
	conf := dialogConfig(a.Voiceflow)
	conf.HTTP = httpClient()
	return dialog.Live(ctx, conf)
}

// Run starts the bridge and serves until ctx ends or it was drained.
func (a *App) Run(ctx context.Context, drain <-chan os.Signal) error {
	if err := a.Start(ctx); err != nil {
		_ = a.Stop(ctx)
		return err
	}
	return a.run(ctx, drain, a.Stop)
}
