package pcm_test

import (
	"errors"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// sound is Audio from a slice, handed out in pieces of at most piece samples.
type sound struct {
	rate    int
	samples []int16
	piece   int
	err     error // instead of io.EOF
}

func (s *sound) SampleRate() int { return s.rate }
func (s *sound) Close() error    { return nil }

func (s *sound) Read(p []int16) (int, error) {
	if len(s.samples) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		return 0, io.EOF
	}
	if s.piece > 0 {
		p = p[:min(len(p), s.piece)]
	}
	n := copy(p, s.samples)
	s.samples = s.samples[n:]
	return n, nil
}

func readAll(t require.TestingT, src pcm.Source) []int16 {
	var all []int16
	buf := make([]int16, 333)
	for {
		n, err := src.Read(buf)
		all = append(all, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
	}
}

// tone is a sine of the given level in dBm0.
func tone(hertz, level float64, rate, samples int) []int16 {
	out := make([]int16, samples)
	peak := 32768 * math.Pow(10, (level-3.14)/20)
	for i := range out {
		out[i] = int16(math.Round(peak * math.Sin(2*math.Pi*hertz*float64(i)/float64(rate))))
	}
	return out
}

// expand is the definition of G.711 tables 1a and 2a: the value that a code
// word stands for, in 16 bits.
func expand(law pcm.Law, code byte) int {
	if law == pcm.A {
		code ^= 0x55
		segment, step := int(code>>4&7), int(code&15)
		value := step<<4 + 8
		if segment > 0 {
			value = (value + 256) << (segment - 1)
		}
		if code&0x80 == 0 {
			return -value
		}
		return value
	}
	code = ^code
	value := (int(code&15)<<3+132)<<(code>>4&7) - 132
	if code&0x80 != 0 {
		return -value
	}
	return value
}

func TestG711ExpandsByTheStandard(t *testing.T) {
	for _, law := range []pcm.Law{pcm.Mu, pcm.A} {
		for code := range 256 {
			var got [1]int16
			require.Equal(t, 1, law.Decode(got[:], []byte{byte(code)}))
			require.Equal(t, expand(law, byte(code)), int(got[0]), "%v %#x", law, code)
		}
	}
}

// Every one of the 65536 inputs gets a code word no farther away than half a
// step of its segment, on its own side of zero.
func TestG711CompandsEveryValue(t *testing.T) {
	for _, law := range []pcm.Law{pcm.Mu, pcm.A} {
		src, code, back := make([]int16, 1<<16), make([]byte, 1<<16), make([]int16, 1<<16)
		for i := range src {
			src[i] = int16(i - 1<<15)
		}
		require.Equal(t, len(src), law.Encode(code, src))
		require.Equal(t, len(src), law.Decode(back, code))
		for i, s := range src {
			magnitude := math.Abs(float64(s))
			step := 8.0
			if law == pcm.A {
				step = 16
			}
			for edge := 256.0; edge <= magnitude+132; edge *= 2 {
				step = edge / 16
			}
			require.LessOrEqual(t, math.Abs(float64(s)-float64(back[i])), max(step, 16)+644*b2f(magnitude > 32124), "%v %d", law, s)
			if i > 0 {
				require.GreaterOrEqual(t, back[i], back[i-1], "%v is monotonic at %d", law, s)
			}
		}
	}
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func TestG711CodeWordsSurviveTheRoundTrip(t *testing.T) {
	for _, law := range []pcm.Law{pcm.Mu, pcm.A} {
		for code := range 256 {
			var value [1]int16
			var again [1]byte
			law.Decode(value[:], []byte{byte(code)})
			law.Encode(again[:], value[:])
			if law == pcm.Mu && code == 0x7F {
				require.Equal(t, byte(0xFF), again[0], "both zeros of the mu-law are one")
				continue
			}
			require.Equal(t, byte(code), again[0], "%v %#x", law, code)
		}
	}
}

func TestTranscode(t *testing.T) {
	for _, from := range []pcm.Law{pcm.Mu, pcm.A} {
		for _, to := range []pcm.Law{pcm.Mu, pcm.A} {
			src := make([]byte, 256)
			for i := range src {
				src[i] = byte(i)
			}
			dst := make([]byte, 300)
			require.Equal(t, 256, pcm.Transcode(dst, src, from, to))
			for i := range src {
				was, is := expand(from, src[i]), expand(to, dst[i])
				// The standard's tables are within one step of the coarser law.
				require.InDelta(t, was, is, math.Max(24, math.Abs(float64(was))/16), "%v to %v %#x", from, to, i)
			}
			// The A-law has no zero: its smallest step is the first of the mu-law.
			var silence [1]int16
			to.Decode(silence[:], []byte{transcodeOne(from.Silence(), from, to)})
			require.LessOrEqual(t, silence[0], int16(8))
		}
	}
}

func transcodeOne(b byte, from, to pcm.Law) byte {
	out := []byte{b}
	pcm.Transcode(out, out, from, to)
	return out[0]
}

func TestLawsHaveNamesAndSilence(t *testing.T) {
	require.Equal(t, "PCMU", pcm.Mu.String())
	require.Equal(t, "PCMA", pcm.A.String())
	for _, law := range []pcm.Law{pcm.Mu, pcm.A} {
		var code [1]byte
		law.Encode(code[:], []int16{0})
		require.Equal(t, law.Silence(), code[0])
	}
}

func TestLengthsDiffer(t *testing.T) {
	require.Equal(t, 2, pcm.Mu.Encode(make([]byte, 2), make([]int16, 5)))
	require.Equal(t, 2, pcm.A.Decode(make([]int16, 5), make([]byte, 2)))
	require.Equal(t, 3, pcm.Transcode(make([]byte, 3), make([]byte, 9), pcm.A, pcm.Mu))
	require.Zero(t, pcm.Mu.Encode(nil, nil))
}

func TestLevel(t *testing.T) {
	require.InDelta(t, pcm.Quietest, pcm.Level(nil), 0)
	require.InDelta(t, pcm.Quietest, pcm.Level(make([]int16, 160)), 0)
	for _, level := range []float64{0, -10, -16, -40} {
		require.InDelta(t, level, pcm.Level(tone(1000, level, 8000, 800)), 0.05)
	}
	// The digital milliwatt of G.711 tables 5 and 6.
	for law, period := range map[pcm.Law][]byte{
		pcm.Mu: {0x1E, 0x0B, 0x0B, 0x1E, 0x9E, 0x8B, 0x8B, 0x9E},
		pcm.A:  {0x34, 0x21, 0x21, 0x34, 0xB4, 0xA1, 0xA1, 0xB4},
	} {
		samples := make([]int16, len(period))
		law.Decode(samples, period)
		require.InDelta(t, 0, pcm.Level(samples), 0.1, law.String())
	}
	require.LessOrEqual(t, pcm.Level([]int16{math.MinInt16}), 6.2)
}

func TestUpsampleImage(t *testing.T) {
	require.Equal(t, []int16{2, 0, -4, 0, 32767, 0, -32768, 0}, pcm.UpsampleImage(nil, []int16{1, -2, 20000, -20000}))
	buf := make([]int16, 0, 8)
	out := pcm.UpsampleImage(buf, []int16{5})
	require.Equal(t, []int16{10, 0}, out)
	require.Same(t, &buf[:1][0], &out[0])
}

func TestResampleKeepsLengthAndPosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.SampledFrom([]int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 12345}).Draw(t, "from")
		to := rapid.SampledFrom([]int{8000, 16000}).Draw(t, "to")
		n := rapid.IntRange(0, 4000).Draw(t, "samples")
		out := readAll(t, pcm.Resample(&sound{rate: from, samples: make([]int16, n), piece: rapid.IntRange(1, 2000).Draw(t, "piece")}, to))
		require.Len(t, out, (n*to+from-1)/from)
	})
}

