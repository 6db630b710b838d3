package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/asr/wire"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const modelFolder = "/usr/share/pocketsphinx/model/en-us"

// missing skips a test whose tools are not there, and fails it where all must run.
func missing(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

var loaded = sync.OnceValues(func() (*sphinx, error) { return loadSphinx(modelFolder) })

func engine(t *testing.T) *sphinx {
	t.Helper()
	s, err := loaded()
	if err != nil {
		missing(t, err)
	}
	return s
}

// speak renders text with a program, as it would arrive over G.711, with the
// silence around it that the feeder leaves.
func speak(t *testing.T, voice, text string) []byte {
	t.Helper()
	program, args := "flite", []string{"-voice", voice, "-o", "/dev/stdout", "-t", text}
	if after, ok := strings.CutPrefix(voice, "espeak:"); ok {
		program, args = "espeak-ng", []string{"--stdout", "-v", after, "--", text}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, err)
	}
	out, err := exec.Command(path, args...).Output()
	require.NoError(t, err)
	audio, err := pcm.Open(bytes.NewReader(out), pcm.Limits{})
	require.NoError(t, err)
	clip := pcm.NewClip(pcm.Mu)
	require.NoError(t, pcm.Fill(t.Context(), clip, pcm.Normalise(pcm.Resample(audio, pcm.Rate), -20)))
	quiet := bytes.Repeat([]byte{pcm.Mu.Silence()}, 400*8)
	sound := make([]byte, clip.Len())
	clip.Read(0, sound, pcm.Mu)
	return append(append(append([]byte(nil), quiet...), sound...), quiet...)
}

// hear runs sound through a hearing in chunks of 100 ms.
func hear(t *testing.T, s *sphinx, hints []string, sound []byte) (wire.Reply, *hearing) {
	t.Helper()
	h, err := s.listen(t.Context(), wire.Utterance{ID: 1, Hints: hints}, defaultThreshold)
	require.NoError(t, err)
	for len(sound) > 0 {
		n := min(800, len(sound))
		_, err := h.write(sound[:n])
		require.NoError(t, err)
		sound = sound[n:]
	}
	r, err := h.final()
	require.NoError(t, err)
	t.Cleanup(h.close)
	return r, h
}

var phrases = []string{
	"I want to order a pizza", "Talk to an agent", "Check my account balance", "Opening hours", "Cancel my appointment",
	"Track my package", "Technical support", "Billing question", "Large pepperoni", "Small margherita",
	"Reset my password", "Pay my bill", "Leave a message", "Sales department", "Repeat that please",
	"Change my delivery address", "Tomorrow morning", "Next Tuesday", "Two tickets to Boston", "Main menu",
}

var strangers = []string{
	"The weather in Paris is lovely this time of year", "My grandmother likes to play the piano", "Can you tell me a joke",
	"Seven hundred and fifty three", "Where did I park the car", "Blue elephants", "Nobody knows what happened yesterday",
	"Why is the sky dark at night", "I would like some fish", "Hello there",
}

func TestPhrasesAreRecognised(t *testing.T) {
	s := engine(t)
	right, all := 0, 0
	for _, voice := range []string{"rms", "espeak:en-us"} {
		for _, p := range phrases {
			r, h := hear(t, s, phrases, speak(t, voice, p))
			h.close()
			all++
			if r.Text == p {
				right++
				require.GreaterOrEqual(t, r.Confidence, 0.5)
			} else {
				t.Logf("%s: %q for %q (%s)", voice, r.Text, p, r.Rejected)
			}
		}
	}
	require.GreaterOrEqual(t, float64(right)/float64(all), 0.95, "%d of %d", right, all)
}

func TestOtherSpeechIsRejected(t *testing.T) {
	s := engine(t)
	accepted := 0
	for _, p := range strangers {
		r, h := hear(t, s, phrases, speak(t, "rms", p))
		h.close()
		if r.Text != "" {
			accepted++
			t.Logf("%q for %q", r.Text, p)
		}
	}
	require.LessOrEqual(t, accepted, 2, "of %d", len(strangers))
}

func TestYesIsAlwaysUnderstood(t *testing.T) {
	s := engine(t)
	r, _ := hear(t, s, nil, speak(t, "rms", "yes please"))
	require.Equal(t, "yes please", r.Text)
}

func TestSoundWithoutSpeech(t *testing.T) {
	s := engine(t)
	for name, sound := range map[string][]byte{
		"nothing": nil,
		"a frame": bytes.Repeat([]byte{pcm.Mu.Silence()}, 3),
		"silence": bytes.Repeat([]byte{pcm.Mu.Silence()}, 16000),
		"rattle":  bytes.Repeat([]byte{0x80, 0x00}, 8000),
	} {
		r, _ := hear(t, s, phrases, sound)
		require.Empty(t, r.Text, name)
		require.True(t, r.Final)
	}
}

