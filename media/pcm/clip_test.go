package pcm_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func TestClipReadsWhatWasAppended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		law := rapid.SampledFrom([]pcm.Law{pcm.Mu, pcm.A}).Draw(t, "law")
		read := rapid.SampledFrom([]pcm.Law{pcm.Mu, pcm.A}).Draw(t, "read")
		clip := pcm.NewClip(law)
		var want []byte
		for range rapid.IntRange(0, 6).Draw(t, "appends") {
			samples := make([]int16, rapid.IntRange(0, 6000).Draw(t, "n"))
			for i := range samples {
				samples[i] = int16(i*37 + len(want))
			}
			require.NoError(t, clip.Append(samples))
			code := make([]byte, len(samples))
			law.Encode(code, samples)
			want = append(want, code...)
		}
		pcm.Transcode(want, want, law, read)
		closed := rapid.Bool().Draw(t, "closed")
		if closed {
			clip.Close(nil)
			require.Equal(t, len(want), clip.Size(), "nothing is held in vain")
		}
		require.Equal(t, len(want), clip.Len())
		off := rapid.IntRange(-5, len(want)+5).Draw(t, "off")
		dst := make([]byte, rapid.IntRange(0, len(want)+10).Draw(t, "dst"))
		n, end := clip.Read(off, dst, read)
		from := max(0, off)
		expect := min(len(dst), max(0, len(want)-from))
		require.Equal(t, expect, n)
		require.True(t, bytes.Equal(want[min(from, len(want)):][:n], dst[:n]))
		require.Equal(t, closed && from+n >= len(want), end)
	})
}

// Readers follow a writer without any synchronisation of their own; the race
// detector watches.
func TestClipIsReadWhileItGrows(t *testing.T) {
	clip := pcm.NewClip(pcm.Mu)
	const total = 30000
	var wg sync.WaitGroup
	for reader := range 8 {
		wg.Go(func() {
			law := pcm.Law(reader % 2)
			buf, off := make([]byte, 160), 0
			for {
				n, end := clip.Read(off, buf, law)
				var sample [160]int16
				pcm.Mu.Decode(sample[:], buf[:n])
				if law == pcm.Mu {
					for i := range n {
						if sample[i] != expectAt(off+i) {
							t.Errorf("sample %d is %d", off+i, sample[i])
							return
						}
					}
				}
				off += n
				if end {
					if off != total {
						t.Errorf("ended after %d samples", off)
					}
					return
				}
				if n == 0 {
					// Ready is how those wait that may.
					_ = clip.Ready(t.Context(), off+1)
				}
			}
		})
	}
	for at := 0; at < total; {
		n := min(1+at%701, total-at)
		samples := make([]int16, n)
		for i := range samples {
			samples[i] = expectAt(at + i)
		}
		require.NoError(t, clip.Append(samples))
		at += n
	}
	clip.Close(nil)
	wg.Wait()
}

// expectAt is a value that the mu-law does not change.
func expectAt(i int) int16 {
	var out [1]int16
	pcm.Mu.Decode(out[:], []byte{byte(i*7 | 0x80)})
	return out[0]
}

func TestClipReadDoesNotAllocate(t *testing.T) {
	clip := pcm.NewClip(pcm.Mu)
	require.NoError(t, clip.Append(make([]int16, 20000)))
	buf := make([]byte, 160)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		clip.Read(4000, buf, pcm.A)
		clip.Read(4000, buf, pcm.Mu)
	}))
}

func TestClipEndsOnce(t *testing.T) {
	broken := errors.New("broken")
	clip := pcm.NewClip(pcm.A)
	require.NoError(t, clip.Append(make([]int16, 10)))
	require.False(t, clip.Closed())
	require.NoError(t, clip.Err())
	clip.Close(broken)
	clip.Close(nil)
	require.True(t, clip.Closed())
	require.ErrorIs(t, clip.Err(), broken)
	require.ErrorIs(t, clip.Append(make([]int16, 1)), pcm.ErrClosed)
	n, end := clip.Read(0, make([]byte, 10), pcm.A)
	require.Equal(t, 10, n)
	require.True(t, end, "what was appended stays audible")
	require.Equal(t, pcm.A, clip.Law())
}

