package call_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/fetch"
	"github.com/ivrbridge/ivrbridge/internal/target"
)

func TestEveryHandoverIsReported(t *testing.T) {
	flow := strings.Replace(menu, `"sip:queue@agents.example.com"`, "desk", 1)
	begun := map[string]time.Time{}
	statuses := []int{486, 480, 603, 200}
	res := perform(t, flow, func(c *call.Config) {
		c.Targets.Directory = map[string][]string{"desk": {"sip:anna@agents.example.com", "sip:ben@agents.example.com"}}
	}, func(s *stage) {
		n := 0
		s.line.refer = func(_ context.Context, r call.Referral) (call.Referred, error) {
			begun[r.URI] = time.Now()
			time.Sleep(time.Duration(n+1) * time.Second)
			status := statuses[n]
			n++
			if status == 200 {
				s.line.bye()
			}
			return call.Referred{Accepted: true, Final: true, Status: status}, nil
		}
		s.until(1)
		s.phone.press("2")
		s.until(3) // nobody was there
		s.wait(5 * time.Second)
		s.phone.press("2")
		s.until(5)
	})
	require.Len(t, res.Handovers, 4)
	for i, h := range res.Handovers {
		name := []string{"anna", "ben"}[i%2]
		require.Equal(t, "sip:"+name+"@agents.example.com", h.Target)
		require.Equal(t, []machine.Outcome{machine.Busy, machine.NoAnswer, machine.Declined, machine.Connected}[i], h.Outcome)
		require.Equal(t, statuses[i], h.Status)
		require.Equal(t, target.ModeRefer, h.Mode)
		require.Equal(t, time.Duration(i+1)*time.Second, h.Took)
		if i >= 2 {
			require.Equal(t, begun[h.Target], h.Began)
		}
	}
	require.Equal(t, call.ClassTransferred, res.Class)
}

func TestRefusedHandoverIsReported(t *testing.T) {
	res := perform(t, strings.Replace(menu, "agents.example.com", "elsewhere.example.com", 1), nil, func(s *stage) {
		s.until(1)
		s.phone.press("2")
		s.until(3)
		s.line.bye()
	})
	require.Len(t, res.Handovers, 1)
	h := res.Handovers[0]
	require.Equal(t, machine.Refused, h.Outcome)
	require.Equal(t, "sip:queue@elsewhere.example.com", h.Target)
	require.NotEmpty(t, h.Cause)
	require.Zero(t, h.Status)
}

func TestHandoverThatEndsWithTheCallIsReported(t *testing.T) {
	res := perform(t, menu, nil, func(s *stage) {
		s.line.refer = func(ctx context.Context, _ call.Referral) (call.Referred, error) {
			s.line.bye()
			<-ctx.Done() // no word of its end
			return call.Referred{Accepted: true}, ctx.Err()
		}
		s.until(1)
		s.phone.press("2")
	})
	require.Len(t, res.Handovers, 1)
	require.Equal(t, machine.Unconfirmed, res.Handovers[0].Outcome)
}

// TestCallerWhoLeavesTakesNoPath hangs up while the target rings: the agent is not
// told of a failure that nobody hears of any more.
func TestCallerWhoLeavesTakesNoPath(t *testing.T) {
	var actions []string
	res := perform(t, menu, nil, func(s *stage) {
		s.line.refer = func(context.Context, call.Referral) (call.Referred, error) {
			s.line.bye()
			return call.Referred{Accepted: true, Final: true, Status: 487}, nil
		}
		s.until(1)
		s.phone.press("2")
		s.wait(10 * time.Second)
		actions = s.requests()
	})
	require.Len(t, res.Handovers, 1)
	require.Equal(t, machine.NoAnswer, res.Handovers[0].Outcome)
	require.Equal(t, call.ClassCallerHangup, res.Class)
	require.Len(t, actions, 2, "%v", actions)
}

