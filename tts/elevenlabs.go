package tts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "elevenlabs", func() ElevenLabsConfig {
		return ElevenLabsConfig{
			URL: "https://api.elevenlabs.io", Model: "eleven_flash_v2_5", Voice: "21m00Tcm4TlvDq8ikWAM",
		}
	}, openElevenLabs)
}

// ElevenLabsConfig configures ElevenLabs' speech. It comes in the line's own
// format.
type ElevenLabsConfig struct {
	URL      string             `yaml:"url"`      // https://host of the service
	APIKey   secret.Secret      `yaml:"api_key"`  // env:NAME or file:PATH
	Model    string             `yaml:"model"`    // eleven_flash_v2_5, eleven_multilingual_v2, …
	Voice    string             `yaml:"voice"`    // its id, not its name
	Voices   map[string]string  `yaml:"voices"`   // voice per language
	Settings map[string]float64 `yaml:"settings"` // stability, similarity_boost, style, speed
}

// Validate implements registry.Validator.
func (c *ElevenLabsConfig) Validate() error {
	errs := []error{checkURL(c.URL), checkKey(c.APIKey, c.URL, "elevenlabs.io")}
	if c.Model == "" {
		errs = append(errs, errors.New("model: write one such as eleven_flash_v2_5"))
	}
	if c.Voice == "" {
		errs = append(errs, errors.New("voice: write the id of a voice"))
	}
	return errors.Join(errs...)
}

type elevenLabs struct {
	c      ElevenLabsConfig
	client *http.Client
}

func openElevenLabs(_ context.Context, c ElevenLabsConfig, d registry.Deps) (Synthesizer, error) {
	return &elevenLabs{c: c, client: d.HTTP}, nil
}

// Key implements Synthesizer.
func (e *elevenLabs) Key() string {
	return fmt.Sprintf("elevenlabs %s %s %s %v %v", e.c.URL, e.c.Model, e.c.Voice, e.c.Voices, e.c.Settings)
}

// SSML implements Synthesizer.
func (*elevenLabs) SSML() bool { return false }

// Synthesize implements Synthesizer.
func (e *elevenLabs) Synthesize(ctx context.Context, r Request) (Audio, error) {
	if !speakable(r.Text) {
		return nothing{}, nil
	}
	voice := r.Voice
	if voice == "" {
		voice = e.c.Voices[r.Language]
	}
	if voice == "" {
		voice = e.c.Voice
	}
	language := ""
	if strings.HasSuffix(e.c.Model, "v2_5") { // other models refuse it
		language, _, _ = strings.Cut(r.Language, "-")
	}
	header := http.Header{}
	if e.c.APIKey.Set() {
		header.Set("Xi-Api-Key", e.c.APIKey.Reveal())
	}
	req := speechRequest{
		client: e.client, header: header, key: e.c.APIKey,
		url: strings.TrimSuffix(e.c.URL, "/") + "/v1/text-to-speech/" + url.PathEscape(voice) + "/stream?output_format=ulaw_8000",
		body: struct {
			Text     string             `json:"text"`
			Model    string             `json:"model_id"`
			Language string             `json:"language_code,omitempty"`
			Settings map[string]float64 `json:"voice_settings,omitempty"`
		}{r.Text, e.c.Model, language, e.c.Settings},
		raw: raw{rate: pcm.Rate, law: true, accept: []string{
			"audio/basic", "audio/ulaw", "audio/x-mulaw", "audio/mulaw", "audio/pcmu", "application/octet-stream", "binary/octet-stream",
		}},
	}
	audio, err := req.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("elevenlabs: %w", err)
	}
	return audio, nil
}
