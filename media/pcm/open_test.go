package pcm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// wav builds a file by hand; size is what the data chunk claims.
func wav(tag, channels uint16, rate uint32, bits uint16, size uint32, data []byte, before ...byte) []byte {
	le := binary.LittleEndian
	b := append([]byte("RIFF"), 0, 0, 0, 0)
	le.PutUint32(b[4:], size+36)
	b = append(b, "WAVE"...)
	b = append(b, before...)
	b = append(b, "fmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, tag)
	b = le.AppendUint16(b, channels)
	b = le.AppendUint32(b, rate)
	b = le.AppendUint32(b, rate*uint32(channels)*uint32(bits)/8)
	b = le.AppendUint16(b, channels*bits/8)
	b = le.AppendUint16(b, bits)
	b = append(b, "data"...)
	b = le.AppendUint32(b, size)
	return append(b, data...)
}

func le16(samples ...int16) []byte {
	var b []byte
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

func open(t require.TestingT, b []byte) []int16 {
	a, err := pcm.Open(iotest.OneByteReader(bytes.NewReader(b)), pcm.Limits{})
	require.NoError(t, err)
	return readAll(t, a)
}

func TestOpenWAV(t *testing.T) {
	float := binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.5))
	float = binary.LittleEndian.AppendUint32(float, math.Float32bits(-2))
	float = binary.LittleEndian.AppendUint32(float, math.Float32bits(float32(math.NaN())))
	double := binary.LittleEndian.AppendUint64(nil, math.Float64bits(-0.5))
	extensible := func() []byte {
		b := wav(0xFFFE, 1, 8000, 16, 4, le16(7, 8))
		fmtAt := 12
		extra := append([]byte{22, 0, 16, 0, 4, 0, 0, 0, 1, 0}, make([]byte, 14)...)
		binary.LittleEndian.PutUint32(b[fmtAt+4:], 40)
		return append(append(append([]byte{}, b[:fmtAt+24]...), extra...), b[fmtAt+24:]...)
	}()
	for name, tc := range map[string]struct {
		file []byte
		want []int16
	}{
		"16 bits":          {wav(1, 1, 8000, 16, 6, le16(1, -2, 3)), []int16{1, -2, 3}},
		"8 bits":           {wav(1, 1, 8000, 8, 3, []byte{128, 255, 0}), []int16{0, 32512, -32768}},
		"24 bits":          {wav(1, 1, 8000, 24, 6, []byte{9, 1, 0, 9, 0xFE, 0xFF}), []int16{1, -2}},
		"32 bits":          {wav(1, 1, 8000, 32, 4, []byte{9, 9, 5, 0}), []int16{5}},
		"float":            {wav(3, 1, 16000, 32, 12, float), []int16{16383, -32768, 0}},
		"double":           {wav(3, 1, 16000, 64, 8, double), []int16{-16383}},
		"mu-law":           {wav(7, 1, 8000, 8, 2, []byte{0xFF, 0x80}), []int16{0, 32124}},
		"A-law":            {wav(6, 1, 8000, 8, 2, []byte{0xD5, 0x55}), []int16{8, -8}},
		"stereo":           {wav(1, 2, 8000, 16, 8, le16(100, 300, -32768, -32768)), []int16{200, -32768}},
		"extensible":       {extensible, []int16{7, 8}},
		"chunk before":     {wav(1, 1, 8000, 16, 4, le16(1, 2), []byte("LIST\x03\x00\x00\x00abc\x00")...), []int16{1, 2}},
		"chunk behind":     {wav(1, 1, 8000, 16, 4, append(le16(1, 2), "LIST\x04\x00\x00\x00abcd"...)), []int16{1, 2}},
		"padded":           {wav(1, 1, 8000, 8, 1, []byte("\x80\x00LIST\x04\x00\x00\x00abcd")), []int16{0}},
		"size 0":           {wav(1, 1, 8000, 16, 0, le16(0, 0, 0, 0, 5)), []int16{0, 0, 0, 0, 5}},
		"size 0, short":    {wav(1, 1, 8000, 16, 0, le16(5)), []int16{5}},
		"size unknown":     {wav(1, 1, 8000, 16, math.MaxUint32, le16(4, 5)), []int16{4, 5}},
		"size too large":   {wav(1, 1, 8000, 16, 1<<31-37, le16(4, 5)), []int16{4, 5}},
		"size too small":   {wav(1, 1, 8000, 16, 2, le16(4, 5, 6, 7, 8, 9)), []int16{4, 5, 6, 7, 8, 9}},
		"size odd":         {wav(1, 1, 8000, 16, 3, le16(4, 5, 6, 7, 8, 9)), []int16{4, 5, 6, 7, 8, 9}},
		"cut in a sample":  {wav(1, 1, 8000, 16, 6, le16(4, 5, 6)[:5]), []int16{4, 5}},
		"empty":            {wav(1, 1, 8000, 16, 0, nil), nil},
		"empty, with list": {wav(1, 1, 8000, 16, 0, []byte("LIST\x04\x00\x00\x00abcd")), nil},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, open(t, tc.file)) })
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, file := range map[string][]byte{
		"nothing":           nil,
		"one byte":          {0xFF},
		"html":              []byte("<!DOCTYPE html><html><head><title>404</title></head><body>not found</body></html>"),
		"json":              []byte(`{"error":{"message":"invalid key","code":401}}`),
		"text":              []byte(strings.Repeat("hello ", 1000)),
		"ogg":               []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00"),
		"flac":              []byte("fLaC\x00\x00\x00\x22"),
		"aac":               {0xFF, 0xF1, 0x50, 0x80, 0x02, 0x1F, 0xFC, 0xDE},
		"layer 2":           {0xFF, 0xFD, 0x90, 0x04, 0, 0, 0, 0},
		"noise with a sync": append([]byte{0xFF, 0xFB, 0x90, 0x64}, bytes.Repeat([]byte{7}, 3000)...),
		"zeros":             make([]byte, 5000),
		"riff avi":          []byte("RIFF\x00\x00\x00\x00AVI LIST"),
		"wav header only":   []byte("RIFF\x00\x00\x00\x00WAVE"),
		"data first":        []byte("RIFF\x00\x00\x00\x00WAVEdata\x00\x00\x00\x00"),
		"no channels":       wav(1, 0, 8000, 16, 2, le16(1)),
		"many channels":     wav(1, 999, 8000, 16, 2, le16(1)),
		"no rate":           wav(1, 1, 0, 16, 2, le16(1)),
		"absurd rate":       wav(1, 1, math.MaxUint32, 16, 2, le16(1)),
		"no bits":           wav(1, 1, 8000, 0, 2, le16(1)),
		"adpcm":             wav(17, 1, 8000, 4, 2, le16(1)),
		"half float":        wav(3, 1, 8000, 16, 2, le16(1)),
		"huge chunk":        wav(1, 1, 8000, 16, 2, le16(1), []byte("junk\xff\xff\xff\xff")...),
		"tag only":          []byte("ID3\x04\x00\x00\x00\x00\x00\x00"),
		"tag without end":   []byte("ID3\x04\x00\x00\x7f\x7f\x7f\x7f"),
		"tag, then text":    []byte("ID3\x04\x00\x00\x00\x00\x00\x02ab<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pcm.Open(bytes.NewReader(file), pcm.Limits{})
			require.ErrorIs(t, err, pcm.ErrFormat)
		})
	}
}

