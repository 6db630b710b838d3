package dtmf_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

const keys = "0123456789*#ABCD"

type packet struct {
	seq     uint16
	ts      uint32
	marker  bool
	payload []byte
	at      time.Duration
}

func (p packet) end() bool { return p.payload[1]&0x80 != 0 }

// A line writes packets as a sender does, with options for its habits.
type line struct {
	seq      uint16
	ts       uint32 // the RTP clock
	at       time.Duration
	interval time.Duration // between updates
	ends     int
	out      []packet
}

func newLine() *line {
	return &line{seq: 1000, ts: 50000, interval: 20 * time.Millisecond, ends: 3}
}

func (l *line) send(event byte, ts uint32, marker, end bool, duration int) {
	p := []byte{event, 10, 0, 0}
	if end {
		p[1] |= 0x80
	}
	binary.BigEndian.PutUint16(p[2:], uint16(duration))
	l.out = append(l.out, packet{l.seq, ts, marker, p, l.at})
	l.seq++
}

func (l *line) pass(d time.Duration) {
	l.at += d
	l.ts += uint32(d * 8000 / time.Second)
}

// press holds a key for on, then waits for gap. Audio goes on in the gap and
// uses sequence numbers.
func (l *line) press(key byte, on, gap time.Duration) {
	event := byte(strings.IndexByte(keys, key))
	start, base, first := l.at, l.ts, true
	for l.at-start < on {
		l.pass(l.interval)
		duration := int(l.ts - base)
		if duration > 0xFFFF {
			base += 0xFFFF
			duration -= 0xFFFF
		}
		l.send(event, base, first, false, duration)
		first = false
	}
	for range l.ends {
		l.send(event, base, false, true, int(l.ts-base))
	}
	for end := l.at + gap; l.at < end; {
		l.pass(20 * time.Millisecond)
		l.seq++
	}
}

const (
	on  = 100 * time.Millisecond
	gap = 100 * time.Millisecond
)

// keyed presses the keys in the usual way.
func keyed(digits string) []packet {
	l := newLine()
	for i := range len(digits) {
		l.press(digits[i], on, gap)
	}
	return l.out
}

func without(in []packet, drop func(i int, p packet) bool) []packet {
	var out []packet
	for i, p := range in {
		if !drop(i, p) {
			out = append(out, p)
		}
	}
	return out
}

func each(in []packet, change func(p *packet)) []packet {
	out := slices.Clone(in)
	for i := range out {
		out[i].payload = slices.Clone(out[i].payload)
		change(&out[i])
	}
	return out
}

func receive(r *dtmf.Receiver, in []packet) string {
	var out []byte
	for _, p := range in {
		if digit, ok := r.Packet(p.seq, p.ts, p.marker, p.payload, p.at); ok {
			out = append(out, digit)
		}
	}
	return string(out)
}

// firstEnds drops the ends of the first press.
func firstEnds(in []packet) []packet {
	first := in[0].ts
	return without(in, func(_ int, p packet) bool { return p.ts == first && p.end() })
}