const chat = `
name: chat
blocks:
  start:
    - speak: Hello there.
    - choice: {options: [{button: Help, goto: help}], no_reply: {timeout: 60, steps: [end]}}
  help:
    - speak: A colleague will help.
    - trace: {type: live-agent-handoff, payload: {conversationID: "1", event: EVENT, message: One moment.}}
    - choice: {options: [{button: Billing, steps: [end]}], no_reply: {timeout: 5, steps: [end]}}
`

func TestChatHandoff(t *testing.T) {
	for _, c := range []struct {
		name, event, fallback string
		refers                int
		said                  []string
	}{
		{"to the fallback", "chat_started", "sip:desk@agents.example.com", 1, []string{"A colleague will help.", "One moment.", "[transfer_failed]"}},
		{"without one", "chat_started", "", 0, []string{"A colleague will help.", "One moment.", "[apology]"}},
		{"no event", `""`, "", 0, []string{"A colleague will help.", "One moment.", "[apology]"}},
		{"its end", "chat_ended", "sip:desk@agents.example.com", 0, []string{"A colleague will help.", "One moment."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			refers := 0
			res := perform(t, strings.Replace(chat, "EVENT", c.event, 1), func(conf *call.Config) {
				conf.Policy.Fallback = c.fallback
			}, func(s *stage) {
				s.line.refer = func(_ context.Context, r call.Referral) (call.Referred, error) {
					refers++
					require.Equal(t, c.fallback, r.URI)
					return call.Referred{Accepted: true, Final: true, Status: 486}, nil
				}
				s.until(1)
				s.wait(150 * time.Millisecond)
				s.phone.press("1")
				s.until(3)
				require.Equal(t, []string{"launch", "path-1", "no-reply"}, pathless(s.requests()), "the conversation goes on")
			})
			require.Equal(t, c.refers, refers)
			require.Len(t, res.Handovers, c.refers)
			require.Equal(t, c.said, res.Turns[1].Agent)
		})
	}
}

func TestKeyHeldForLongBelongsToItsEntry(t *testing.T) {
	const number = `
name: number
blocks:
  start:
    - speak: Your number?
    - capture: {into: number, no_reply: {timeout: 60, goto: start}}
    - end
`
	perform(t, number, nil, func(s *stage) {
		s.until(1)
		s.wait(2 * time.Second)
		s.phone.hold(3 * time.Second)
		s.wait(1900 * time.Millisecond)
		s.phone.press("2")
		s.until(2)
		require.Equal(t, []string{"launch", "text"}, s.requests())
		require.Contains(t, string(s.flow.Requests()[1].Body), `"12"`)
	})
}

// tune is half a second of sound as a data: URL (RFC 2397).
func tune() string {
	const samples = 4000
	wav := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00")
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8+2*samples))
	binary.LittleEndian.PutUint32(wav[40:], 2*samples)
	for i := range samples {
		wav = binary.LittleEndian.AppendUint16(wav, uint16(int16(6000-12000*(i/8%2))))
	}
	return "data:audio/wav;base64," + base64.StdEncoding.EncodeToString(wav)
}

func TestMusicDoesNotHoldTheCallersTimeBack(t *testing.T) {
	flow := `
name: music
blocks:
  start:
    - speak: Hello there.
    - action: {name: play, body: {url: "` + tune() + `", loop: true}}
    - choice: {options: [{button: Billing, steps: [end]}], no_reply: {timeout: 2.5, steps: [{speak: Bye.}, end]}}
`
	sounds := fetch.New(fetch.Config{})
	defer sounds.Close()
	perform(t, flow, func(c *call.Config) { c.Voice.Fetch = sounds }, func(s *stage) {
		first := s.until(1)
		asked := s.until(2)
		require.Equal(t, []string{"launch", "no-reply"}, s.requests())
		require.Less(t, asked.Sub(first), 6*time.Second)
		_, last := s.phone.heardAt()
		require.Less(t, asked.Sub(last), 100*time.Millisecond, "the music plays all the while")
	})
}
