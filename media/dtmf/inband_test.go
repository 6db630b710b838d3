package dtmf_test

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

var update = flag.Bool("update", false, "write golden files")

const document = "../../docs/dtmf.md"

// A peer is spandsp's detector in a process of its own.
type peer struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// spandsp builds and starts it; nil where it is not installed.
func spandsp(t *testing.T) *peer {
	t.Helper()
	program := filepath.Join(t.TempDir(), "spandsp")
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-o", program, "testdata/spandsp.c", "-lspandsp").CombinedOutput(); err != nil {
		require.Empty(t, os.Getenv("CI"), "gcc and libspandsp-dev are needed: %s", out)
		t.Logf("compared with nothing: gcc and libspandsp-dev are needed: %v", err)
		return nil
	}
	cmd := exec.CommandContext(t.Context(), program)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &peer{in: in, out: bufio.NewReader(out)}
}

func (p *peer) detect(t *testing.T, x []int16) (found []finding) {
	t.Helper()
	require.NoError(t, binary.Write(p.in, binary.NativeEndian, int32(len(x))))
	require.NoError(t, binary.Write(p.in, binary.NativeEndian, x))
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	for f := strings.Fields(line); len(f) >= 2; f = f[2:] {
		at, err := strconv.Atoi(f[0])
		require.NoError(t, err)
		found = append(found, finding{at, f[1][0]})
	}
	return found
}

// percent writes how many of all there are, never rounded up to all.
func percent(n, all int) string {
	if all == 0 || n == all {
		return "100"
	}
	return fmt.Sprintf("%.2f", float64(n*10000/all)/100)
}

// The corpus, ours and spandsp's, in a table of docs/dtmf.md. With -update the
// table is written.
func TestInbandCorpus(t *testing.T) {
	t.Parallel()
	theirs := spandsp(t)
	table := []string{
		"| | material | keys | detected % | extra | spandsp % | extra |",
		"|---|---|---:|---:|---:|---:|---:|",
	}
	var all, allTheirs score
	for _, r := range rows() {
		var mine, other score
		for i, law := range []pcm.Law{pcm.Mu, pcm.A} {
			tape := r.make(uint64(100*i + 1))
			x := tape.samples(law)
			found, releases := detect(x, tape.lost)
			require.Len(t, found, releases, "%s: each press has its end", r.name)
			mine.judge(tape, found)
			if theirs != nil {
				other.judge(tape, theirs.detect(t, x))
			}
		}
		switch r.verdict {
		case accept:
			all.add(mine)
			allTheirs.add(other)
			require.GreaterOrEqual(t, 1000*mine.right, 990*mine.keys, r.name)
			require.Zero(t, mine.extra, r.name)
		case reject:
			require.Zero(t, mine.extra, r.name)
		case info, talk:
		}
		if theirs != nil {
			require.GreaterOrEqual(t, mine.right, other.right, r.name)
			require.LessOrEqual(t, mine.extra, other.extra, r.name)
		}
		table = append(table, mine.line(string(r.verdict), r.name, other))
	}
	require.GreaterOrEqual(t, 1000*all.right, 999*all.keys, "within the limits")
	table = append(table, all.line("**detect**", "**all within the limits**", allTheirs))
	slices.Sort(all.delays)
	p50, p99 := all.delays[len(all.delays)/2], all.delays[len(all.delays)*99/100]
	require.LessOrEqual(t, p99, 80*time.Millisecond)
	t.Logf("\n%s\ndelay p50 %v p99 %v", strings.Join(table, "\n"), p50, p99)
	golden(t, "corpus", strings.Join(table, "\n"), theirs != nil)
}

func (s *score) add(o score) {
	s.keys, s.right, s.extra, s.seconds = s.keys+o.keys, s.right+o.right, s.extra+o.extra, s.seconds+o.seconds
	s.delays = append(s.delays, o.delays...)
}

