package dtmf_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// slots drives a sender the way the media engine does.
func slots(s *dtmf.Sender, samples uint32) (packets []packet, kinds string) {
	seq, ts := uint16(0xFFF0), uint32(0xFFFFFF00)
	at := time.Duration(0)
	for {
		payload, marker, offset, kind := s.Next(samples)
		if kind == dtmf.Done {
			return packets, kinds
		}
		kinds += kind.String()[:1]
		if kind == dtmf.Event {
			packets = append(packets, packet{seq, ts - offset, marker, payload[:], at})
		}
		seq++
		ts += samples
		at += time.Duration(samples) * time.Second / 8000
	}
}

func TestSenderSendsOneEvent(t *testing.T) {
	s, err := dtmf.NewSender("5", 100*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, err)
	packets, kinds := slots(s, 160)
	require.Equal(t, "eeeeeee", kinds)
	for i, p := range packets {
		require.Equal(t, packets[0].ts, p.ts, "the timestamp of the beginning")
		require.Equal(t, i == 0, p.marker)
		require.Equal(t, byte(5), p.payload[0])
		require.Equal(t, i >= 4, p.end(), "three ends")
		require.Equal(t, byte(10), p.payload[1]&0x3F)
		require.Equal(t, min(i+1, 5)*160, int(binary.BigEndian.Uint16(p.payload[2:])))
	}
	_, _, _, kind := s.Next(160)
	require.Equal(t, dtmf.Done, kind)
}

func TestSenderLeavesGapsToTheAudio(t *testing.T) {
	s, err := dtmf.NewSender("1w2", 100*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, err)
	_, kinds := slots(s, 160)
	// Five slots of tone, five of gap of which two repeat the end, 25 of pause.
	require.Equal(t, "eeeeeee"+strings.Repeat("a", 3)+strings.Repeat("a", 25)+"eeeeeee", kinds)

	s, err = dtmf.NewSender("W9", 0, 0)
	require.NoError(t, err)
	_, kinds = slots(s, 160)
	require.Equal(t, strings.Repeat("a", 50)+"eeeeeee", kinds)
}

func TestSenderIsUnderstoodAtEveryInterval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9*#A-Dw]{1,10}`).Draw(t, "digits")
		on := time.Duration(rapid.IntRange(40, 2000).Draw(t, "on")) * time.Millisecond
		gap := time.Duration(rapid.IntRange(40, 500).Draw(t, "gap")) * time.Millisecond
		samples := rapid.SampledFrom([]uint32{80, 160, 240, 320, 480}).Draw(t, "samples")
		s, err := dtmf.NewSender(digits, on, gap)
		require.NoError(t, err)
		packets, _ := slots(s, samples)
		var r dtmf.Receiver
		require.Equal(t, strings.ReplaceAll(digits, "w", ""), receive(&r, packets))
		ends, longest := 0, 0
		for _, p := range packets {
			duration := int(binary.BigEndian.Uint16(p.payload[2:]))
			if p.end() {
				ends++
				require.GreaterOrEqual(t, duration, int(on.Milliseconds())*8)
			}
			longest = max(longest, duration)
		}
		require.Equal(t, 3*len(strings.ReplaceAll(digits, "w", "")), ends)
		require.Less(t, longest, int(on.Milliseconds())*8+2*int(samples))
	})
}

func TestSenderDoesNotAllocate(t *testing.T) {
	s, err := dtmf.NewSender(strings.Repeat("1", 200), 0, 0)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Next(160) }))
}

func TestSenderRefuses(t *testing.T) {
	for _, digits := range []string{"", "5x", "5 6", "+49", "５", strings.Repeat("1", 257)} {
		_, err := dtmf.NewSender(digits, 0, 0)
		require.ErrorIs(t, err, dtmf.ErrDigit, digits)
		_, err = dtmf.Tones(digits, 0, 0)
		require.ErrorIs(t, err, dtmf.ErrDigit, digits)
	}
	for _, d := range []time.Duration{-1, time.Millisecond, 9 * time.Second} {
		_, err := dtmf.NewSender("5", d, 0)
		require.ErrorIs(t, err, dtmf.ErrTiming)
		_, err = dtmf.NewSender("5", 0, d)
		require.ErrorIs(t, err, dtmf.ErrTiming)
	}
}