func TestOpenKeepsErrorsOfTheReader(t *testing.T) {
	broken := errors.New("broken")
	good := wav(1, 1, 8000, 16, math.MaxUint32, make([]byte, 10000))
	for _, at := range []int{0, 5, 20, 42, 44, 5000} {
		a, err := pcm.Open(io.MultiReader(bytes.NewReader(good[:at]), iotest.ErrReader(broken)), pcm.Limits{})
		for err == nil {
			_, err = a.Read(make([]int16, 100))
		}
		require.ErrorIs(t, err, broken, "at %d", at)
	}
}

func TestOpenLimits(t *testing.T) {
	file := wav(1, 1, 8000, 16, math.MaxUint32, make([]byte, 16000)) // one second
	for name, tc := range map[string]struct {
		lim     pcm.Limits
		samples int
		want    error
	}{
		"within":      {pcm.Limits{MaxInput: 16044, MaxOutput: time.Second}, 8000, io.EOF},
		"too long":    {pcm.Limits{MaxOutput: 999 * time.Millisecond}, 7992, pcm.ErrLimit},
		"too large":   {pcm.Limits{MaxInput: 16043}, 7999, pcm.ErrLimit},
		"header only": {pcm.Limits{MaxInput: 44}, 0, pcm.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := pcm.Open(bytes.NewReader(file), tc.lim)
			require.NoError(t, err)
			total := 0
			for err == nil {
				var n int
				n, err = a.Read(make([]int16, 700))
				total += n
			}
			require.ErrorIs(t, err, tc.want)
			require.InDelta(t, tc.samples, total, 1)
		})
	}
}

