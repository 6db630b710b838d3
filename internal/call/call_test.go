package call_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

const menu = `
name: test
blocks:
  start:
    - speak: Hello there.
    - choice:
        options:
          - {button: Billing, goto: billing}
          - {button: Agent, goto: agent}
        no_reply:
          timeout: 2.5
          prompts: [{say: "Still there?", timeout: 1.25}]
          steps: [{speak: Bye.}, end]
        no_match: {prompts: ["What?"]}
  billing:
    - speak: Your bill is paid.
    - end
  agent:
    - speak: Please hold.
    - action:
        name: dial
        stop: true
        body: {target: "sip:queue@agents.example.com"}
        default: failed
        paths:
          - {name: success, steps: [{speak: Thank you.}, end]}
          - {name: busy, steps: [{speak: All busy.}, {goto: start}]}
          - {name: failed, steps: [{speak: Nobody there.}, {goto: start}]}
`

func TestNoReplyComesWhenTheCallerKeptSilent(t *testing.T) {
	res := perform(t, menu, nil, func(s *stage) {
		at := s.until(2)
		_, last := s.phone.heardAt()
		require.InDelta(t, (2560 * time.Millisecond).Seconds(), at.Sub(last).Seconds(), .05)
		again := s.until(3)
		_, last = s.phone.heardAt()
		require.InDelta(t, (1310 * time.Millisecond).Seconds(), again.Sub(last).Seconds(), .05)
		require.Equal(t, []string{"launch", "no-reply", "no-reply"}, s.requests())
	})
	require.Equal(t, call.ClassCompleted, res.Class)
	require.Equal(t, "the agent ended the conversation", res.Why)
	require.Len(t, res.Turns, 3)
}

func TestKeyPicksAChoiceAndStopsThePrompt(t *testing.T) {
	perform(t, menu, nil, func(s *stage) {
		s.until(1)
		s.wait(150 * time.Millisecond)
		pressed := time.Now()
		s.phone.press("1")
		require.WithinDuration(t, pressed, s.until(2), 200*time.Millisecond)
		require.Equal(t, []string{"launch", "path-1"}, pathless(s.requests()))
	})
}

// pathless makes the ids of buttons' requests comparable.
func pathless(in []string) []string {
	out := append([]string{}, in...)
	for i, a := range out {
		if len(a) > 5 && a[:5] == "path-" {
			out[i] = "path-1"
		}
	}
	return out
}

func TestSpokenChoiceIsSentAsItsButton(t *testing.T) {
	perform(t, menu, nil, func(s *stage) {
		s.until(1)
		s.wait(1500 * time.Millisecond)
		s.words <- "billing please"
		s.phone.talk(true)
		s.wait(700 * time.Millisecond)
		s.phone.talk(false)
		s.until(2)
		require.Equal(t, []string{"launch", "path-1"}, pathless(s.requests()))
	})
}

func TestSpeechStopsAPromptWithin60Milliseconds(t *testing.T) {
	const long = `
name: long
blocks:
  start:
    - speak: This is a very long sentence that nobody listens to until its end because it is so very long.
    - choice: {options: [{button: Billing, steps: [end]}]}
`
	perform(t, long, nil, func(s *stage) {
		s.until(1)
		s.wait(time.Second)
		s.words <- "billing"
		s.phone.talk(true)
		var stopped time.Time
		for range 1000 {
			s.mu.Lock()
			for _, e := range s.steps {
				if _, ok := e.(machine.StopPlay); ok && stopped.IsZero() {
					stopped = time.Now()
				}
			}
			s.mu.Unlock()
			if !stopped.IsZero() {
				break
			}
			s.wait(time.Millisecond)
		}
		require.False(t, stopped.IsZero(), "speech did not stop the prompt")
		s.wait(300 * time.Millisecond)
		_, last := s.phone.heardAt()
		require.Less(t, last.Sub(stopped), 60*time.Millisecond)
		s.phone.talk(false)
		s.until(2)
	})
}

func TestStalledSynthesiserDoesNotSilenceTheCall(t *testing.T) {
	const flow = `
name: stalled
blocks:
  start:
    - speak: never
    - choice: {options: [{button: Billing, steps: [end]}], no_reply: {timeout: 3, steps: [end]}}
`
	perform(t, flow, nil, func(s *stage) {
		s.until(1)
		s.wait(2 * time.Second)
		first, _ := s.phone.heardAt()
		require.False(t, first.IsZero(), "a filler covers the silence")
		s.until(2)
		require.Equal(t, []string{"launch", "no-reply"}, s.requests())
	})
}

