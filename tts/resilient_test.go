package tts_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/tts"
)

// drain reads a to its end.
func drain(a tts.Audio) (samples []int16, err error) {
	buf := make([]int16, 333)
	for {
		n, err := a.Read(buf)
		samples = append(samples, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return samples, err
		}
	}
}

// V1, V2: what fails before its first sample is spoken by the next voice.
func TestNextVoiceSpeaks(t *testing.T) {
	for name, first := range map[string]*voice{
		"slow":                 {name: "a", wait: time.Hour},
		"slow and rude":        {name: "a", wait: time.Minute, rude: true},
		"refuses":              {name: "a", refuse: errDown},
		"without sound":        {name: "a", length: -1},
		"stops before a sound": {name: "a", wait: 1500*time.Millisecond + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &voice{name: "b"}
				start := time.Now()
				a, err := tts.Resilient(first, b).Synthesize(t.Context(), tts.Request{Text: "hi", Voice: "x"})
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(start), 1500*time.Millisecond)
				samples, err := drain(a)
				require.NoError(t, err)
				require.Len(t, samples, 16000)
				require.NoError(t, a.Close())
				require.NoError(t, a.Close())
				require.Empty(t, b.said[0].Voice, "the name of a voice means nothing to another engine")
				time.Sleep(2 * time.Minute)
				first.mu.Lock()
				defer first.mu.Unlock()
				require.Zero(t, first.open+b.open, "sound that came too late is closed")
			})
		})
	}
}

// V3: what breaks later ends there.
func TestBrokenSpeechIsNotRepeated(t *testing.T) {
	b := &voice{name: "b"}
	a, err := tts.Resilient(&voice{name: "a", breaks: 4000}, b).Synthesize(t.Context(), tts.Request{Text: "hi"})
	require.NoError(t, err)
	samples, err := drain(a)
	require.ErrorIs(t, err, errDown)
	require.GreaterOrEqual(t, len(samples), 3000)
	require.Empty(t, b.said)
	require.NoError(t, a.Close())
}

func TestLastVoiceMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := tts.Resilient(&voice{name: "a", wait: 5 * time.Second}).Synthesize(t.Context(), tts.Request{Text: "hi"})
		require.NoError(t, err)
		require.NoError(t, a.Close())
		_, err = tts.Resilient(&voice{name: "a", wait: time.Minute}).Synthesize(t.Context(), tts.Request{Text: "hi"})
		require.ErrorIs(t, err, tts.ErrSlow)
		_, err = tts.Resilient(&voice{name: "a", refuse: errDown}, &voice{name: "b", refuse: errDown}).Synthesize(t.Context(), tts.Request{Text: "hi"})
		require.ErrorIs(t, err, errDown)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = tts.Resilient(&voice{name: "a", wait: time.Minute}, &voice{name: "b"}).Synthesize(ctx, tts.Request{Text: "hi"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestBrokenVoiceIsNotAsked(t *testing.T) {
	a, b := &voice{name: "a", refuse: errDown}, &voice{name: "b"}
	r := tts.Resilient(a, b)
	for range 10 {
		audio, err := r.Synthesize(t.Context(), tts.Request{Text: "hi"})
		require.NoError(t, err)
		require.NoError(t, audio.Close())
	}
	require.Len(t, a.said, 5)
	require.Len(t, b.said, 10)
	require.Equal(t, "a or b", r.Key())
}

func TestMarkupIsDroppedForAVoiceThatDoesNotReadIt(t *testing.T) {
	a, b := &voice{name: "a", ssml: true, refuse: errDown}, &voice{name: "b"}
	r := tts.Resilient(a, b)
	require.True(t, r.SSML())
	text := `<speak>Fish &amp; <emphasis level="strong">chips</emphasis><break time="1s"/>now</speak>`
	audio, err := r.Synthesize(t.Context(), tts.Request{Text: text, SSML: true})
	require.NoError(t, err)
	require.NoError(t, audio.Close())
	require.Equal(t, []tts.Request{{Text: text, SSML: true}}, a.said)
	require.Equal(t, []tts.Request{{Text: "Fish & chips now"}}, b.said)
}

func TestVoiceInTraces(t *testing.T) {
	require.False(t, tts.InTraces(tts.Resilient(&voice{name: "a"})))
	need(t, "flite")
	s, err := tts.Providers.Open(t.Context(), "voiceflow", nil, deps())
	require.NoError(t, err)
	require.True(t, tts.InTraces(s))
	require.True(t, tts.InTraces(tts.Resilient(s, &voice{name: "a"})))
}