func TestParseINFO(t *testing.T) {
	const relay, plain, nortel = "application/dtmf-relay", "application/dtmf", "application/vnd.nortelnetworks.digits"
	for name, tc := range map[string]struct {
		kind, body string
		digit      byte
		d          time.Duration
		err        error
	}{
		"usual":           {relay, "Signal=5\r\nDuration=160\r\n", '5', 160 * time.Millisecond, nil},
		"spaces":          {relay, "Signal= 5\r\nDuration= 250", '5', 250 * time.Millisecond, nil},
		"bare line feeds": {relay, "signal=#\nduration=80\n", '#', 80 * time.Millisecond, nil},
		"swapped":         {relay, "Duration=100\r\nSignal=*", '*', 100 * time.Millisecond, nil},
		"star by number":  {relay, "Signal=10\r\n", '*', 0, nil},
		"hash by number":  {relay, "Signal=11\r\n", '#', 0, nil},
		"A by number":     {relay, "Signal=12\r\n", 'A', 0, nil},
		"D by number":     {relay, "Signal=15\r\n", 'D', 0, nil},
		"lower case":      {relay, "Signal=b\r\n", 'B', 0, nil},
		"odd duration":    {relay, "Signal=1\r\nDuration=soon\r\n", '1', 0, nil},
		"long duration":   {relay, "Signal=1\r\nDuration=99999999\r\n", '1', 10 * time.Second, nil},
		"type in capital": {"Application/DTMF-Relay; charset=utf-8", "Signal=7", '7', 0, nil},
		"bad parameters":  {relay + ";;x", "Signal=7", '7', 0, nil},
		"plain":           {plain, "5", '5', 0, nil},
		"plain, newline":  {plain, " #\r\n", '#', 0, nil},
		"plain, number":   {plain, "11", '#', 0, nil},
		"plain, as relay": {plain, "Signal=3\r\nDuration=100\r\n", '3', 100 * time.Millisecond, nil},
		"nortel":          {nortel, "p=Digit-Collection\r\ny=Digits\r\nd=5\r\n", '5', 0, nil},
		"flash":           {relay, "Signal=16\r\n", 0, 0, dtmf.ErrDigit},
		"flash sign":      {relay, "Signal=!\r\n", 0, 0, dtmf.ErrDigit},
		"two keys":        {relay, "Signal=55\r\n", 0, 0, dtmf.ErrDigit},
		"signed":          {relay, "Signal=+1\r\n", 0, 0, dtmf.ErrDigit},
		"empty":           {relay, "", 0, 0, dtmf.ErrDigit},
		"no value":        {relay, "Signal=\r\n", 0, 0, dtmf.ErrDigit},
		"huge":            {plain, strings.Repeat("\n", 5000) + "5", 0, 0, dtmf.ErrDigit},
		"text":            {"text/plain", "5", 0, 0, dtmf.ErrType},
		"media control":   {"application/media_control+xml", "<x/>", 0, 0, dtmf.ErrType},
		"none":            {"", "5", 0, 0, dtmf.ErrType},
	} {
		t.Run(name, func(t *testing.T) {
			digit, d, err := dtmf.ParseINFO(tc.kind, []byte(tc.body))
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.digit, digit)
			require.Equal(t, tc.d, d)
		})
	}
}

func TestFormatINFOReadsBack(t *testing.T) {
	for i := range len(keys) {
		kind, body := dtmf.FormatINFO(keys[i], 160*time.Millisecond)
		digit, d, err := dtmf.ParseINFO(kind, body)
		require.NoError(t, err)
		require.Equal(t, keys[i], digit)
		require.Equal(t, 160*time.Millisecond, d)
	}
}

func FuzzParseINFO(f *testing.F) {
	f.Add("application/dtmf-relay", []byte("Signal=5\r\nDuration=160"))
	f.Add("application/dtmf", []byte("#"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		digit, d, err := dtmf.ParseINFO(kind, body)
		if err == nil && (!strings.ContainsRune(keys, rune(digit)) || d < 0 || d > 10*time.Second) {
			t.Fatalf("%q %v", digit, d)
		}
	})
}

// power of one frequency, relative to that of the whole.
func share(samples []int16, hertz float64) float64 {
	var re, im, all float64
	for i, s := range samples {
		re += float64(s) * math.Cos(2*math.Pi*hertz*float64(i)/8000)
		im += float64(s) * math.Sin(2*math.Pi*hertz*float64(i)/8000)
		all += float64(s) * float64(s)
	}
	return 2 * (re*re + im*im) / float64(len(samples)) / all
}

func TestTone(t *testing.T) {
	for key, pair := range map[byte][2]float64{
		'1': {697, 1209}, '5': {770, 1336}, '9': {852, 1477}, '0': {941, 1336}, '*': {941, 1209}, '#': {941, 1477}, 'A': {697, 1633}, 'd': {941, 1633},
	} {
		samples := dtmf.Tone(key, 100*time.Millisecond)
		require.Len(t, samples, 800)
		require.Greater(t, share(samples, pair[0])+share(samples, pair[1]), 0.95, string(key))
		require.InDelta(t, 2, 10*math.Log10(share(samples, pair[1])/share(samples, pair[0])), 0.5)
		require.Zero(t, samples[0])
		require.Zero(t, samples[799])
	}
	require.Nil(t, dtmf.Tone('x', time.Second))
	require.Empty(t, dtmf.Tone('5', -time.Second))
}

func TestTones(t *testing.T) {
	samples, err := dtmf.Tones("1w2", 50*time.Millisecond, 60*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, samples, 400+480+4000+400+480)
	require.Greater(t, share(samples[4880:5280], 1336), 0.4)
}

func TestSenderThatIsStoppedCompletesItsKey(t *testing.T) {
	for after := range 60 {
		s, err := dtmf.NewSender("1w2", 0, 0)
		require.NoError(t, err)
		begun, ends := 0, 0
		for n := 0; ; n++ {
			if n == after {
				s.Stop()
			}
			payload, marker, _, kind := s.Next(160)
			if kind == dtmf.Done {
				break
			}
			if kind != dtmf.Event {
				continue
			}
			if marker {
				begun++
				require.Less(t, n, max(after, 1), "no key begins after the stop")
			}
			if payload[1]&0x80 != 0 {
				ends++
			}
		}
		require.Equal(t, 3*begun, ends, "after %d packets", after)
	}
}