func TestEmptyClipEndsAtOnce(t *testing.T) {
	clip := pcm.NewClip(pcm.Mu)
	_, end := clip.Read(0, make([]byte, 160), pcm.Mu)
	require.False(t, end)
	clip.Close(nil)
	n, end := clip.Read(0, make([]byte, 160), pcm.Mu)
	require.Zero(t, n)
	require.True(t, end)
}

func TestClipIsBounded(t *testing.T) {
	clip := pcm.NewClip(pcm.Mu)
	minute := make([]int16, 60*pcm.Rate)
	for range 60 {
		require.NoError(t, clip.Append(minute))
	}
	require.ErrorIs(t, clip.Append(minute[:1]), pcm.ErrFull)
	require.Equal(t, pcm.MaxClip, clip.Duration())
}

func TestReady(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		act  func(*pcm.Clip)
		want error
		at   time.Duration
	}{
		"enough":          {func(c *pcm.Clip) { _ = c.Append(make([]int16, 100)) }, nil, time.Second},
		"closed early":    {func(c *pcm.Clip) { c.Close(nil) }, nil, time.Second},
		"failed":          {func(c *pcm.Clip) { c.Close(broken) }, broken, time.Second},
		"not enough":      {func(c *pcm.Clip) { _ = c.Append(make([]int16, 99)) }, context.DeadlineExceeded, 5 * time.Second},
		"enough, then no": {func(c *pcm.Clip) { _ = c.Append(make([]int16, 100)); c.Close(broken) }, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				clip, start := pcm.NewClip(pcm.Mu), time.Now()
				time.AfterFunc(time.Second, func() { tc.act(clip) })
				require.ErrorIs(t, clip.Ready(ctx, 100), tc.want)
				require.Equal(t, tc.at, time.Since(start))
			})
		})
	}
}

type sourceFunc func(p []int16) (int, error)

func (f sourceFunc) Read(p []int16) (int, error) { return f(p) }

func TestFill(t *testing.T) {
	clip := pcm.NewClip(pcm.Mu)
	require.NoError(t, pcm.Fill(t.Context(), clip, &sound{samples: make([]int16, 5000), piece: 700}))
	require.Equal(t, 5000, clip.Len())
	require.True(t, clip.Closed())
	require.NoError(t, clip.Err())
}

func TestFillReportsWhyItEnded(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		src  pcm.Source
		want error
	}{
		"error":       {&sound{samples: make([]int16, 100), err: broken}, broken},
		"panic":       {sourceFunc(func([]int16) (int, error) { panic("ouch") }), pcm.ErrPanic},
		"no progress": {sourceFunc(func([]int16) (int, error) { return 0, nil }), errors.New("x")},
	} {
		t.Run(name, func(t *testing.T) {
			clip := pcm.NewClip(pcm.Mu)
			err := pcm.Fill(t.Context(), clip, tc.src)
			require.Error(t, err)
			require.Equal(t, err, clip.Err())
			if name != "no progress" {
				require.ErrorIs(t, err, tc.want)
			}
		})
	}
}

// A synthesiser that hangs does not keep the clip's listeners waiting.
func TestFillEndsTheClipWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("caller hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		clip, release := pcm.NewClip(pcm.Mu), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- pcm.Fill(ctx, clip, sourceFunc(func(p []int16) (int, error) {
				<-release
				return len(p), nil
			}))
		}()
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		require.True(t, clip.Closed())
		require.ErrorIs(t, clip.Err(), gone)
		close(release)
		require.ErrorIs(t, <-done, gone)
		require.Zero(t, clip.Len())
	})
}
