package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/sip"
)

// SIGTERM lets a call that is up go on, takes no other, and the program ends
// with the last call.
func TestDrain(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	p := b.dial(`
- hear: {within: 15s}
- silence: {within: 15s}
- wait: 5s
- press: "2"
- hear: {within: 15s}
- silence: {within: 15s}
- hangup: true
`)
	b.log.await(t, 15*time.Second, "call began")
	b.signal(syscall.SIGTERM)
	b.log.await(t, 10*time.Second, "draining")
	await(t, 5*time.Second, "not ready", func() bool { return b.status("/readyz") == 503 })
	require.Equal(t, 200, b.status("/healthz"))
	second := b.dial("")
	<-second.done
	var refused *sip.StatusError
	require.ErrorAs(t, second.err, &refused)
	require.Equal(t, 503, refused.Code)
	p.finish()
	require.Equal(t, []string{"launch", "intent"}, a.actions(), "the call that was up went on")
	b.exits(15 * time.Second)
	require.Len(t, b.log.find("call ended"), 1)
}

// A second SIGTERM ends the calls.
func TestSecondSignalEndsCalls(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	p := b.dial("- event: {ended: true, within: 60s}")
	b.log.await(t, 15*time.Second, "call began")
	b.signal(syscall.SIGTERM)
	b.log.await(t, 10*time.Second, "draining")
	b.signal(syscall.SIGTERM)
	p.finish()
	b.exits(15 * time.Second)
	require.Len(t, b.log.find("call ended"), 1)
}

func TestCheckReportsEveryMistake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf string
		want []string
	}{
		"good": {conf: "agents: [{name: a, voiceflow: {api_key: " + key + "}, tts: {provider: flite}, asr: {provider: none}}]"},
		"many": {
			conf: `
sip:
  listen: ["udp://127.0.0.1:5060"]
  max_cals: 5
media:
  rtp_ports: 9-3
agents:
  - name: a
    voiceflow: {api_key: ` + key + `, api: dmm}
    no_reply: 5
    asr: {provider: none}
    tts: {provider: fleite}
routes:
  - {agent: b}
`,
			want: []string{"line 4", "max_calls", "line 6", "line 9", "line 10", "line 12", "flite", "line 14", "6 to mend"},
		},
		"environment": {
			conf: `
agents:
  - name: a
    asr: {provider: none}
    tts: {provider: flite}
    voiceflow:
      api_key: ` + key + `
      environment: prod uction
`,
			want: []string{"line 8: agents[0].voiceflow.environment", "prod uction", "1 to mend"},
		},
		"no yaml":  {conf: "agents: [", want: []string{"line"}},
		"no agent": {conf: "sip: {max_calls: 3}", want: []string{"agent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "conf.yaml")
			require.NoError(t, os.WriteFile(file, []byte(c.conf), 0o600))
			out, err := exec.Command(program(t), "check", "--config", file).CombinedOutput()
			if c.want == nil {
				require.NoError(t, err, "%s", out)
				return
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 2, exit.ExitCode(), "%s", out)
			for _, w := range c.want {
				require.Contains(t, string(out), w)
			}
			out, err = exec.Command(program(t), "serve", "--config", file).CombinedOutput()
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 2, exit.ExitCode(), "serve does not start with it: %s", out)
		})
	}
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		out, err := exec.Command(program(t), "check", "--config", "/nowhere.yaml").CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 2, exit.ExitCode(), "%s", out)
	})
}