func TestResampleHasNoDelay(t *testing.T) {
	for _, from := range []int{16000, 22050, 24000, 44100, 48000, 12345} {
		in := make([]int16, from)
		in[from/2] = 32000 // half a second
		out := readAll(t, pcm.Resample(&sound{rate: from, samples: in, piece: 100}, 8000))
		best := 0
		for i := range out {
			if out[i] > out[best] {
				best = i
			}
		}
		require.InDelta(t, 4000, best, 1, "%d Hz", from)
	}
}

// The figures that the design asks for: -0.1 dB at 3.4 kHz and no aliases.
func TestResampleResponse(t *testing.T) {
	for _, from := range []int{16000, 22050, 24000, 32000, 44100, 48000} {
		measure := func(hertz float64) float64 {
			out := readAll(t, pcm.Resample(&sound{rate: from, samples: tone(hertz, -3, from, from/2)}, 8000))
			return pcm.Level(out[400:3600]) + 3
		}
		require.InDelta(t, 0, measure(300), 0.1, "%d Hz", from)
		require.InDelta(t, 0, measure(3400), 0.3, "%d Hz", from)
		require.Less(t, measure(4350), -70.0, "%d Hz", from)
		require.Less(t, measure(4900), -70.0, "%d Hz", from)
		if from > 16000 {
			require.Less(t, measure(9000), -70.0, "%d Hz", from)
		}
	}
}

func TestResampleRefusesAbsurdRates(t *testing.T) {
	for _, rate := range []int{-1, 0, 100, 1 << 30} {
		_, err := pcm.Resample(&sound{rate: rate}, 8000).Read(make([]int16, 10))
		require.ErrorIs(t, err, pcm.ErrRate)
	}
}

func TestResamplePassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	src := pcm.Resample(&sound{rate: 16000, samples: make([]int16, 5000), err: broken}, 8000)
	var err error
	for err == nil {
		_, err = src.Read(make([]int16, 160))
	}
	require.ErrorIs(t, err, broken)
}
