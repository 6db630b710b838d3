package dtmf_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const vocabulary = `the a one two three four five six seven eight nine zero star pound oh yes no please thank you hello
good morning agent operator support account number balance payment invoice delivery order address street avenue
opening hours monday tuesday wednesday thursday friday saturday sunday january february april june august october
november december flight ticket hotel airport london berlin geneva milano toronto chicago umbrella language service
people water money measure pleasure vision azure thing breathe mother father brother sister weather summer winter
always already everybody information reservation appointment insurance emergency hospital pharmacy university really
window yellow orange purple elephant giraffe zebra quickly slowly happily carefully could would should might must
call back tomorrow afternoon evening tonight because although whether however therefore nothing something`

// words are n of them, in sentences.
func words(rng *rand.Rand, n int) string {
	all := strings.Fields(vocabulary)
	var b strings.Builder
	for i := range n {
		b.WriteString(all[rng.IntN(len(all))])
		switch {
		case i%11 == 10:
			b.WriteString(". ")
		case i%5 == 4:
			b.WriteString(", ")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// A speaker is a program that reads a text into a file.
type speaker struct {
	program string
	voices  []string
	share   float64 // of the time, for each voice
	args    func(voice, text, file string) []string
}

var speakers = []speaker{
	{"espeak-ng", []string{"en-us", "en-gb", "en-us+f2", "en-us+f4", "en-gb+m3", "en-us+m7", "de", "fr", "es", "it", "pl", "sv+f3"}, .16, func(voice, text, file string) []string {
		return []string{"-v", voice, "-w", file, text}
	}},
	{"flite", []string{"slt", "rms", "awb", "kal"}, .08, func(voice, text, file string) []string {
		return []string{"-voice", voice, "-t", text, "-o", file}
	}},
}

// read is speech of one of a program's voices at 8 kHz.
func (s speaker) read(t *testing.T, voice string, seed uint64, seconds float64) []float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	var out []float64
	for i := 0; float64(len(out)) < seconds*8000; i++ {
		file := filepath.Join(t.TempDir(), strconv.Itoa(i)+".wav")
		require.NoError(t, exec.CommandContext(t.Context(), s.program, s.args(voice, words(rng, 20+int(2*seconds)), file)...).Run())
		out = append(out, readWAV(t, file)...)
		require.NoError(t, os.Remove(file))
	}
	return atLevel(out[:int(seconds*8000)], -12)
}

func readWAV(t *testing.T, file string) []float64 {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	audio, err := pcm.Open(f, pcm.Limits{})
	require.NoError(t, err)
	clip := pcm.NewClip(pcm.Mu)
	require.NoError(t, pcm.Fill(context.Background(), clip, pcm.Resample(audio, pcm.Rate)))
	coded, x := make([]byte, clip.Len()), make([]int16, clip.Len())
	clip.Read(0, coded, pcm.Mu)
	pcm.Mu.Decode(x, coded)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
