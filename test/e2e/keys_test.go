package e2e

import (
	"encoding/base64"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// A key that is held longer than the time between keys, and one after it that
// comes within that time of its release, are one entry.
func TestKeyHeldForLong(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
blocks:
  start:
    - speak: Your number?
    - capture: {into: number, no_reply: {timeout: 60, goto: start}}
    - end
`)
	b := serve(t, settings{agent: a, conf: "dtmf: {interdigit_timeout: 2s}"})
	w := b.wire(t)
	e := newEarpiece(t, false)
	w.up("held", e)
	e.hush(t, 20*time.Second)
	held, err := dtmf.NewSender("17", 3*time.Second, time.Second)
	require.NoError(t, err)
	e.mu.Lock()
	e.keys = held
	e.mu.Unlock()
	require.Equal(t, `"17"`, a.await(t, 20*time.Second, "text").payload)
	w.answer(w.asked(20*time.Second, "BYE"), "200 OK")
}

// tune is half a second of sound in base64.
func tune() string {
	const samples = 4000
	wav := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00")
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8+2*samples))
	binary.LittleEndian.PutUint32(wav[40:], 2*samples)
	for i := range samples {
		wav = binary.LittleEndian.AppendUint16(wav, uint16(int16(6000-12000*(i/8%2))))
	}
	return base64.StdEncoding.EncodeToString(wav)
}

// Music that loops is no prompt: the caller's time runs while it plays.
func TestMusicBesideAQuestion(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
blocks:
  start:
    - speak: Wait or say something.
    - action: {name: play, format: trace, body: {url: "data:audio/wav;base64,`+tune()+`", loop: true}}
    - choice: {options: [{button: Stop, goto: stop}], no_reply: {timeout: 3, goto: stop}}
  stop:
    - speak: That was it.
    - end
`)
	b := serve(t, settings{agent: a})
	b.call(`
- hear: {within: 15s}
- event: {ended: true, within: 30s}
`)
	require.Equal(t, []string{"launch", "no-reply"}, a.actions())
	require.Contains(t, b.heard(), "That was it.")
}

// A chat's request for a human is a hand-over on the telephone.
func TestChatHandoff(t *testing.T) {
	t.Parallel()
	const flow = `
blocks:
  start:
    - speak: A colleague will help.
    - trace: {type: live-agent-handoff, payload: {conversationID: "1", event: chat_started, message: One moment.}}
    - choice: {options: [{button: Stop, goto: stop}], no_reply: {timeout: 2, goto: stop}}
  stop:
    - speak: Goodbye then.
    - end
`
	for name, conf := range map[string]string{
		"with a fallback": "fallback: human\n" + human("127.0.0.1:9", ", timeout: 5s"),
		"without one":     "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, flow)
			b := serve(t, settings{agent: a, conf: conf})
			report := b.call(`
- hear: {within: 15s}
- event: {ended: true, within: 60s}
`)
			require.Equal(t, []string{"launch", "no-reply"}, a.actions(), "the conversation goes on")
			if conf == "" {
				require.Empty(t, report.Refers)
				require.Contains(t, b.heard(), "One moment. [apology]")
				require.Len(t, b.log.find("agent asks for a human and has no fallback"), 1)
				return
			}
			require.Equal(t, []string{"sip:anna@127.0.0.1:9"}, report.Refers)
			require.Contains(t, b.heard(), "One moment. [transfer_failed]")
			require.Len(t, b.records(1)[0].Transfers, 1)
		})
	}
}
