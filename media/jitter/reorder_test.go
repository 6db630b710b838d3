package jitter_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/jitter"
)

const ms = time.Millisecond

// packet holds its number in the payload too, so that mixed-up buffers show.
func packet(seq uint16, at time.Duration) jitter.Packet {
	return jitter.Packet{Seq: seq, TS: uint32(seq) * 160, Kind: 1, At: at, Payload: binary.BigEndian.AppendUint16(nil, seq)}
}

// pop takes all that can be delivered; holes appear as negative numbers.
func pop(t require.TestingT, r *jitter.Reorder, at time.Duration) []int {
	var out []int
	for {
		p, missing, ok := r.Pop(at)
		if !ok {
			return out
		}
		if missing > 0 {
			out = append(out, -missing)
		}
		require.Equal(t, p.Seq, binary.BigEndian.Uint16(p.Payload))
		out = append(out, int(p.Seq))
	}
}

func TestOrder(t *testing.T) {
	type step struct {
		seq  int // -1: nothing is pushed
		at   time.Duration
		want []int
	}
	for name, steps := range map[string][]step{
		"in order":           {{1, 0, []int{1}}, {2, 20 * ms, []int{2}}, {3, 40 * ms, []int{3}}},
		"two swapped":        {{1, 0, []int{1}}, {3, 20 * ms, nil}, {2, 25 * ms, []int{2, 3}}},
		"lost":               {{1, 0, []int{1}}, {3, 40 * ms, nil}, {4, 60 * ms, nil}, {-1, 79 * ms, nil}, {-1, 80 * ms, []int{-1, 3, 4}}},
		"two holes":          {{1, 0, []int{1}}, {3, 40 * ms, nil}, {5, 70 * ms, nil}, {-1, 80 * ms, []int{-1, 3}}, {-1, 110 * ms, []int{-1, 5}}},
		"late":               {{1, 0, []int{1}}, {3, 0, nil}, {-1, 40 * ms, []int{-1, 3}}, {2, 41 * ms, nil}, {4, 60 * ms, []int{4}}},
		"twice":              {{1, 0, []int{1}}, {1, 1 * ms, nil}, {2, 20 * ms, []int{2}}},
		"twice, waiting":     {{1, 0, []int{1}}, {3, 0, nil}, {3, 0, nil}, {2, 1 * ms, []int{2, 3}}},
		"wrap":               {{65534, 0, []int{65534}}, {0, 20 * ms, nil}, {65535, 21 * ms, []int{65535, 0}}, {1, 40 * ms, []int{1}}},
		"many lost":          {{1, 0, []int{1}}, {500, 0, nil}, {-1, 40 * ms, []int{-498, 500}}},
		"stray":              {{1, 0, []int{1}}, {30000, 20 * ms, nil}, {2, 21 * ms, []int{2}}},
		"jump":               {{1, 0, []int{1}}, {30000, 20 * ms, nil}, {30001, 40 * ms, []int{30001}}, {30002, 60 * ms, []int{30002}}},
		"jump back":          {{30000, 0, []int{30000}}, {7, 20 * ms, nil}, {8, 40 * ms, []int{8}}, {9, 60 * ms, []int{9}}},
		"jump from a hole":   {{1, 0, []int{1}}, {3, 20 * ms, nil}, {30000, 21 * ms, nil}, {30001, 22 * ms, []int{-1, 3, 30001}}},
		"stray number 0":     {{30000, 0, []int{30000}}, {0, 1 * ms, nil}, {30001, 20 * ms, []int{30001}}},
		"old, within 100":    {{500, 0, []int{500}}, {450, 1 * ms, nil}, {501, 20 * ms, []int{501}}},
		"first out of order": {{11, 0, []int{11}}, {10, 1 * ms, nil}, {12, 20 * ms, []int{12}}},
	} {
		t.Run(name, func(t *testing.T) {
			var r jitter.Reorder
			for i, s := range steps {
				if s.seq >= 0 {
					r.Push(packet(uint16(s.seq), s.at))
				}
				require.Equal(t, s.want, pop(t, &r, s.at), "step %d", i)
			}
		})
	}
}

func TestRestartDeliversWhatWaits(t *testing.T) {
	var r jitter.Reorder
	r.Push(packet(1, 0))
	require.Equal(t, []int{1}, pop(t, &r, 0))
	r.Push(packet(5, 0))
	r.Push(packet(3, 0))
	require.Empty(t, pop(t, &r, 0))
	r.Restart()
	require.Equal(t, []int{-1, 3, -1, 5}, pop(t, &r, 0))
	r.Push(packet(2, 0))
	require.Equal(t, []int{2}, pop(t, &r, 0), "a stream of its own, though its number is lower")
	require.Equal(t, uint64(1), r.Counts().Resyncs)
}