func vectors() map[string]struct {
	in   []packet
	want string
} {
	type vector = struct {
		in   []packet
		want string
	}
	noMarker := func(p *packet) { p.marker = false }
	five, fiveSix := keyed("5"), keyed("56")

	late := slices.Clone(fiveSix)
	var lastEnd int
	for i, p := range late {
		if p.end() && p.ts == late[0].ts {
			lastEnd = i
		}
	}
	moved := late[lastEnd]
	late = slices.Insert(slices.Delete(late, lastEnd, lastEnd+1), lastEnd+1, moved)
	late[lastEnd+1].at = late[lastEnd].at

	var doubled []packet
	for _, p := range five {
		doubled = append(doubled, p, p)
	}

	reordered := slices.Clone(five)
	slices.Reverse(reordered[2:])

	long := newLine()
	long.press('5', 20*time.Second, gap)

	moving := newLine()
	for _, event := range []byte{5, 6} {
		for i := range 8 {
			moving.pass(20 * time.Millisecond)
			moving.send(event, moving.ts, i == 0, i > 4, min(i+1, 6)*160)
		}
		moving.pass(gap)
	}

	zeroTime := each(five, func(p *packet) { p.ts = 0 })

	wrap := newLine()
	wrap.seq, wrap.ts = 0xFFFE, 0xFFFFFF00
	wrap.press('5', on, gap)
	wrap.press('6', on, gap)

	fast := newLine()
	for _, key := range []byte("551") {
		fast.press(key, 40*time.Millisecond, 40*time.Millisecond)
	}

	tight := newLine()
	for _, key := range []byte("556") {
		tight.press(key, on, 0)
	}

	single := newLine()
	single.ends = 1
	single.press('5', on, gap)
	single.press('6', on, gap)

	slow := newLine()
	slow.interval = 50 * time.Millisecond
	slow.press('5', 200*time.Millisecond, gap)
	slow.press('6', 200*time.Millisecond, gap)

	return map[string]vector{
		"single":                     {five, "5"},
		"marker_lost":                {five[1:], "5"},
		"only_ends":                  {without(five, func(_ int, p packet) bool { return !p.end() }), "5"},
		"one_end":                    {five[len(five)-1:], "5"},
		"ends_lost_then_other":       {firstEnds(fiveSix), "56"},
		"same_twice":                 {keyed("55"), "55"},
		"same_twice_first_ends_lost": {firstEnds(keyed("55")), "55"},
		"ends_lost_no_more":          {firstEnds(five), "5"},
		"reordered_end":              {reordered, "5"},
		"late_end_after_next_digit":  {late, "56"},
		"duplicated":                 {doubled, "5"},
		"long_20s_segments":          {long.out, "5"},
		"marker_on_all":              {each(five, func(p *packet) { p.marker = true }), "5"},
		"no_marker":                  {each(fiveSix, noMarker), "56"},
		"timestamp_moves":            {moving.out, "56"},
		"zero_duration":              {each(keyed("55"), func(p *packet) { p.payload[2], p.payload[3] = 0, 0 }), "55"},
		"timestamp_zero":             {zeroTime, "5"},
		"wraps":                      {wrap.out, "56"},
		"fast_40ms":                  {fast.out, "551"},
		"back_to_back":               {tight.out, "556"},
		"one_end_sender":             {single.out, "56"},
		"update_50ms":                {slow.out, "56"},
		"event_code_32":              {each(five, func(p *packet) { p.payload[0] = 32 }), ""},

		// Beyond the 23 structural ones.
		"back_to_back_no_marker": {each(tight.out, noMarker), "556"},
		"moves_no_marker":        {each(moving.out, noMarker), "56"},
		"same_timestamp_always":  {each(keyed("565"), func(p *packet) { p.ts = 7 }), "565"},
		"lower_timestamp":        {append(keyed("5"), each(keyed("56"), func(p *packet) { p.seq += 50; p.ts -= 9000; p.at += time.Second })...), "556"},
		"long_segments_no_E":     {without(long.out, func(_ int, p packet) bool { return p.end() }), "5"},
	}
}

func TestReceiverVectors(t *testing.T) {
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			var r dtmf.Receiver
			require.Equal(t, v.want, receive(&r, v.in))
		})
	}
}

func TestReceiverUnderRandomLoss(t *testing.T) {
	for _, percent := range []int{1, 2, 5, 10, 20} {
		for seed := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, uint64(percent)))
			l, want := newLine(), make([]byte, 500)
			for i := range want {
				want[i] = keys[rng.IntN(len(keys))]
				l.press(want[i], time.Duration(60+rng.IntN(200))*time.Millisecond, time.Duration(60+rng.IntN(300))*time.Millisecond)
			}
			var r dtmf.Receiver
			got := receive(&r, without(l.out, func(int, packet) bool { return rng.IntN(100) < percent }))
			require.Equal(t, string(want), got, "%d %% lost", percent)
		}
	}
}

