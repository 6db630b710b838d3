package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// handover dials at once and has something to say about each outcome.
const handover = `
blocks:
  start:
    - speak: Hold on.
    - goto: dial
  dial:
    - action:
        name: dial
        stop: true
        body: {target: human}
        default: failed
        paths:
          - {name: success, steps: [{speak: Handed over.}, end]}
          - {name: busy, steps: [{speak: Everybody is busy.}, {goto: listen}]}
          - {name: no answer, steps: [{speak: Nobody answers.}, {goto: listen}]}
          - {name: declined, steps: [{speak: Nobody wants to.}, {goto: listen}]}
          - {name: failed, steps: [{speak: That did not work.}, {goto: listen}]}
  listen:
    - choice:
        options: [{button: Again, goto: dial}, {button: Stop, steps: [{speak: Goodbye.}, end]}]
        no_reply: {timeout: 60, prompts: ["Are you there?"]}
`

// human is the directory entry that handover dials.
func human(addr, more string) string {
	return fmt.Sprintf("dial: {directory: {human: [\"sip:anna@%s\"]}%s}", addr, more)
}

func TestDialRefersToTarget(t *testing.T) {
	t.Parallel()
	desk := demo(t) // somebody to answer: its agent
	a := newAgent(t, handover)
	b := serve(t, settings{agent: a, conf: human(desk.sip, "")})
	report := b.call(`
- hear: {within: 15s}
- event: {refer: true, to: "anna@` + desk.sip + `", within: 20s}
- event: {moved: true, within: 20s}
- wait: 1s
- hear: {within: 20s}
- hangup: true
`)
	require.Equal(t, []string{"sip:anna@" + desk.sip}, report.Refers)
	require.True(t, report.Moved)
	require.Equal(t, []string{"launch", "success"}, a.actions())
	end := b.ended(10 * time.Second)
	require.Equal(t, "transferred", end.value("end_class"))
	require.Equal(t, "connected", end.value("transfer_outcome"))
	require.Equal(t, "1", end.value("transfers"))
	require.Len(t, desk.log.find("call began"), 1)
	require.InDelta(t, 1, b.metric("ivrbridge_transfers_total", `outcome="connected"`), 0)
}

func TestBusyHumanBringsCallerBack(t *testing.T) {
	t.Parallel()
	b := demo(t, "--busy")
	p := b.dial(`
- hear: {within: 20s}
- press: "3"
- event: {refer: true, within: 30s}
- wait: 2s
- hear: {within: 20s}
- silence: {within: 30s}
- press: "2"
- hear: {within: 20s}
- silence: {within: 30s}
- press: "3"
- event: {moved: true, within: 40s}
- hear: {within: 20s}
- hangup: true
`)
	over := b.log.await(t, 60*time.Second, "hand-over over")
	require.Equal(t, "busy", over.value("outcome"))
	r, err := plainHTTP.PostForm("http://"+b.http+"/demo/human", url.Values{"busy": {"false"}})
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusOK, r.StatusCode)
	report := p.finish()
	require.Len(t, report.Refers, 2)
	require.True(t, report.Moved)
	moves := b.records(1)[0].Transfers
	require.Len(t, moves, 2, "each is kept")
	require.Equal(t, []string{"busy", "connected"}, []string{moves[0].Outcome, moves[1].Outcome})
	require.Equal(t, 486, moves[0].Status)
	require.True(t, moves[1].Began.After(moves[0].Began))
	for _, m := range moves {
		require.Equal(t, "refer", m.Mode)
		require.NotEmpty(t, m.Target)
		require.Positive(t, m.Seconds)
	}
	said := b.heard()
	require.Contains(t, said, "all our colleagues are busy")
	require.Contains(t, said, "We are open from nine to five", "the caller is back in the flow")
}

func TestTargetOutsideOfPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{
		"unknown number":     "+19005550123",
		"unknown host":       "sip:anna@192.0.2.77",
		"control characters": "\"sip:anna@192.0.2.77\\r\\nX-Evil: 1\"",
		"emergency":          "911",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, strings.Replace(handover, "target: human", "target: "+target, 1))
			b := serve(t, settings{agent: a, conf: human("127.0.0.1:9", "")})
			report := b.call(`
- hear: {within: 15s}
- silence: {within: 20s}
- press: "2"
- event: {ended: true, within: 30s}
`)
			require.Empty(t, report.Refers)
			require.Equal(t, []string{"launch", "failed"}, a.actions()[:2])
			require.Len(t, b.log.find("hand-over refused"), 1)
		})
	}
}

// Exchange 18 of the recorded ones: an action that is named in stopTypes and
// does not stop all the same. It is done in passing and the conversation goes
// on; of a dial the operator is told once.
func TestActionThatDoesNotStop(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
blocks:
  start:
    - speak: Welcome.
    - goto: menu
  menu:
    - choice:
        options: [{button: Notify, goto: notify}, {button: Dial, goto: dial}, {button: Stop, goto: end}]
        no_reply: {timeout: 60, prompts: ["Are you there?"]}
  notify:
    - action: {name: notify, format: trace, body: plain, default: done, paths: [done]}
    - speak: Notified.
    - goto: menu
  dial:
    - action: {name: dial, format: trace, body: {target: human}, default: failed, paths: [success, failed]}
    - speak: Dialled.
    - goto: menu
`)
	b := serve(t, settings{agent: a, conf: "actions: {names: [notify]}\n" + human("127.0.0.1:9", ", timeout: 5s")})
	p := b.dial(`
- hear: {within: 15s}
- silence: {within: 15s}
- press: "1"
- hear: {within: 15s}
- silence: {within: 15s}
- press: "2"
- event: {refer: true, within: 15s}
- wait: 2s
- silence: {within: 20s}
- press: "2"
- wait: 2s
- silence: {within: 20s}
- press: "3"
- event: {ended: true, within: 30s}
`)
	p.finish()
	warned := b.log.find("action does not stop")
	require.Len(t, warned, 1, "once for each action, and only where its outcome is lost")
	require.Contains(t, warned[0].text, "Turn on 'Stop on action' for the Custom Action dial in Voiceflow, or its paths can never be taken.")
	for _, u := range a.turns() {
		require.NotContains(t, []string{"done", "success", "failed"}, u.Action, "an action that does not wait gets no answer")
	}
	for _, u := range a.turns()[:2] {
		require.Contains(t, u.stopTypes, "notify")
		require.Contains(t, u.stopTypes, "dial")
	}
	require.Contains(t, b.heard(), "Notified.")
}

// Exchange 19: an action that waits and has no default path ends the
// conversation whatever is answered but one of its paths. The bridge takes its
// first path, and the caller is not lost.
func TestActionThatDeadEnds(t *testing.T) {
	t.Parallel()
	a := newAgent(t, `
variables: {visits: 0}
blocks:
  start:
    - set: {visits: "= visits + 1"}
    - speak: Visit {visits}.
    - choice:
        options: [{button: Hold, goto: hold}, {button: Stop, goto: end}]
        no_reply: {timeout: 60, prompts: ["Are you there?"]}
  hold:
    - speak: Holding.
    - action: {name: hold, stop: true, body: {a: "1"}, paths: [resume]}
    - speak: Resumed.
    - goto: start
`)
	b := serve(t, settings{agent: a})
	b.call(`
- hear: {within: 15s}
- silence: {within: 15s}
- press: "1"
- wait: 3s
- silence: {within: 20s}
- press: "2"
- event: {ended: true, within: 30s}
`)
	actions := a.actions()
	require.Equal(t, "launch", actions[0])
	require.Equal(t, "resume", actions[2], "not an answer that would end the conversation: %v", actions)
	require.Len(t, b.log.find("custom action has no handler"), 1)
	require.Equal(t, "completed", b.ended(10*time.Second).value("end_class"))
}
