package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog/localflow"
)

// faulty runs a call whose second turn goes wrong once, and which must be able
// to go on with key 2 and end with key 3.
func faulty(t *testing.T, conf string, f localflow.Fault) (*agent, *bridge) {
	t.Helper()
	a := newAgent(t, `
blocks:
  start:
    - speak: Welcome.
    - goto: menu
  menu:
    - choice:
        options: [{button: One, steps: [{speak: This was one.}, {goto: menu}]}, {button: Two, steps: [{speak: This was two.}, {goto: menu}]}, {button: Stop, goto: end}]
        no_reply: {timeout: 60, prompts: ["Are you there?"]}
`)
	f.Turn, f.Times = 2, 1
	a.SetFaults(f)
	b := serve(t, settings{agent: a, conf: conf})
	b.call(`
- hear: {within: 15s}
- silence: {within: 15s}
- press: "1"
- hear: {within: 30s}
- wait: 3s
- silence: {within: 30s}
- press: "2"
- hear: {within: 20s}
- silence: {within: 20s}
- press: "3"
- event: {ended: true, within: 30s}
`)
	require.Equal(t, "completed", b.ended(10*time.Second).value("end_class"))
	require.Contains(t, b.heard(), "This was two.", "the call goes on")
	return a, b
}

func TestSlowAgentIsCovered(t *testing.T) {
	t.Parallel()
	a, b := faulty(t, "", localflow.Fault{Delay: 4 * time.Second})
	require.GreaterOrEqual(t, b.metric("ivrbridge_conversation_events_total", `kind="filler"`), 1.0)
	require.Contains(t, b.heard(), "This was one.", "the slow answer is heard")
	require.Empty(t, b.log.find("turn failed"))
	require.Len(t, a.turns(), 4, "the turn is not repeated")
}

func TestAgentThatNeverAnswers(t *testing.T) {
	t.Parallel()
	_, b := faulty(t, "turn_timeout: 5s", localflow.Fault{Delay: 40 * time.Second})
	require.Len(t, b.log.find("turn failed"), 1)
	require.Equal(t, "1", b.ended(time.Second).value("failed_turns"))
}

func TestAgentThatNeverAnswersFallsBack(t *testing.T) {
	t.Parallel()
	desk := demo(t)
	a := newAgent(t, menu)
	a.SetFaults(localflow.Fault{Delay: 60 * time.Second})
	b := serve(t, settings{agent: a, conf: "turn_timeout: 4s\nfallback: human\n" + human(desk.sip, "")})
	report := b.call(`
- hear: {within: 20s}
- event: {refer: true, to: "anna@` + desk.sip + `", within: 60s}
- event: {moved: true, within: 20s}
- hear: {within: 20s}
- hangup: true
`)
	require.True(t, report.Moved)
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	garbage, cut := `[{"type":"speak","payload":`, 30
	for name, f := range map[string]localflow.Fault{
		"server error":  {Status: 500},
		"error page":    {Body: new("<html>It works!</html>")},
		"garbage":       {Body: &garbage},
		"cut off":       {Cut: &cut},
		"cut off later": {Cut: &cut, Executed: true},
		"null":          {Body: new("null")},
		"wrong types":   {Body: new(`[{"type":7},{"type":"speak","payload":[1]},{"type":"choice","payload":{"buttons":"no"}}]`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b := faulty(t, "", f)
			if name != "null" && name != "wrong types" {
				require.Len(t, b.log.find("turn failed"), 1)
			}
		})
	}
}
