package machine_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// held presses a key for a while.
func (d *drive) held(k byte, span time.Duration) {
	d.do(machine.Key{Digit: k, Down: true})
	d.wait(span)
	d.do(machine.KeyUp{Digit: k})
}

func TestTimeBetweenKeysRunsFromTheRelease(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Number?"))
	d.hear()
	d.held('1', 3*time.Second)
	d.wait(1999 * time.Millisecond)
	d.held('2', 5*time.Second)
	d.wait(1999 * time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Equal(t, []string{"launch", "text:12"}, d.types())
}

func TestReleaseThatNobodyTellsIsBounded(t *testing.T) {
	d := start(t, policy())
	d.answer(say("Number?"))
	d.hear()
	d.do(machine.Key{Digit: '1', Down: true})
	d.wait(32*time.Second - time.Millisecond)
	require.Len(t, d.sent, 1)
	d.wait(time.Millisecond)
	require.Equal(t, []string{"launch", "text:1"}, d.types())
}

func TestReleases(t *testing.T) {
	up := func(k byte) machine.KeyUp { return machine.KeyUp{Digit: k} }
	for name, c := range map[string]struct {
		do   func(d *drive)
		wait time.Duration // from then on
	}{
		"told twice": {func(d *drive) { d.held('1', time.Second); d.wait(time.Second); d.do(up('1')) }, 2 * time.Second},
		"of a key before": {func(d *drive) {
			d.do(machine.Key{Digit: '5', Down: true})
			d.do(machine.Key{Digit: '1'})
			d.wait(time.Second)
			d.do(up('5'))
		}, time.Second},
		"on hold": {func(d *drive) {
			d.do(machine.Key{Digit: '1', Down: true})
			d.wait(time.Second)
			d.do(machine.Held{})
			d.do(up('1'))
			d.wait(time.Minute)
			d.do(machine.Resumed{})
		}, 2 * time.Second},
		"of nothing": {func(d *drive) { d.do(up('1')); d.keys("1") }, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, policy())
			d.answer(say("Number?"))
			d.hear()
			c.do(d)
			d.wait(c.wait - time.Millisecond)
			require.Len(t, d.sent, 1)
			d.wait(time.Millisecond)
			require.Len(t, d.sent, 2)
		})
	}
}

func TestKeyHeldFromATurnToTheNext(t *testing.T) {
	for _, c := range []struct {
		released bool
		wait     time.Duration
	}{{true, 2 * time.Second}, {false, 31 * time.Second}} {
		d := start(t, policy())
		d.do(machine.Key{Digit: '1', Down: true})
		d.wait(time.Second)
		if c.released {
			d.do(machine.KeyUp{Digit: '1'})
		}
		d.answer(say("Number?"))
		d.wait(c.wait - time.Millisecond)
		require.Len(t, d.sent, 1)
		d.wait(time.Millisecond)
		require.Equal(t, []string{"launch", "text:1"}, d.types())
	}
}

func TestTimeBetweenKeysOfCollect(t *testing.T) {
	for _, c := range []struct {
		body any // nil: none
		want time.Duration
	}{
		{nil, 2 * time.Second},
		{3., 3 * time.Second},
		{.3, 300 * time.Millisecond},
		{"0.5", 500 * time.Millisecond},
		{.01, 200 * time.Millisecond},
		{0., 10 * time.Second},
		{-1., 2 * time.Second},
		{"NaN", 2 * time.Second},
	} {
		body := map[string]any{"min": 1., "max": 4.}
		if c.body != nil {
			body["interdigit"] = c.body
		}
		d := start(t, policy())
		d.answer(say("PIN?"), machine.Item{Kind: machine.Action, Name: "collect", Body: body, Paths: []string{"entered", "timeout"}, Default: 1})
		d.hear()
		d.held('1', 3*time.Second)
		d.held('2', time.Millisecond)
		d.wait(c.want - time.Millisecond)
		require.Len(t, d.sent, 1, c.body)
		d.wait(time.Millisecond)
		require.Equal(t, []string{"launch", "entered"}, d.types(), c.body)
		require.Equal(t, "12", d.vars[1]["collected_digits"])
	}
}

func sendDTMF(digits string) machine.Item {
	return machine.Item{Kind: machine.Action, Name: "send-dtmf", Body: map[string]any{"digits": digits}, Default: -1}
}

func TestLastWordsDoNotWaitForKeysOfOurs(t *testing.T) {
	d := start(t, policy())
	d.answer(say("One moment."), sendDTMF("WWWWWWWWWWWW1"), say("Now?"))
	d.hear()
	require.NotContains(t, d.said, "Now?")
	d.do(machine.Close{Prompt: machine.PromptLimit, Why: "the bridge is drained"})
	require.Contains(t, d.all, machine.Effect(machine.StopDigits{}))
	require.Equal(t, "<limit>", d.said[len(d.said)-1])
}

func TestKeysThatWereSentBeforeAreNotTheseKeys(t *testing.T) {
	d := start(t, policy())
	d.answer(sendDTMF("1"), sendDTMF("2"), say("Now?"))
	var sent []uint64
	for range 2 {
		for _, e := range d.all {
			if s, ok := e.(machine.SendDigits); ok && (len(sent) == 0 || s.Seq > sent[len(sent)-1]) {
				sent = append(sent, s.Seq)
			}
		}
		d.do(machine.DigitsSent{Seq: sent[0]})
	}
	require.Len(t, sent, 2)
	require.NotContains(t, d.said, "Now?")
	d.do(machine.DigitsSent{Seq: sent[1]})
	require.Contains(t, d.said, "Now?")
}
