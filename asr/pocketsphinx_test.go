package asr_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/asr/asrtest"
	"github.com/ivrbridge/ivrbridge/asr/wire"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// fakeWorker stands in for the worker in a process of its own. It hears "yes"
// where it was given sound.
func fakeWorker(mode string) {
	reply := func(r wire.Reply) {
		b, _ := json.Marshal(r)
		_, _ = os.Stdout.Write(append(b, '\n'))
	}
	switch mode {
	case "missing":
		reply(wire.Reply{Error: "pocketsphinx is not installed: install it"})
		return
	case "mute":
		time.Sleep(time.Minute)
	case "none":
		fmt.Fprintln(os.Stderr, "usage: cat [FILE]")
		return
	}
	reply(wire.Reply{Ready: "fake"})
	_, _ = os.Stdout.WriteString("no reply at all\n")
	reply(wire.Reply{Stream: 999, Utterance: 1, Final: true})
	sound := make(map[uint32]int)
	in := bufio.NewReader(os.Stdin)
	for {
		f, err := wire.Read(in)
		if err != nil {
			return
		}
		u, _ := f.Utterance()
		switch f.Kind {
		case wire.Begin:
			sound[f.Stream] = 0
			if mode == "fails" {
				reply(wire.Reply{Stream: f.Stream, Utterance: u.ID, Final: true, Error: "grammar refused"})
			}
		case wire.Sound:
			sound[f.Stream] += len(f.Payload)
			reply(wire.Reply{Stream: f.Stream, Utterance: 1, Text: "y"})
			if crash := os.Getenv("IVRBRIDGE_TEST_CRASH"); mode == "crash" && os.Remove(crash) == nil {
				fmt.Fprintln(os.Stderr, "signal: segmentation fault")
				return
			}
		case wire.Close:
			delete(sound, f.Stream)
		case wire.End:
			r := wire.Reply{Stream: f.Stream, Utterance: u.ID, Final: true}
			if sound[f.Stream] > 0 {
				r.Text, r.Confidence = "yes", 0.9
			}
			if mode != "fails" {
				reply(r)
			}
		}
	}
}

func openWorker(t *testing.T, mode string) (asr.Recognizer, error) {
	t.Helper()
	t.Setenv("IVRBRIDGE_TEST_WORKER", mode)
	own, err := os.Executable()
	require.NoError(t, err)
	r, err := asr.Providers.Open(t.Context(), "pocketsphinx", func(into any) error {
		c := into.(*asr.PocketsphinxConfig)
		c.Program = own
		if mode == "mute" {
			c.Start = 50 * time.Millisecond
		}
		return nil
	}, registry.Deps{Log: zap.NewNop()})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, r.(interface{ Close() error }).Close()) })
	}
	return r, err
}

func TestWorkerStreamsConform(t *testing.T) {
	r, err := openWorker(t, "good")
	require.NoError(t, err)
	asrtest.Conform(t, func(t *testing.T) asr.Stream {
		t.Helper()
		return stream1(t, r)
	}, tone(1600), "yes")
}

func TestWorkerThatCannotWork(t *testing.T) {
	for mode, want := range map[string]string{"missing": "install it", "mute": "deadline", "none": "is no worker: usage: cat"} {
		_, err := openWorker(t, mode)
		require.ErrorContains(t, err, want)
	}
	_, err := asr.Providers.Open(t.Context(), "pocketsphinx", func(into any) error {
		into.(*asr.PocketsphinxConfig).Program = "ivrbridge-no-worker"
		return nil
	}, registry.Deps{Log: zap.NewNop()})
	require.ErrorContains(t, err, "put ivrbridge-worker beside the bridge")
}