type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestOpenClosesTheReaderOnce(t *testing.T) {
	c := &closer{Reader: bytes.NewReader(wav(1, 1, 8000, 16, 2, le16(1)))}
	a, err := pcm.Open(c, pcm.Limits{})
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.Equal(t, 1, c.closed)
}

func TestWriteWAVReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOf(rapid.Int16()).Draw(t, "samples")
		var file bytes.Buffer
		require.NoError(t, pcm.WriteWAV(&file, 16000, 1, samples))
		a, err := pcm.Open(&file, pcm.Limits{})
		require.NoError(t, err)
		require.Equal(t, 16000, a.SampleRate())
		require.Equal(t, samples, append([]int16{}, readAll(t, a)...))
	})
	require.ErrorIs(t, pcm.WriteWAV(io.Discard, 8000, 2, make([]int16, 3)), pcm.ErrFormat)
	require.ErrorIs(t, pcm.WriteWAV(io.Discard, 0, 1, nil), pcm.ErrFormat)
	require.Error(t, pcm.WriteWAV(brokenWriter{}, 8000, 1, nil))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// mp3Frame is one frame of MPEG-1 layer 3 at 32 kbit/s and 44.1 kHz whose side
// information is zero: a frame of silence.
func mp3Frame() []byte {
	head, _ := hex.DecodeString("fffb10c4")
	return append(head, make([]byte, 104-4)...)
}

func TestOpenMP3(t *testing.T) {
	frames := bytes.Repeat(mp3Frame(), 20)
	for name, file := range map[string][]byte{
		"bare":    frames,
		"tag":     append([]byte("ID3\x04\x00\x00\x00\x00\x00\x05hello"), frames...),
		"padding": append([]byte("ID3\x04\x00\x00\x00\x00\x00\x05hello\x00\x00\x00"), frames...),
	} {
		t.Run(name, func(t *testing.T) {
			a, err := pcm.Open(iotest.HalfReader(bytes.NewReader(file)), pcm.Limits{})
			require.NoError(t, err)
			require.Equal(t, 44100, a.SampleRate())
			out := readAll(t, a)
			require.Len(t, out, 20*1152)
			require.InDelta(t, pcm.Quietest, pcm.Level(out), 0)
		})
	}
}

func TestOpenMP3IsBounded(t *testing.T) {
	frames := bytes.Repeat(mp3Frame(), 200)
	a, err := pcm.Open(bytes.NewReader(frames), pcm.Limits{MaxOutput: time.Second})
	require.NoError(t, err)
	total := 0
	for err == nil {
		var n int
		n, err = a.Read(make([]int16, 1000))
		total += n
	}
	require.ErrorIs(t, err, pcm.ErrLimit)
	require.Equal(t, 44100, total)
}

func FuzzOpen(f *testing.F) {
	f.Add(wav(1, 1, 8000, 16, 6, le16(1, 2, 3)))
	f.Add(wav(3, 2, 48000, 32, 0, make([]byte, 64)))
	f.Add(wav(7, 1, 8000, 8, math.MaxUint32, make([]byte, 64), []byte("LIST\x02\x00\x00\x00ab")...))
	f.Add(bytes.Repeat(mp3Frame(), 3))
	f.Add(append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), bytes.Repeat(mp3Frame(), 2)...))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := pcm.Open(bytes.NewReader(file), pcm.Limits{MaxInput: 1 << 16, MaxOutput: 5 * time.Second})
		if err != nil {
			return
		}
		buf, total, idle := make([]int16, 480), 0, 0
		for err == nil && idle < 10 {
			var n int
			n, err = a.Read(buf)
			if total += n; n == 0 {
				idle++
			}
		}
		if err == nil {
			t.Fatal("no progress")
		}
		if total > 5*a.SampleRate() {
			t.Fatalf("%d samples at %d Hz", total, a.SampleRate())
		}
	})
}
