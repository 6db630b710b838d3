package tts

import (
	"context"
	"errors"
	"fmt"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

func init() {
	registry.Add(&Providers, "voiceflow", func() VoiceflowConfig {
		return VoiceflowConfig{Local: "flite"}
	}, openVoiceflow)
}

// VoiceflowConfig configures the voice that Voiceflow renders itself and sends
// with its traces. The bridge's own sentences are spoken by a local engine.
type VoiceflowConfig struct {
	Local string `yaml:"local"` // engine for the bridge's own sentences: flite or espeak
	Voice string `yaml:"voice"` // its voice; empty for its own
}

// Validate implements registry.Validator.
func (c *VoiceflowConfig) Validate() error {
	switch c.Local {
	case "flite", "espeak":
		return nil
	}
	return fmt.Errorf("local: %q is no local engine, write flite or espeak", c.Local)
}

// InTraces tells whether the agent's speech comes as sound with the traces, so
// that s speaks only the bridge's own sentences.
func InTraces(s Synthesizer) bool {
	t, ok := s.(interface{ InTraces() bool })
	return ok && t.InTraces()
}

type voiceflow struct{ Synthesizer }

func (voiceflow) InTraces() bool { return true }

// openVoiceflow takes the configured local engine, or the other one where that
// is not installed.
func openVoiceflow(ctx context.Context, c VoiceflowConfig, d registry.Deps) (Synthesizer, error) {
	var errs []error
	other := map[string]string{"flite": "espeak", "espeak": "flite"}[c.Local]
	for _, name := range []string{c.Local, other} {
		s, err := Providers.Open(ctx, name, func(into any) error {
			if name != c.Local || c.Voice == "" {
				return nil
			}
			local, ok := into.(*CommandConfig)
			if !ok {
				return fmt.Errorf("local: %s takes no voice", name)
			}
			local.Voice = c.Voice
			return nil
		}, d)
		if err == nil {
			return voiceflow{s}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("open local voice: %w", errors.Join(errs...))
}
