package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/caller"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
)

// menu listens for two choices, for a long time.
const menu = `
intents:
  hours_intent: [opening hours]
  status_intent: [order status]
blocks:
  start:
    - speak: Welcome.
    - goto: menu
  menu:
    - choice:
        options:
          - {button: Order status, intent: status_intent, steps: [{speak: Your order was shipped.}, {goto: menu}]}
          - {button: Opening hours, intent: hours_intent, steps: [{speak: We are open from nine to five.}, {goto: menu}]}
        no_reply: {timeout: 60, prompts: ["Are you there?"]}
`

func TestKeySelectsChoice(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	report := b.call(`
- hear: {within: 15s}
- silence: {within: 15s}
- press: "2"
- hear: {within: 15s}
- silence: {within: 15s}
- hangup: true
`)
	require.Positive(t, report.Stats.Received)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	pressed := a.turns()[1]
	require.Contains(t, pressed.payload, "hours_intent", "the button's request, verbatim")
	launch := a.turns()[0]
	require.JSONEq(t, `{"callType":"inbound","userNumber":"+14155550123","agentNumber":"1000"}`, launch.payload)
	require.Contains(t, launch.stopTypes, "dial")
	end := b.ended(10 * time.Second)
	require.Equal(t, "caller_hangup", end.value("end_class"))
	require.Equal(t, "1", end.value("keys"))
}

func TestCallInTheBinaryPlaysScript(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	dir := t.TempDir()
	script, heard := filepath.Join(dir, "script.yaml"), filepath.Join(dir, "heard.wav")
	require.NoError(t, os.WriteFile(script, []byte(`
- hear: {within: 15s}
- silence: {within: 15s}
- press: "1"
- hear: {within: 15s}
- silence: {within: 15s}
- hangup: true
`), 0o600))
	out, err := exec.Command(program(t), "call", "--script", script, "--record", heard, "sip:1000@"+b.sip).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	info, err := os.Stat(heard)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(32000), "a second of stereo at least")

	require.NoError(t, os.WriteFile(script, []byte("- event: {refer: true, within: 1s}\n"), 0o600))
	out, err = exec.Command(program(t), "call", "--script", script, "sip:1000@"+b.sip).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "line 1: event refer: did not happen in time")
}

func TestSilenceBringsNoReply(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
blocks:
  start:
    - speak: Please say something.
    - choice:
        options: [{button: Go on, goto: end}]
        no_reply: {timeout: 2.5, prompts: [{say: "Are you still there?", timeout: 3.5}, "Hello?"], steps: [{speak: Goodbye.}, end]}
`)
	b := serve(t, settings{agent: a})
	b.call(`
- hear: {within: 15s}
- event: {ended: true, within: 60s}
`)
	require.Equal(t, []string{"launch", "no-reply", "no-reply", "no-reply"}, a.actions())
	// The first prompt lasts about a second and a half, the second one second.
	turns := a.turns()
	first, second := turns[1].At.Sub(turns[0].At), turns[2].At.Sub(turns[1].At)
	require.Greater(t, first, 3*time.Second)
	require.Less(t, first, 12*time.Second)
	require.Greater(t, second, 4*time.Second)
	require.Less(t, second, 12*time.Second)
	require.Equal(t, "completed", b.ended(10*time.Second).value("end_class"))
}

// long is a prompt of half a minute before the menu.
func long() string {
	return strings.Replace(menu, "Welcome.", strings.Repeat("This is a long welcome to our little shop, which has been in this town for many years. ", 6), 1)
}

func TestKeyStopsPrompt(t *testing.T) {
	t.Parallel()
	a := newAgent(t, long())
	b := serve(t, settings{agent: a})
	b.call(`
- hear: {within: 15s}
- wait: 1s
- press: "2"
- wait: 1s
- silence: {within: 12s}
- hangup: true
`)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	require.Equal(t, "1", b.ended(10*time.Second).value("barge_ins"))
}

func TestLateOffer(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	report := b.call(keysOnly, func(c *caller.Config) { c.LateOffer = true })
	require.Positive(t, report.Stats.Received)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
}

// keysOnly presses a key after the welcome and hears the answer.
const keysOnly = `
- hear: {within: 15s}
- silence: {within: 15s}
- press: "2"
- hear: {within: 15s}
- silence: {within: 15s}
- hangup: true
`

func TestOtherLaw(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	report := b.call(keysOnly, func(c *caller.Config) { c.Codecs = []sdp.Codec{sdp.PCMA} })
	require.Positive(t, report.Stats.Received)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
}

func TestCallOverTCP(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	b.call(keysOnly, func(c *caller.Config) { c.Transport = sip.TCP })
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	require.Positive(t, b.metric("ivrbridge_sip_requests_total", `method="INVITE"`))
}

func TestHoldMusicIsNoTurn(t *testing.T) {
	t.Parallel()
	music := speechFile(t, "kal16", strings.Repeat("opening hours. order status. ", 4))
	a := newAgent(t, strings.Replace(menu, "Welcome.", "Welcome to our little shop, which has been in this town for many years.", 1))
	conf := ""
	if hasRecogniser(t) {
		conf = "asr: {provider: pocketsphinx}"
	}
	b := serve(t, settings{agent: a, conf: conf})
	b.call(`
- hear: {within: 15s}
- hold: true
- play: ` + music + `
- press: "1"
- silence: {within: 5s}
- hold: false
- hear: {within: 20s}
- silence: {within: 20s}
- press: "2"
- hear: {within: 15s}
- hangup: true
`)
	require.Equal(t, []string{"launch", "intent"}, a.actions(), "nothing that came while on hold is a turn")
	require.Contains(t, a.turns()[1].payload, "hours_intent")
	require.Len(t, b.log.find("caller holds"), 1)
	require.Len(t, b.log.find("caller resumes"), 1)
}
