package admin

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func numbers(f *Feed, after uint64) []uint64 {
	var out []uint64
	for e := range f.Watch(context.Background(), after) {
		out = append(out, e.ID)
	}
	return out
}

// Whoever reads in pieces, and comes back with the number of the last event that
// he got, gets every one that is kept, once and in order.
func TestFeedLosesNothingWithinTheRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFeed()
		published, seen := uint64(0), uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				for range rapid.IntRange(1, 700).Draw(t, "events") {
					f.Publish("note", map[string]uint64{"n": published})
					published++
				}
			},
			"read": func(t *rapid.T) {
				most := rapid.IntRange(1, 1500).Draw(t, "most")
				want := max(seen+1, published-min(published, feedEvents)+1)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if seen == published {
					cancel() // there is nothing to wait for
				}
				for e := range f.Watch(ctx, seen) {
					require.Equal(t, want, e.ID)
					require.Equal(t, `{"n":`+strconv.FormatUint(e.ID-1, 10)+`}`, string(e.Data))
					seen, want = e.ID, want+1
					if most--; most == 0 || seen == published {
						cancel()
					}
				}
			},
		})
		f.Close()
		f.Publish("note", 1)
		rest := numbers(f, seen)
		if seen < published {
			require.Equal(t, published, rest[len(rest)-1], "what was published before the end arrives")
		} else {
			require.Empty(t, rest)
		}
		require.True(t, f.over(published))
	})
}

func TestWatchersGetWhatIsPublishedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed()
		var all sync.WaitGroup
		got := make([][]uint64, 5)
		for i := range got {
			all.Go(func() { got[i] = numbers(f, 0) })
		}
		var want []uint64
		for i := range uint64(3000) {
			f.Publish("note", i)
			want = append(want, i+1)
			synctest.Wait() // nobody falls behind
		}
		f.Close()
		all.Wait()
		for _, g := range got {
			require.Equal(t, want, g)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range f.Watch(ctx, 0) {
				t.Error("nothing was published")
			}
		}()
		synctest.Wait()
		cancel()
		<-done
		f.Publish("note", 1)
		for range f.Watch(ctx, 0) {
			t.Error("the context had ended")
		}
		for e := range f.Watch(t.Context(), 0) {
			require.Equal(t, uint64(1), e.ID)
			break
		}
		f.Close()
		f.Close()
		require.Equal(t, []uint64{1}, numbers(f, 0))
		require.Empty(t, numbers(f, 1))
		require.Equal(t, []uint64{1}, numbers(f, 77), "a number that there was not yet")
	})
}

func TestSlowWatcherIsEndedAndNobodyWaitsForHim(t *testing.T) {
	f := NewFeed()
	f.Publish("note", 0)
	n := 0
	for e := range f.Watch(t.Context(), 0) {
		require.Equal(t, uint64(1), e.ID)
		n++
		for range feedEvents + 1 {
			f.Publish("note", 0)
		}
	}
	require.Equal(t, 1, n)
	f.Close()
	rest := numbers(f, 1)
	require.Len(t, rest, feedEvents)
	require.True(t, slices.IsSorted(rest))
}

func TestFeedIsBoundedInBytes(t *testing.T) {
	f := NewFeed()
	large := strings.Repeat("x", 3<<20)
	for range 5 {
		f.Publish("trace", large)
	}
	f.Publish("trace", strings.Repeat("y", feedBytes+1))
	f.Close()
	require.Equal(t, []uint64{6}, numbers(f, 0), "the newest is kept, however large")
	f = NewFeed()
	for range 5 {
		f.Publish("trace", large)
	}
	f.Close()
	require.Equal(t, []uint64{4, 5}, numbers(f, 0))
}

func TestDataThatIsNoJSON(t *testing.T) {
	f := NewFeed()
	f.Publish("turn", math.NaN())
	f.Publish("turn", map[string]string{"text": "a\nb\u2028"})
	f.Close()
	var data []string
	for e := range f.Watch(t.Context(), 0) {
		data = append(data, string(e.Data))
	}
	require.Equal(t, []string{`{"error":"json: unsupported value: NaN"}`, `{"text":"a\nb\u2028"}`}, data)
}
