package configs

import (
	"os"
	"os/exec"
	"strings"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// VoskAddress is where FromEnv looks for a Vosk server.
const VoskAddress = "127.0.0.1:2700"

// pocketsphinxModel is where Debian keeps the recogniser's English model.
const pocketsphinxModel = "/usr/share/pocketsphinx/model/en-us/en-us"

// Environment is what FromEnv looks at. Absent functions are the process's own;
// without Probe nothing answers, without Known every adapter is known.
type Environment struct {
	Getenv   func(name string) string          // a variable's value
	LookPath func(name string) (string, error) // a program's path
	Exists   func(path string) bool            // whether there is a file or folder
	Probe    func(address string) bool         // whether something answers at a TCP address
	Known    func(kind, provider string) bool  // whether an adapter is compiled in
}

// FromEnv returns the configuration of a bridge that is started without a file:
// the local trunk and one agent with the best engines that are there, the others
// behind them as fallbacks. The notes tell the operator what was chosen, one
// line each.
//
// VOICEFLOW_API_KEY names the agent; without it the configuration does not pass
// Validate. VOICEFLOW_URL, VOICEFLOW_PROJECT and VOICEFLOW_ENVIRONMENT may say
// more. DEEPGRAM_API_KEY, OPENAI_API_KEY and ELEVENLABS_API_KEY switch the
// services on.
func FromEnv(e Environment) (Config, []string) {
	if e.Getenv == nil {
		e.Getenv = os.Getenv
	}
	if e.LookPath == nil {
		e.LookPath = exec.LookPath
	}
	if e.Exists == nil {
		e.Exists = func(path string) bool { _, err := os.Stat(path); return err == nil }
	}
	c := Default()
	a := c.Defaults
	a.Name = "voiceflow"
	a.Voiceflow.APIKey = secret.New(e.Getenv("VOICEFLOW_API_KEY"))
	for name, to := range map[string]*string{
		"VOICEFLOW_URL": &a.Voiceflow.URL, "VOICEFLOW_PROJECT": &a.Voiceflow.Project, "VOICEFLOW_ENVIRONMENT": &a.Voiceflow.Environment,
	} {
		if value := e.Getenv(name); value != "" {
			*to = value
		}
	}
	recognisers, voices := e.recognisers(), e.voices()
	a.ASR, a.TTS = e.chain(recognisers), e.chain(voices)
	c.Agents = []Agent{a}
	c.complete()

	notes := []string{"recognition: " + describe(recognisers), "voice: " + describe(voices)}
	if first := a.ASR.Provider; first == None || first == "pocketsphinx" {
		notes = append(notes, "menus and keys only: set DEEPGRAM_API_KEY for free speech")
	}
	if a.TTS.Provider == ownVoice && a.TTS.node == nil {
		notes = append(notes, "no voice for the bridge's own sentences: install flite, or set ELEVENLABS_API_KEY")
	}
	return c, notes
}

// recognisers returns those that are there, the best first.
func (e Environment) recognisers() []Adapter {
	out := e.services(KindASR, "deepgram", "openai")
	if e.Probe != nil && e.known(KindASR, "vosk") && e.Probe(VoskAddress) {
		out = append(out, NewAdapter("vosk", map[string]any{"url": "ws://" + VoskAddress}))
	}
	if e.known(KindASR, "pocketsphinx") && (e.has("pocketsphinx_continuous") || e.Exists(pocketsphinxModel)) {
		out = append(out, NewAdapter("pocketsphinx", nil))
	}
	if len(out) == 0 {
		out = append(out, NewAdapter(None, nil))
	}
	return out
}

// ownVoice is Voiceflow's: the adapter plays what comes with the traces and
// speaks with a local voice what comes without sound.
const ownVoice = "voiceflow"

// voices returns those that are there, the best first.
func (e Environment) voices() []Adapter {
	out := e.services(KindTTS, "elevenlabs", "openai", "deepgram")
	for _, local := range []struct{ provider, program string }{{"flite", "flite"}, {"espeak", "espeak-ng"}} {
		if !e.known(KindTTS, local.provider) || !e.has(local.program) {
			continue
		}
		if len(out) == 0 && e.known(KindTTS, ownVoice) {
			return []Adapter{NewAdapter(ownVoice, map[string]any{"local": local.provider})}
		}
		return append(out, NewAdapter(local.provider, nil))
	}
	if len(out) == 0 {
		out = append(out, Adapter{Provider: ownVoice})
	}
	return out
}

// services returns the hosted engines that a key is set for.
func (e Environment) services(kind string, providers ...string) []Adapter {
	var out []Adapter
	for _, p := range providers {
		key := strings.ToUpper(p) + "_API_KEY"
		if e.Getenv(key) == "" || !e.known(kind, p) {
			continue
		}
		settings := map[string]any{"api_key": "env:" + key}
		if p == "openai" {
			settings["url"] = openAI
		}
		out = append(out, NewAdapter(p, settings))
	}
	return out
}

const openAI = "https://api.openai.com/v1"

func (e Environment) known(kind, provider string) bool {
	return e.Known == nil || e.Known(kind, provider)
}

func (e Environment) has(program string) bool {
	_, err := e.LookPath(program)
	return err == nil
}

// chain makes the first adapter fall back on the others.
func (e Environment) chain(list []Adapter) Adapter {
	for i := range list {
		list[i].getenv = e.Getenv
	}
	first := list[0]
	first.Fallback = list[1:]
	return first
}

func describe(list []Adapter) string {
	return strings.Join(names(list, func(a Adapter) string { return a.Provider }), ", then ")
}