func (s *score) line(verdict, name string, other score) string {
	keys, right, theirs := strconv.Itoa(s.keys), percent(s.right, s.keys), percent(other.right, s.keys)
	if s.keys == 0 {
		keys, right, theirs = "0", "", ""
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %d | %s | %d |", verdict, name, keys, right, s.extra, theirs, other.extra)
}

// golden compares a part of the document, without spandsp's columns where it is
// not there.
func golden(t *testing.T, part, want string, whole bool) {
	t.Helper()
	b, err := os.ReadFile(document)
	require.NoError(t, err)
	begin, end := "<!-- "+part+" -->\n", "\n<!-- end of "+part+" -->"
	before, rest, ok := strings.Cut(string(b), begin)
	require.True(t, ok, part)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok, part)
	if *update && whole {
		require.NoError(t, os.WriteFile(document, []byte(before+begin+want+end+after), 0o600))
		return
	}
	require.Equal(t, ours(want), ours(have), "write it with: go test ./media/dtmf -update")
}

// ours is a table without the last two columns: another build of spandsp may
// differ by a key.
func ours(table string) string {
	lines := strings.Split(table, "\n")
	for i, l := range lines {
		if cells := strings.Split(l, "|"); len(cells) == 9 {
			lines[i] = strings.Join(cells[:6], "|")
		}
	}
	return strings.Join(lines, "\n")
}

// Nobody's talk, music or signal is a key. DTMF_TALK_HOURS says how much of it
// is heard, talkHours otherwise, each of it at three speeds and three levels.
func TestInbandTalkOff(t *testing.T) {
	t.Parallel()
	hours := talkHours
	if text := os.Getenv("DTMF_TALK_HOURS"); text != "" {
		var err error
		hours, err = strconv.ParseFloat(text, 64)
		require.NoError(t, err)
	}
	theirs := spandsp(t)
	hear := func(name string, x []float64) (heard score) {
		var other score
		for _, speed := range []float64{.8, 1, 1.25} {
			faster := stretched(x, speed)
			for _, gain := range []float64{.4, 1, 2} {
				tape := &tape{pcm: make([]float64, len(faster))}
				for i, v := range faster {
					tape.pcm[i] = gain * v
				}
				y := tape.samples(pcm.Mu)
				found, _ := detect(y, nil)
				heard.judge(tape, found)
				if theirs != nil && gain == 1 {
					other.judge(tape, theirs.detect(t, y))
				}
			}
		}
		require.Zero(t, heard.extra, name)
		t.Logf("%-20s %5.2f h, none; spandsp %d in %.2f h", name, heard.seconds/3600, other.extra, other.seconds/3600)
		return heard
	}
	var all score
	stretch := min(300, hours*3600) // seconds at once
	for i := range max(1, int(hours*3600/stretch)) {
		all.add(hear("synthetic speech", speech(uint64(i), stretch)))
		all.add(hear("music and signals", music(uint64(i), stretch)))
	}
	for _, s := range speakers {
		if _, err := exec.LookPath(s.program); err != nil {
			require.Empty(t, os.Getenv("CI"), "%s is not installed", s.program)
			t.Logf("%s is not installed", s.program)
			continue
		}
		for i, voice := range s.voices {
			for n, rest := 0, s.share*hours*3600; rest > 0; n, rest = n+1, rest-stretch {
				all.add(hear(s.program+" "+voice, s.read(t, voice, uint64(100*n+i), min(rest, stretch))))
			}
		}
	}
	t.Logf("%.1f h without a key", all.seconds/3600)
}

// The length of the frames makes no difference.
func TestInbandFrameLengths(t *testing.T) {
	tape := newTape(3).each(2, plain(), sound{level: -20, on: 40, rest: 40})
	x := tape.samples(pcm.Mu)
	hear := func(frame func() int) (keys []dtmf.Key, at []int) {
		var d dtmf.Inband
		for n := 0; n < len(x); {
			end := min(n+frame(), len(x))
			for n < end {
				m, key := d.Frame(x[n:end])
				n += m
				if key.Digit != 0 {
					keys, at = append(keys, key), append(at, n)
				}
			}
		}
		return keys, at
	}
	keys, at := hear(func() int { return len(x) })
	require.Len(t, keys, 2*len(tape.presses))
	rapid.Check(t, func(r *rapid.T) {
		k, a := hear(func() int { return rapid.IntRange(1, 480).Draw(r, "frame") })
		require.Equal(r, keys, k)
		require.Equal(r, at, a)
	})
}