// A fault in native code costs an utterance, or not even that.
func TestWorkerIsStartedAgain(t *testing.T) {
	crash := filepath.Join(t.TempDir(), "crash")
	require.NoError(t, os.WriteFile(crash, nil, 0o600))
	t.Setenv("IVRBRIDGE_TEST_CRASH", crash)
	r, err := openWorker(t, "crash")
	require.NoError(t, err)
	idle := stream1(t, r)
	require.NoError(t, idle.Begin(asr.Utterance{ID: 1}))
	require.NoError(t, idle.End(1))
	require.Empty(t, asrtest.Final(t, idle).Text)

	s := stream1(t, r)
	require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
	require.NoError(t, s.Write(tone(800)))
	var died *asr.WorkerError
	require.ErrorAs(t, asrtest.Failed(t, s), &died)
	require.Contains(t, died.Error(), "segmentation fault")

	require.NoError(t, idle.Begin(asr.Utterance{ID: 2}))
	require.NoError(t, idle.Write(tone(800)))
	require.NoError(t, idle.End(2))
	require.Equal(t, "yes", asrtest.Final(t, idle).Text, "a stream that heard nothing goes on")

	require.NoError(t, os.WriteFile(crash, nil, 0o600))
	f, l := open(t, asr.Resilient(r))
	defer f.Close()
	f.Begin(asr.Utterance{ID: 1})
	f.Speech(true)
	l.feed(tone(8000))
	eventually(t, func() bool { _, err := os.Stat(crash); return err != nil })
	f.End(1)
	require.Equal(t, "yes", asrtest.Final(t, f).Text, "the utterance is replayed to the new worker")
}

func TestWorkerThatRefusesAnUtterance(t *testing.T) {
	r, err := openWorker(t, "fails")
	require.NoError(t, err)
	s := stream1(t, r)
	require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
	require.ErrorContains(t, asrtest.Final(t, s).Err, "grammar refused")
	require.NoError(t, s.End(1))
	asrtest.Quiet(t, s)
}

// The whole way with the real worker: wheel, feeder, process, decoder.
func TestPocketsphinxHearsAChoice(t *testing.T) {
	tools := []string{"flite", "go"}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			unavailable(t, err)
		}
	}
	worker := filepath.Join(t.TempDir(), "ivrbridge-worker")
	build := exec.Command("go", "build", "-o", worker, "../cmd/ivrbridge-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	r, err := asr.Providers.Open(t.Context(), "pocketsphinx", func(into any) error {
		into.(*asr.PocketsphinxConfig).Program = worker
		return nil
	}, registry.Deps{Log: zap.NewNop()})
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() { require.NoError(t, r.(interface{ Close() error }).Close()) })

	wav, err := exec.Command("flite", "-voice", "rms", "-o", "/dev/stdout", "-t", "a large pepperoni pizza").Output()
	require.NoError(t, err)
	audio, err := pcm.Open(bytes.NewReader(wav), pcm.Limits{})
	require.NoError(t, err)
	clip := pcm.NewClip(pcm.Mu)
	require.NoError(t, pcm.Fill(t.Context(), clip, pcm.Normalise(pcm.Resample(audio, pcm.Rate), pcm.SpeechLevel)))
	law, speech := make([]byte, clip.Len()), make([]int16, clip.Len())
	clip.Read(0, law, pcm.Mu)
	pcm.Mu.Decode(speech, law)

	f, l := open(t, asr.Resilient(r))
	defer f.Close()
	for id, hints := range [][]string{{"A large pepperoni pizza", "A small margherita"}, {"Talk to an agent", "Opening hours"}} {
		f.Begin(asr.Utterance{ID: uint64(id), Hints: hints})
		l.feed(make([]int16, 4000))
		f.Speech(true)
		l.feed(speech)
		l.feed(make([]int16, 4000))
		f.Speech(false)
		f.End(uint64(id))
		ev := asrtest.Final(t, f)
		require.NoError(t, ev.Err)
		require.Equal(t, uint64(id), ev.Utterance)
		require.Equal(t, []string{"A large pepperoni pizza", ""}[id], ev.Text)
	}
}

// unavailable skips a test whose tools are missing, and fails it where all must run.
func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}
