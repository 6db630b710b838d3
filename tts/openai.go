package tts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func init() {
	registry.Add(&Providers, "openai", func() OpenAIConfig {
		return OpenAIConfig{
			URL: "https://api.openai.com/v1", Model: "gpt-4o-mini-tts", Voice: "alloy", Format: "pcm", SampleRate: 24000,
		}
	}, openOpenAI)
}

// OpenAIConfig configures OpenAI's speech, or any server with the same
// interface, such as Kokoro-FastAPI or speaches.
type OpenAIConfig struct {
	URL          string            `yaml:"url"`          // up to and with /v1
	APIKey       secret.Secret     `yaml:"api_key"`      // env:NAME or file:PATH; own servers may need none
	Model        string            `yaml:"model"`        // as the server names it
	Voice        string            `yaml:"voice"`        // as the server names it
	Voices       map[string]string `yaml:"voices"`       // voice per language, such as {de-DE: df_eva}
	Format       string            `yaml:"format"`       // pcm or wav; what is sent is recognised by itself
	SampleRate   int               `yaml:"sample_rate"`  // of pcm, in hertz
	Speed        float64           `yaml:"speed"`        // 0.25 to 4; 0 for the server's own
	Instructions string            `yaml:"instructions"` // how to speak, where the model listens to that
}

// Validate implements registry.Validator.
func (c *OpenAIConfig) Validate() error {
	errs := []error{checkURL(c.URL), checkKey(c.APIKey, c.URL, "openai.com")}
	if c.Model == "" {
		errs = append(errs, errors.New("model: write one such as gpt-4o-mini-tts"))
	}
	if c.Voice == "" {
		errs = append(errs, errors.New("voice: write one such as alloy"))
	}
	if c.Format != "pcm" && c.Format != "wav" {
		errs = append(errs, fmt.Errorf("format: %q is not understood, write pcm or wav", c.Format))
	}
	if c.SampleRate < 8000 || c.SampleRate > 48000 {
		errs = append(errs, errors.New("sample_rate: write hertz from 8000 to 48000"))
	}
	if c.Speed != 0 && (c.Speed < 0.25 || c.Speed > 4) {
		errs = append(errs, errors.New("speed: write a number from 0.25 to 4, or 0"))
	}
	return errors.Join(errs...)
}

type openAI struct {
	c      OpenAIConfig
	client *http.Client
}

func openOpenAI(_ context.Context, c OpenAIConfig, d registry.Deps) (Synthesizer, error) {
	return &openAI{c: c, client: d.HTTP}, nil
}

// Key implements Synthesizer.
func (o *openAI) Key() string {
	return fmt.Sprintf("openai %s %s %s %v %g %s", o.c.URL, o.c.Model, o.c.Voice, o.c.Voices, o.c.Speed, o.c.Instructions)
}

// SSML implements Synthesizer.
func (*openAI) SSML() bool { return false }

// Synthesize implements Synthesizer.
func (o *openAI) Synthesize(ctx context.Context, r Request) (Audio, error) {
	if !speakable(r.Text) {
		return nothing{}, nil
	}
	voice := r.Voice
	if voice == "" {
		voice = o.c.Voices[r.Language]
	}
	if voice == "" {
		voice = o.c.Voice
	}
	header := http.Header{}
	if o.c.APIKey.Set() {
		header.Set("Authorization", "Bearer "+o.c.APIKey.Reveal())
	}
	req := speechRequest{
		client: o.client, url: strings.TrimSuffix(o.c.URL, "/") + "/audio/speech", header: header, key: o.c.APIKey,
		body: struct {
			Model        string  `json:"model"`
			Voice        string  `json:"voice"`
			Input        string  `json:"input"`
			Format       string  `json:"response_format"`
			Speed        float64 `json:"speed,omitempty"`
			Instructions string  `json:"instructions,omitempty"`
		}{o.c.Model, voice, r.Text, o.c.Format, o.c.Speed, o.c.Instructions},
		raw: raw{rate: o.c.SampleRate, accept: []string{
			"audio/pcm", "audio/l16", "audio/raw", "audio/x-raw", "audio/wav", "application/octet-stream", "binary/octet-stream",
		}},
	}
	audio, err := req.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	return audio, nil
}
