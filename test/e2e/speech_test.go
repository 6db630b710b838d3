package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// speechFile speaks a sentence into a WAV file.
func speechFile(t *testing.T, voice, text string) string {
	t.Helper()
	need(t, "flite")
	file := filepath.Join(t.TempDir(), voice+".wav")
	out, err := exec.Command("flite", "-voice", voice, "-t", text, "-o", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// hasRecogniser reports whether the program and the machine can understand
// speech without a server.
func hasRecogniser(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command(program(t), "adapters").Output()
	require.NoError(t, err)
	_, err = os.Stat("/usr/share/pocketsphinx/model/en-us/en-us")
	return err == nil && slices.Contains(strings.Fields(string(out)), "pocketsphinx")
}

func needRecogniser(t *testing.T) {
	t.Helper()
	if !hasRecogniser(t) {
		missing(t, "there is no pocketsphinx")
	}
}

const listening = "asr: {provider: pocketsphinx}"

func TestSpokenChoice(t *testing.T) {
	t.Parallel()
	needRecogniser(t)
	for _, voice := range []string{"kal16", "slt", "rms", "awb"} {
		t.Run(voice, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, menu)
			b := serve(t, settings{agent: a, conf: listening})
			b.call(`
- hear: {within: 15s}
- silence: {within: 15s}
- play: ` + speechFile(t, voice, "opening hours") + `
- hear: {within: 20s}
- silence: {within: 15s}
- hangup: true
`)
			require.Equal(t, []string{"launch", "intent"}, a.actions())
			require.Contains(t, a.turns()[1].payload, "hours_intent")
		})
	}
}

func TestSpeechStopsPrompt(t *testing.T) {
	t.Parallel()
	needRecogniser(t)
	a := newAgent(t, long())
	b := serve(t, settings{agent: a, conf: listening})
	b.call(`
- hear: {within: 15s}
- wait: 2s
- play: ` + speechFile(t, "slt", "opening hours") + `
- wait: 3s
- silence: {within: 12s}
- hangup: true
`)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	require.Contains(t, a.turns()[1].payload, "hours_intent")
}
