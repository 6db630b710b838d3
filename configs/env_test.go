package configs

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestFromEnvPicksTheBestEnginesPresent(t *testing.T) {
	tests := []struct {
		name     string
		env      map[string]string
		programs []string
		vosk     bool
		known    func(kind, provider string) bool
		notes    []string
	}{
		{
			name: "nothing",
			env:  map[string]string{"VOICEFLOW_API_KEY": "k"},
			notes: []string{
				"recognition: none", "voice: voiceflow", "menus and keys only: set DEEPGRAM_API_KEY for free speech",
				"no voice for the bridge's own sentences: install flite, or set ELEVENLABS_API_KEY",
			},
		},
		{
			name:     "installed programs",
			env:      map[string]string{"VOICEFLOW_API_KEY": "k"},
			programs: []string{"flite", "pocketsphinx_continuous"},
			notes:    []string{"recognition: pocketsphinx", "voice: voiceflow", "menus and keys only: set DEEPGRAM_API_KEY for free speech"},
		},
		{
			name:     "local server",
			env:      map[string]string{"VOICEFLOW_API_KEY": "k"},
			vosk:     true,
			programs: []string{"espeak-ng"},
			notes:    []string{"recognition: vosk", "voice: voiceflow"},
		},
		{
			name:     "adapters that are not compiled in",
			env:      map[string]string{"VOICEFLOW_API_KEY": "k", "DEEPGRAM_API_KEY": "d", "OPENAI_API_KEY": "o"},
			programs: []string{"flite"},
			known:    func(kind, provider string) bool { return kind == KindTTS && provider != "openai" },
			notes: []string{
				"recognition: none", "voice: deepgram, then flite", "menus and keys only: set DEEPGRAM_API_KEY for free speech",
			},
		},
		{
			name:     "everything",
			env:      map[string]string{"VOICEFLOW_API_KEY": "k", "DEEPGRAM_API_KEY": "d", "OPENAI_API_KEY": "o", "ELEVENLABS_API_KEY": "e"},
			programs: []string{"flite", "pocketsphinx_continuous"},
			vosk:     true,
			notes: []string{
				"recognition: deepgram, then openai, then vosk, then pocketsphinx",
				"voice: elevenlabs, then openai, then deepgram, then flite",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, notes := FromEnv(Environment{
				Getenv: func(name string) string { return tt.env[name] },
				LookPath: func(name string) (string, error) {
					for _, p := range tt.programs {
						if p == name {
							return "/usr/bin/" + p, nil
						}
					}
					return "", errors.New("not found")
				},
				Exists: func(string) bool { return false },
				Known:  tt.known,
				Probe:  func(address string) bool { return tt.vosk && address == VoskAddress },
			})
			require.Equal(t, tt.notes, notes)
			require.Empty(t, c.Validate(nil))
			require.Equal(t, "k", c.Agents[0].Voiceflow.APIKey.Reveal())
			for _, a := range append(c.Agents[0].ASR.All(), c.Agents[0].TTS.All()...) {
				into := struct {
					URL    string        `yaml:"url"`
					Local  string        `yaml:"local"`
					APIKey secret.Secret `yaml:"api_key"`
				}{}
				require.NoError(t, a.Decode()(&into), a.Provider)
				if _, keyed := a.Settings()["api_key"]; keyed {
					require.Len(t, into.APIKey.Reveal(), 1, "resolved in the injected environment")
				}
			}
		})
	}
}

func TestFromEnvWithoutAKeyIsNotValid(t *testing.T) {
	c, _ := FromEnv(Environment{Getenv: func(string) string { return "" }})
	problems := c.Validate(nil)
	require.Len(t, problems, 1)
	require.Equal(t, "agents[0].voiceflow.api_key", problems[0].Path)
}

func TestFromEnvTakesTheAgentsAddress(t *testing.T) {
	env := map[string]string{"VOICEFLOW_API_KEY": "k", "VOICEFLOW_URL": "http://127.0.0.1:9000", "VOICEFLOW_ENVIRONMENT": "development"}
	c, _ := FromEnv(Environment{Getenv: func(name string) string { return env[name] }})
	require.Equal(t, "http://127.0.0.1:9000", c.Agents[0].Voiceflow.URL)
	require.Equal(t, "development", c.Agents[0].Voiceflow.Environment)
}