func TestRestartKeepsTheOrderOfStreams(t *testing.T) {
	var r jitter.Reorder
	r.Push(packet(100, 0))
	require.Equal(t, []int{100}, pop(t, &r, 0))
	r.Push(packet(102, 0))
	r.Restart()
	r.Push(packet(7, 0))
	r.Push(packet(8, 0))
	require.Equal(t, []int{-1, 102, 7, 8}, pop(t, &r, 0))
}

func TestAFullLineDoesNotWait(t *testing.T) {
	var r jitter.Reorder
	r.Push(packet(1, 0))
	pop(t, &r, 0)
	for seq := range uint16(12) {
		r.Push(packet(3+seq, 0))
	}
	r.Push(packet(99, 0)) // one too many
	require.Equal(t, []int{-1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, pop(t, &r, 0))
	require.Equal(t, uint64(1), r.Counts().Rejected)
}

func TestCounts(t *testing.T) {
	var r jitter.Reorder
	for _, seq := range []uint16{1, 3, 2, 2, 3, 6} {
		r.Push(packet(seq, 0))
		pop(t, &r, 0)
	}
	pop(t, &r, 40*ms)
	r.Push(packet(4, 41*ms))
	r.Push(jitter.Packet{Seq: 7, Payload: make([]byte, jitter.MaxPayload+1)})
	require.Equal(t, jitter.Counts{Received: 8, Delivered: 4, Lost: 2, Late: 1, Duplicate: 2, Reordered: 1, Rejected: 1}, r.Counts())
	require.Zero(t, r.Waiting())
}

func TestReorderDoesNotAllocate(t *testing.T) {
	var r jitter.Reorder
	payload := make([]byte, 160)
	seq, at := uint16(0), time.Duration(0)
	require.Zero(t, testing.AllocsPerRun(500, func() {
		for _, d := range []uint16{0, 2, 1, 4} { // the fourth is lost
			r.Push(jitter.Packet{Seq: seq + d, At: at, Payload: payload})
			for {
				if _, _, ok := r.Pop(at); !ok {
					break
				}
			}
			at += 20 * ms
		}
		seq += 5
	}))
}

// Whatever the network does, what is delivered is in order, nothing twice,
// nothing late by more than the wait, and nothing that came in time is missing.
func TestReorderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		first := rapid.Uint16().Draw(t, "first")
		loss, copies := rapid.IntRange(0, 30).Draw(t, "loss"), rapid.IntRange(0, 20).Draw(t, "copies")
		delay := rapid.IntRange(0, 39).Draw(t, "delay")
		const count = 200
		var net []jitter.Packet
		sent := 0
		for i := range uint16(count) {
			if i > 0 && rng.IntN(100) < loss {
				continue
			}
			sent++
			at := time.Duration(i) * 20 * ms
			if i > 0 {
				at += time.Duration(rng.IntN(delay+1)) * ms
			}
			net = append(net, packet(first+i, at))
			if rng.IntN(100) < copies {
				net = append(net, packet(first+i, at+time.Duration(rng.IntN(100))*ms))
			}
		}
		slices.SortStableFunc(net, func(a, b jitter.Packet) int { return int(a.At - b.At) })
		var r jitter.Reorder
		next, got := first, 0
		take := func(now time.Duration) {
			for {
				p, missing, ok := r.Pop(now)
				if !ok {
					return
				}
				require.Equal(t, next+uint16(missing), p.Seq)
				require.Less(t, now-p.At, jitter.Wait+20*ms)
				next, got = p.Seq+1, got+1
			}
		}
		for now, i := time.Duration(0), 0; now < (count+10)*20*ms; now += 5 * ms {
			for ; i < len(net) && net[i].At <= now; i++ {
				r.Push(net[i])
				take(now)
			}
			take(now)
		}
		require.Equal(t, sent, got, "a delay below the wait loses nothing")
		c := r.Counts()
		require.Equal(t, uint64(len(net)), c.Received)
		require.Equal(t, c.Received, c.Delivered+c.Late+c.Duplicate+c.Rejected)
	})
}

func FuzzReorder(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 3, 10, 0, 2, 20, 255, 255, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		var r jitter.Reorder
		at := time.Duration(0)
		for ; len(in) >= 3; in = in[3:] {
			at += time.Duration(in[2]&63) * ms
			if in[2]&128 != 0 {
				r.Restart()
			}
			r.Push(packet(binary.BigEndian.Uint16(in), at))
			pop(t, &r, at)
			if r.Waiting() > 12 {
				t.Fatal("too many wait")
			}
		}
		pop(t, &r, at+jitter.Wait)
		if r.Waiting() != 0 {
			t.Fatal("somebody waits for ever")
		}
		if c := r.Counts(); c.Received != c.Delivered+c.Late+c.Duplicate+c.Rejected {
			t.Fatalf("%+v", c)
		}
	})
}