// A worker process as the bridge sees it: two streams at a time, late finals,
// and frames that make no sense.
func TestWorkerServesStreams(t *testing.T) {
	engine(t)
	var in []byte
	begin := func(stream uint32, id uint64, hints ...string) {
		var err error
		in, err = wire.AppendJSON(in, wire.Begin, stream, wire.Utterance{ID: id, Hints: hints})
		require.NoError(t, err)
	}
	sound := func(stream uint32, b []byte) {
		for len(b) > 0 {
			n := min(1600, len(b))
			var err error
			in, err = wire.Append(in, wire.Frame{Kind: wire.Sound, Stream: stream, Payload: b[:n]})
			require.NoError(t, err)
			b = b[n:]
		}
	}
	end := func(stream uint32, id uint64) {
		var err error
		in, err = wire.AppendJSON(in, wire.End, stream, wire.Utterance{ID: id})
		require.NoError(t, err)
	}
	begin(1, 10, phrases...)
	begin(2, 7, "Zwiebelkuchen für 2", "no hints [here] = <x> | y;", "")
	sound(1, speak(t, "rms", phrases[0]))
	sound(2, speak(t, "rms", "no"))
	end(1, 10)
	end(2, 7)
	begin(1, 11, phrases...)
	begin(1, 12, phrases...) // 11 is given up
	sound(3, []byte{1, 2, 3})
	end(1, 11)
	end(1, 12)
	in, _ = wire.Append(in, wire.Frame{Kind: wire.Begin, Stream: 4, Payload: []byte("{")})
	in, _ = wire.Append(in, wire.Frame{Kind: wire.Close, Stream: 2})

	var out, errs bytes.Buffer
	require.Zero(t, run(context.Background(), nil, bytes.NewReader(in), &out, &errs), errs.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var replies []wire.Reply
	for _, l := range lines {
		var r wire.Reply
		require.NoError(t, json.Unmarshal([]byte(l), &r))
		replies = append(replies, r)
	}
	require.Equal(t, wire.Reply{Ready: "pocketsphinx"}, replies[0])
	finals := make(map[string]string)
	for _, r := range replies[1:] {
		require.Empty(t, r.Error)
		if r.Final {
			key := fmt.Sprint(r.Stream, "/", r.Utterance)
			require.NotContains(t, finals, key)
			finals[key] = r.Text
		}
	}
	require.Equal(t, map[string]string{"1/10": phrases[0], "2/7": "no", "1/12": ""}, finals)
}

func TestWorkerSaysWhatIsMissing(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, 1, run(context.Background(), []string{"-model", t.TempDir()}, strings.NewReader(""), &out, &errs))
	var r wire.Reply
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	require.Contains(t, r.Error, "install the package")
	require.Equal(t, 2, run(context.Background(), []string{"-what"}, strings.NewReader(""), &out, &errs))
}

func TestMalformedInputEndsTheWorker(t *testing.T) {
	engine(t)
	var out, errs bytes.Buffer
	require.Equal(t, 1, run(context.Background(), nil, strings.NewReader("GET / HTTP/1.1\r\n"), &out, &errs))
	require.Contains(t, errs.String(), "malformed frame")
}

func TestWordsAreSpoken(t *testing.T) {
	for text, want := range map[string]string{
		"Pizza & chips":     "pizza and chips",
		"2 large pizzas":    "two large pizzas",
		"Order no. 1042":    "order no one thousand forty two",
		"007":               "zero zero seven",
		"12345678":          "one two three four five six seven eight",
		"999999":            "nine hundred ninety nine thousand nine hundred ninety nine",
		"Café Müller":       "cafe mueller",
		"I don’t know":      "i don't know",
		"'quoted' (really)": "quoted really",
		"ATM, U.S. or NASA": "a. t. m. u. s. or nasa",
		"B2B":               "b two b",
		"100%":              "one hundred percent",
		"日本 …":              "",
		"<x> | {y} = [z];":  "x y equals z",
	} {
		require.Equal(t, want, strings.Join(spoken(text), " "), text)
	}
}

func TestUnknownWordsGetASound(t *testing.T) {
	s := engine(t)
	require.NotEmpty(t, s.words.pronounce(t.Context(), "quattro"))
	require.Equal(t, "K W AE T R AA", sound("quattro"))
	blind := &dictionary{lines: map[string]string{}, guessed: map[string]string{}}
	require.Equal(t, []string{"F L IH B ER"}, blind.pronounce(t.Context(), "flibber"))
	require.Equal(t, []string{""}, blind.pronounce(t.Context(), "日"))
	for _, l := range letters {
		for p := range strings.FieldsSeq(l.phones) {
			require.True(t, known[p], p)
		}
	}
	r, _ := hear(t, s, []string{"Margherita Quattrovalanga", "Prosciuttini"}, speak(t, "rms", "Prosciuttini"))
	require.Equal(t, "Prosciuttini", r.Text)
}

func FuzzGrammar(f *testing.F) {
	d := &dictionary{lines: map[string]string{"a": "AH", "a(2)": "EY"}, guessed: map[string]string{}}
	f.Add("a b 12")
	f.Add("w0(2) <turn>; öö")
	f.Fuzz(func(t *testing.T, hint string) {
		g := newGrammar(t.Context(), d, []string{hint})
		require.NotContains(t, strings.SplitN(g.jsgf, "=", 2)[1], "<")
	})
}