// Whatever the network does within 60 ms, each press is reported once and in
// order, as long as one of its packets arrives.
func TestReceiverProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9*#A-D]{1,12}`).Draw(t, "digits")
		l := newLine()
		l.seq, l.ts = rapid.Uint16().Draw(t, "seq"), rapid.Uint32().Draw(t, "ts")
		l.ends = rapid.IntRange(1, 3).Draw(t, "ends")
		for i := range len(digits) {
			l.press(digits[i], time.Duration(rapid.IntRange(3, 30).Draw(t, "on"))*20*time.Millisecond, 100*time.Millisecond)
		}
		var net []packet
		for _, p := range l.out {
			p.at += time.Duration(rapid.IntRange(0, 60).Draw(t, "delay")) * time.Millisecond
			net = append(net, p)
			if rapid.IntRange(0, 9).Draw(t, "copy") == 0 {
				p.at += time.Duration(rapid.IntRange(0, 30).Draw(t, "later")) * time.Millisecond
				net = append(net, p)
			}
		}
		slices.SortStableFunc(net, func(a, b packet) int { return int(a.at - b.at) })
		var r dtmf.Receiver
		require.Equal(t, digits, receive(&r, net))
	})
}

func TestReceiverIsActiveWhileTheEventRuns(t *testing.T) {
	var r dtmf.Receiver
	require.False(t, r.Active(0))
	in := keyed("5")
	for _, p := range in {
		r.Packet(p.seq, p.ts, p.marker, p.payload, p.at)
		require.Equal(t, !p.end(), r.Active(p.at))
		if !p.end() {
			require.True(t, r.Active(p.at+119*time.Millisecond))
			require.False(t, r.Active(p.at+120*time.Millisecond), "without packets the event is over")
		}
	}
	late := in[2]
	r.Packet(late.seq, late.ts, late.marker, late.payload, in[len(in)-1].at)
	require.False(t, r.Active(in[len(in)-1].at), "a late packet does not revive it")
}

func TestReceiverResets(t *testing.T) {
	var r dtmf.Receiver
	require.Equal(t, "5", receive(&r, keyed("5")))
	require.Empty(t, receive(&r, keyed("5")))
	r.Reset()
	require.Equal(t, "5", receive(&r, keyed("5")))
}

func TestReceiverIgnoresRubbish(t *testing.T) {
	var r dtmf.Receiver
	for _, payload := range [][]byte{nil, {5}, {5, 0, 0}, {16, 0, 0, 0}, {255, 255, 255, 255}} {
		_, ok := r.Packet(1, 1, true, payload, 0)
		require.False(t, ok)
		require.False(t, r.Active(0))
	}
	digit, ok := r.Packet(2, 1, true, []byte{11, 0x0A, 0, 160, 1, 2, 3, 4}, 0)
	require.True(t, ok, "what follows the event is ignored")
	require.Equal(t, byte('#'), digit)
}

func TestReceiverDoesNotAllocate(t *testing.T) {
	var r dtmf.Receiver
	in := keyed("159")
	require.Zero(t, testing.AllocsPerRun(50, func() {
		for _, p := range in {
			r.Packet(p.seq, p.ts, p.marker, p.payload, p.at)
			r.Active(p.at)
		}
	}))
}

func FuzzReceiver(f *testing.F) {
	var seed []byte
	for _, p := range keyed("5#") {
		seed = binary.BigEndian.AppendUint16(seed, p.seq)
		seed = binary.BigEndian.AppendUint32(seed, p.ts)
		seed = append(seed, 20, 4)
		seed = append(seed, p.payload...)
	}
	f.Add(seed)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 2, 5, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var r dtmf.Receiver
		var at time.Duration
		for len(in) >= 8 {
			seq, ts := binary.BigEndian.Uint16(in), binary.BigEndian.Uint32(in[2:])
			at += time.Duration(in[6]) * time.Millisecond
			n := min(int(in[7]&7), len(in)-8)
			digit, ok := r.Packet(seq, ts, in[7]&8 != 0, in[8:8+n], at)
			if ok && !strings.ContainsRune(keys, rune(digit)) {
				t.Fatalf("key %q", digit)
			}
			if ok && n < 4 {
				t.Fatal("key of a short packet")
			}
			in = in[8+n:]
		}
		r.Active(at)
	})
}

