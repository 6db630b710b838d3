package tts_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

func ready(t *testing.T, c *pcm.Clip) error {
	t.Helper()
	return c.Ready(t.Context(), 1<<30)
}

func TestClipIsSharedNormalisedAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.A)
		defer c.Close()
		v := &voice{name: "v", wait: time.Second}
		r := tts.Request{Text: "hello"}
		a, b := c.Clip(t.Context(), v, r), c.Clip(t.Context(), v, r)
		require.Same(t, a, b)
		require.False(t, a.Closed())
		require.NoError(t, ready(t, a))
		synctest.Wait()
		require.Same(t, a, c.Clip(t.Context(), v, r))
		require.Len(t, v.said, 1)
		require.Equal(t, pcm.A, a.Law())
		require.InDelta(t, 8000, a.Len(), 200)
		require.Zero(t, v.open)

		law := make([]byte, a.Len())
		samples := make([]int16, a.Len())
		a.Read(0, law, pcm.A)
		pcm.A.Decode(samples, law)
		require.InDelta(t, pcm.SpeechLevel, pcm.Level(samples[2000:6000]), 0.5)

		for _, other := range []tts.Request{{Text: "hello", Voice: "x"}, {Text: "hello", Language: "de"}, {Text: "hello", SSML: true}, {Text: "Hello"}} {
			require.NotSame(t, a, c.Clip(t.Context(), v, other))
		}
		require.NotSame(t, a, c.Clip(t.Context(), &voice{name: "w"}, r))
		synctest.Wait()
		time.Sleep(2 * time.Second)
		require.Equal(t, uint64(2), c.Stats().Hits)
		require.Equal(t, uint64(6), c.Stats().Misses)
	})
}

func TestClipGrowsWhileItIsRendered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.Mu)
		defer c.Close()
		clip := c.Clip(t.Context(), &voice{name: "v", pause: 200 * time.Millisecond}, tts.Request{Text: "hello"})
		require.NoError(t, clip.Ready(t.Context(), 1))
		require.False(t, clip.Closed())
		require.NoError(t, ready(t, clip))
	})
}

func TestFailedRenderingIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.Mu)
		defer c.Close()
		for _, v := range []*voice{{name: "refuses", refuse: errDown}, {name: "breaks", breaks: 8000}} {
			a := c.Clip(t.Context(), v, tts.Request{Text: "hello"})
			require.ErrorIs(t, ready(t, a), errDown)
			synctest.Wait()
			b := c.Clip(t.Context(), v, tts.Request{Text: "hello"})
			require.NotSame(t, a, b)
			require.ErrorIs(t, ready(t, b), errDown)
		}
		synctest.Wait()
		require.Zero(t, c.Stats().Clips)
		require.Equal(t, uint64(4), c.Stats().Failed)
	})
}

func TestRenderingOutlivesTheCallThatAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.Mu)
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		clip := c.Clip(ctx, &voice{name: "v", wait: time.Second}, tts.Request{Text: "hello"})
		cancel()
		require.NoError(t, ready(t, clip))
	})
}

func TestSynthesiserThatNeverAnswersClosesTheClip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.Mu)
		for name, v := range map[string]*voice{
			"silent":    {name: "silent", wait: time.Hour},
			"rude":      {name: "rude", wait: time.Minute, rude: true},
			"stops":     {name: "stops", pause: time.Hour},
			"is slow":   {name: "slow", pause: 9 * time.Second, length: 3200},
			"goes away": {name: "away", wait: 11 * time.Second},
		} {
			start := time.Now()
			err := ready(t, c.Clip(t.Context(), v, tts.Request{Text: "hello"}))
			if name == "is slow" {
				require.NoError(t, err, name)
				continue
			}
			require.ErrorIs(t, err, tts.ErrStalled, name)
			require.Equal(t, 10*time.Second, time.Since(start), name)
		}
		c.Close()
		require.Equal(t, 1, c.Stats().Clips)
	})
}

func TestLeastRecentlyUsedClipsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(30_000, pcm.Mu) // three seconds and a bit
		defer c.Close()
		v := &voice{name: "v"}
		say := func(i int) *pcm.Clip {
			clip := c.Clip(t.Context(), v, tts.Request{Text: fmt.Sprint("prompt ", i)})
			require.NoError(t, ready(t, clip))
			synctest.Wait()
			return clip
		}
		first := say(1)
		say(2)
		say(3)
		require.Same(t, first, say(1))
		say(4)
		require.Equal(t, uint64(1), c.Stats().Evicted)
		require.LessOrEqual(t, c.Stats().Bytes, int64(30_000))
		require.Same(t, first, say(1))
		require.Len(t, v.said, 4)
		say(2)
		require.Len(t, v.said, 5)

		small := tts.NewCache(1000, pcm.Mu)
		defer small.Close()
		require.NoError(t, ready(t, small.Clip(t.Context(), v, tts.Request{Text: "long"})))
		synctest.Wait()
		require.Zero(t, small.Stats().Clips, "what is too long is played and not kept")
	})
}

func TestSubstituteIsNotKept(t *testing.T) {
	c := tts.NewCache(1<<20, pcm.Mu)
	defer c.Close()
	a, b := &voice{name: "a", refuse: errDown}, &voice{name: "b"}
	r := tts.Resilient(a, b)
	require.NoError(t, ready(t, c.Clip(t.Context(), r, tts.Request{Text: "hi"})))
	require.Eventually(t, func() bool { return c.Stats().Clips == 0 }, 10*time.Second, time.Millisecond)
	a.mu.Lock()
	a.refuse = nil
	a.mu.Unlock()
	require.NoError(t, ready(t, c.Clip(t.Context(), r, tts.Request{Text: "hi"})))
	require.Len(t, a.said, 2)
}

func TestClosedCacheRendersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := tts.NewCache(1<<20, pcm.Mu)
		under := c.Clip(t.Context(), &voice{name: "v", wait: time.Minute}, tts.Request{Text: "a"})
		c.Close()
		require.ErrorIs(t, under.Err(), context.Canceled)
		require.Error(t, c.Clip(t.Context(), &voice{name: "v"}, tts.Request{Text: "b"}).Err())
	})
}

type panicky struct{ voice }

func (*panicky) Synthesize(context.Context, tts.Request) (tts.Audio, error) { panic("boom") }

func TestPanicOfASynthesiserIsAnError(t *testing.T) {
	c := tts.NewCache(1<<20, pcm.Mu)
	defer c.Close()
	err := ready(t, c.Clip(t.Context(), &panicky{}, tts.Request{Text: "a"}))
	require.ErrorContains(t, err, "boom")
	_, err = tts.Resilient(&panicky{}).Synthesize(t.Context(), tts.Request{Text: "a"})
	require.ErrorContains(t, err, "boom")
}

func TestClipEndsWithoutAnErrorForNothingToSay(t *testing.T) {
	c := tts.NewCache(1<<20, pcm.Mu)
	defer c.Close()
	clip := c.Clip(t.Context(), &voice{name: "v", length: -1}, tts.Request{Text: "…"})
	require.NoError(t, ready(t, clip))
	require.Zero(t, clip.Len())
}
