package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A far end that agrees to no telephone-event presses its keys as tones: each is
// one key, in order, and none of them is speech.
func TestKeysInTheSound(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
blocks:
  start:
    - speak: Your number?
    - capture: {into: number, no_reply: {timeout: 60, goto: start}}
    - speak: Thank you.
    - end
`)
	b := serve(t, settings{agent: a, conf: "dtmf: {interdigit_timeout: 2s}"})
	b.call(`
- hear: {within: 15s}
- silence: {within: 20s}
- {press: "1004477#", how: inband}
- event: {ended: true, within: 30s}
`)
	require.Contains(t, b.heard(), "Thank you.")
	require.Equal(t, []string{"launch", "text"}, a.actions())
	require.InDelta(t, 8, b.metric("ivrbridge_dtmf_digits_total", `source="tone"`), 0)
	require.InDelta(t, 8, b.metric("ivrbridge_dtmf_digits_total"), 0)
}