func TestKeyHeldOverANewSourceStaysOne(t *testing.T) {
	for _, c := range []struct {
		name   string
		change int // packet that the new source begins with
		want   string
	}{{"in the middle", 3, "5"}, {"between the ends", 7, "5"}, {"before it", 0, "5"}} {
		t.Run(c.name, func(t *testing.T) {
			var r dtmf.Receiver
			var got []byte
			take := func(seq uint16, ts uint32, marker bool, event, flags byte, duration uint16, at time.Duration) {
				if d, ok := r.Packet(seq, ts, marker, []byte{event, flags, byte(duration >> 8), byte(duration)}, at); ok {
					got = append(got, d)
				}
			}
			for i := range 9 {
				seq, ts := uint16(100+i), uint32(8000)
				if i >= c.change {
					seq, ts = uint16(7000+i), 990_000
				}
				if i == c.change {
					r.Reset()
				}
				flags := byte(10)
				if i >= 6 {
					flags |= 0x80
				}
				take(seq, ts, i == 0, 5, flags, uint16(min(i+1, 7)*160), time.Duration(i)*20*time.Millisecond)
			}
			require.Equal(t, c.want, string(got))
			// The same key again is another press.
			r.Reset()
			take(9000, 5000, true, 5, 10, 160, 300*time.Millisecond)
			require.Equal(t, c.want+"5", string(got))
		})
	}
}

func TestReceiverHoldsTheKey(t *testing.T) {
	var r dtmf.Receiver
	for _, p := range keyed("5") {
		r.From(1)
		r.Packet(p.seq, p.ts, p.marker, p.payload, p.at)
		require.Equal(t, !p.end(), r.Holds('5', p.at))
		require.False(t, r.Holds('6', p.at))
		require.False(t, r.Holds('5', p.at+120*time.Millisecond))
	}
}

// One press that is split between two sources, its packets in any order within
// the delay of the network, is one press, and so is each before and after it.
func TestReceiverOfTwoSourcesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringOfN(rapid.SampledFrom([]rune(keys)), 2, 8, -1).Draw(t, "digits")
		type sourced struct {
			packet
			source uint32
		}
		var net []sourced
		l := newLine()
		for i := range len(digits) {
			l.press(digits[i], time.Duration(rapid.IntRange(3, 20).Draw(t, "on"))*20*time.Millisecond, 200*time.Millisecond)
		}
		change := rapid.IntRange(1, len(l.out)-1).Draw(t, "change")
		shift := rapid.Uint32().Draw(t, "shift")
		for i, p := range l.out {
			source := uint32(1)
			if i >= change {
				source, p.ts, p.seq = 2, p.ts+shift, p.seq+20000
			}
			p.at += time.Duration(rapid.IntRange(0, 90).Draw(t, "delay")) * time.Millisecond
			net = append(net, sourced{p, source})
		}
		slices.SortStableFunc(net, func(a, b sourced) int { return int(a.at - b.at) })
		var r dtmf.Receiver
		r.From(1) // its sound was heard before
		var got []byte
		for _, p := range net {
			r.From(p.source)
			if d, ok := r.Packet(p.seq, p.ts, p.marker, p.payload, p.at); ok {
				got = append(got, d)
			}
		}
		require.Equal(t, digits, string(got), "change before packet %d", change)
	})
}

func TestKeyHeldOverManySourcesStaysOne(t *testing.T) {
	var r dtmf.Receiver
	var got []byte
	for i, p := range keyed("5") {
		source := uint32(i)
		r.From(source)
		p.seq, p.ts = p.seq+uint16(7777*i), p.ts+1<<20*source
		if d, ok := r.Packet(p.seq, p.ts, p.marker, p.payload, p.at); ok {
			got = append(got, d)
		}
	}
	require.Equal(t, "5", string(got))
}