// A key ends, whatever is lost, and nothing is told twice.
func TestInbandLost(t *testing.T) {
	for _, c := range []struct {
		name       string
		before, n  int // ms of tone, and lost
		after      int // ms of tone
		rest       int // ms of silence
		down, ends int
	}{
		{"within", 100, 40, 100, 100, 1, 1},
		{"long, within", 100, 100, 100, 100, 2, 2},
		{"end", 100, 40, 0, 100, 1, 1},
		{"very long", 100, 5000, 0, 0, 1, 1},
		{"beginning", 0, 40, 100, 100, 1, 1},
		{"nothing", 0, 1000, 0, 100, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d dtmf.Inband
			down, ends := 0, 0
			hear := func(x []int16) {
				for again := true; again; {
					n, key := d.Frame(x)
					x = x[n:]
					switch {
					case key.Down:
						down++
					case key.Digit != 0:
						ends++
					}
					again = key.Digit != 0 || len(x) > 0
				}
			}
			tone := dtmf.Tone('5', time.Duration(c.before+c.n+c.after)*time.Millisecond)
			hear(make([]int16, 1600))
			hear(tone[:8*c.before])
			d.Lost(8 * c.n)
			hear(tone[8*(c.before+c.n):])
			hear(make([]int16, 8*c.rest))
			require.Equal(t, c.down, down)
			require.Equal(t, c.ends, ends)
			require.False(t, d.Holds('5'))
		})
	}
}

// Any sound and any loss: presses and ends alternate, and nothing is read beyond.
func FuzzInband(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add(binaryTone('7'))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d dtmf.Inband
		var down byte
		for len(b) > 1 {
			n := min(len(b), 1+int(b[0])*4)
			x := make([]int16, n/2)
			for i := range x {
				x[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
			}
			if b[0]%16 == 0 {
				d.Lost(int(b[1]) * 16)
			}
			b = b[n:]
			for again := true; again; {
				m, key := d.Frame(x)
				x = x[m:]
				switch {
				case key.Down:
					down = key.Digit
				case key.Digit != 0:
					require.Equal(t, down, key.Digit)
					down = 0
				}
				again = key.Digit != 0 || len(x) > 0
			}
			require.True(t, down == 0 || d.Holds(down))
		}
	})
}

func binaryTone(digit byte) (b []byte) {
	for _, v := range dtmf.Tone(digit, 100*time.Millisecond) {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func TestInbandDoesNotAllocate(t *testing.T) {
	x := newTape(1).each(1, plain()).samples(pcm.Mu)
	var d dtmf.Inband
	at := 0
	require.Zero(t, testing.AllocsPerRun(5000, func() {
		if at += 160; at+160 > len(x) {
			at = 0
		}
		if at%4800 == 0 {
			d.Lost(160)
		}
		for frame := x[at : at+160]; len(frame) > 0; {
			n, _ := d.Frame(frame)
			frame = frame[n:]
		}
	}))
}

// BenchmarkInband hears 20 ms.
func BenchmarkInband(b *testing.B) {
	for _, c := range []struct {
		name  string
		sound []float64
	}{
		{"silence", make([]float64, 80000)},
		{"speech", speech(1, 30)},
		{"music", music(1, 30)},
		{"noise", newTape(1).each(4, plain()).behind(newTape(1).white(-15)).pcm},
		{"keys", newTape(1).each(4, plain()).pcm},
	} {
		x := (&tape{pcm: c.sound}).samples(pcm.Mu)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var d dtmf.Inband
			at := 0
			for b.Loop() {
				if at += 160; at+160 > len(x) {
					at = 0
				}
				for frame := x[at : at+160]; len(frame) > 0; {
					n, _ := d.Frame(frame)
					frame = frame[n:]
				}
			}
		})
	}
}