func TestHandoverOutcomes(t *testing.T) {
	for _, c := range []struct {
		name string
		r    call.Referred
		err  error
		want string
		gone bool
	}{
		{"busy", call.Referred{Accepted: true, Final: true, Status: 486}, nil, "busy", false},
		{"refused", call.Referred{Final: true, Status: 405}, nil, "failed", false},
		{"silent", call.Referred{Accepted: true}, nil, "failed", false},
		{"connected", call.Referred{Accepted: true, Final: true, Status: 200}, nil, "success", true},
		{"hung up", call.Referred{Accepted: true, Gone: true}, nil, "success", true},
		{"unreachable", call.Referred{}, errors.New("no response"), "failed", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var to string
			res := perform(t, menu, nil, func(s *stage) {
				s.line.refer = func(_ context.Context, r call.Referral) (call.Referred, error) {
					to = r.URI
					time.Sleep(time.Second)
					if c.r.Gone {
						s.line.bye()
					}
					return c.r, c.err
				}
				s.until(1)
				s.phone.press("2")
				s.until(3)
				require.Equal(t, c.want, s.requests()[2])
				if !c.gone {
					s.wait(2 * time.Second)
					require.Empty(t, s.line.hung, "the caller is back in the flow")
					s.line.bye()
				}
			})
			require.Equal(t, "sip:queue@agents.example.com", to)
			if c.gone {
				require.Equal(t, "the caller was handed over", res.Why)
			}
			require.NotEmpty(t, res.Handovers)
		})
	}
}

func TestCallerWhoHangsUpOnATransferIsNotHandedOver(t *testing.T) {
	res := perform(t, menu, nil, func(s *stage) {
		s.line.refer = func(context.Context, call.Referral) (call.Referred, error) {
			s.line.bye()
			return call.Referred{Gone: true}, nil
		}
		s.until(1)
		s.phone.press("2")
	})
	require.Equal(t, call.ClassCallerHangup, res.Class)
	require.Len(t, res.Handovers, 1)
	require.Equal(t, machine.Unreachable, res.Handovers[0].Outcome)
	require.Equal(t, "the far end hung up", res.Handovers[0].Cause)
}

func TestHoldMusicIsNoTurn(t *testing.T) {
	perform(t, menu, nil, func(s *stage) {
		s.until(1)
		s.wait(2 * time.Second)
		held := s.line.params
		held.Send, held.Held = false, true
		s.line.Apply(held)
		s.call.Hold(true)
		s.words <- "billing"
		s.phone.talk(true)
		s.phone.press("1")
		s.wait(time.Minute)
		s.phone.talk(false)
		require.Equal(t, []string{"launch"}, s.requests())
		s.line.Apply(s.line.params)
		s.call.Hold(false)
		s.until(2)
		require.Equal(t, []string{"launch", "no-reply"}, s.requests())
		s.line.bye()
	})
}

func TestCallerWhoHangsUpLeavesNothing(t *testing.T) {
	res := perform(t, menu, nil, func(s *stage) {
		s.until(1)
		s.wait(time.Second)
		s.line.bye()
	})
	require.Equal(t, call.ClassCallerHangup, res.Class)
	require.Equal(t, "the caller hung up", res.Why)
}

func TestSilentFarEndIsAskedBeforeItIsCutOff(t *testing.T) {
	const patient = `
name: patient
blocks:
  start:
    - speak: Hello there.
    - choice: {options: [{button: Billing, steps: [end]}], no_reply: {timeout: 600, steps: [end]}}
`
	res := perform(t, patient, nil, func(s *stage) {
		s.until(1)
		s.line.alive = errors.New("481")
		s.wait(time.Second)
		s.phone.mute()
	})
	require.Equal(t, call.ClassMediaTimeout, res.Class)
}

func TestVariablesTravelWithTheLaunch(t *testing.T) {
	perform(t, menu, func(c *call.Config) {
		c.Variables = map[string]any{"caller_number": "+14155550100"}
		c.Launch = map[string]any{"callType": "inbound"}
	}, func(s *stage) {
		s.until(1)
		var body struct {
			Action struct {
				Payload map[string]any `json:"payload"`
			} `json:"action"`
			State struct {
				Variables map[string]any `json:"variables"`
			} `json:"state"`
		}
		require.NoError(t, json.Unmarshal(s.flow.Requests()[0].Body, &body))
		require.Equal(t, "+14155550100", body.State.Variables["caller_number"])
		require.Equal(t, "inbound", body.Action.Payload["callType"])
		s.line.bye()
	})
}
