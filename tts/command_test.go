package tts_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

func deps() registry.Deps { return registry.Deps{Log: zap.NewNop(), HTTP: http.DefaultClient} }

func openCommand(t *testing.T, name string, set func(*tts.CommandConfig)) (tts.Synthesizer, error) {
	t.Helper()
	return tts.Providers.Open(t.Context(), name, func(into any) error {
		set(into.(*tts.CommandConfig))
		return nil
	}, deps())
}

func TestInstalledEnginesSpeak(t *testing.T) {
	for name, tool := range map[string]string{"flite": "flite", "espeak": "espeak-ng"} {
		t.Run(name, func(t *testing.T) {
			need(t, tool)
			s, err := tts.Providers.Open(t.Context(), name, nil, deps())
			require.NoError(t, err)
			var length [3]int
			for i, text := range []string{"Press one or say pizza.", "-lv /etc/passwd\x00 --help", " … "} {
				a, err := s.Synthesize(t.Context(), tts.Request{Text: text, Language: "en-US"})
				require.NoError(t, err)
				samples, err := drain(a)
				require.NoError(t, err)
				require.NoError(t, a.Close())
				length[i] = len(samples)
			}
			require.Greater(t, length[0], 16000)
			require.Greater(t, length[1], 16000, "what looks like an option is spoken")
			require.Zero(t, length[2])
		})
	}
}

func TestEspeakReadsMarkupAndLanguages(t *testing.T) {
	need(t, "espeak-ng")
	s, err := tts.Providers.Open(t.Context(), "espeak", nil, deps())
	require.NoError(t, err)
	require.True(t, s.SSML())
	length := func(r tts.Request) int {
		a, err := s.Synthesize(t.Context(), r)
		require.NoError(t, err)
		defer a.Close()
		samples, err := drain(a)
		require.NoError(t, err)
		return len(samples)
	}
	short := length(tts.Request{Text: "one two"})
	long := length(tts.Request{Text: `<speak>one <break time="3s"/> two</speak>`, SSML: true})
	require.Greater(t, long, short+2*22050)
	require.NotEqual(t, short, length(tts.Request{Text: "one two", Language: "de-DE"}))
	_, err = s.Synthesize(t.Context(), tts.Request{Text: "x", Voice: "zz"})
	require.ErrorContains(t, err, "voice does not exist")
}

// script writes a program that does what body says.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700))
	return path
}

func TestFaultyProgram(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"exit status":  {"echo no such voice >&2; exit 3", "no such voice"},
		"no sound":     {"exit 0", "audio"},
		"error page":   {"echo '<html>error</html>'", "audio"},
		"much garbage": {"head -c 200000 /dev/urandom | tr '\\377' ' '", "audio"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := openCommand(t, "espeak", func(cfg *tts.CommandConfig) { cfg.Program = script(t, c.body) })
			require.NoError(t, err)
			_, err = s.Synthesize(t.Context(), tts.Request{Text: "hello"})
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestProgramIsKilled(t *testing.T) {
	s, err := openCommand(t, "espeak", func(cfg *tts.CommandConfig) {
		cfg.Program = script(t, "exec sleep 60")
		cfg.Concurrency = 1
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = s.Synthesize(ctx, tts.Request{Text: "hello"})
	require.ErrorIs(t, err, context.Canceled)

	s, err = openCommand(t, "espeak", func(cfg *tts.CommandConfig) {
		cfg.Program = script(t, "exec sleep 60")
		cfg.Timeout = 50 * time.Millisecond
		cfg.Concurrency = 1
	})
	require.NoError(t, err)
	for range 2 { // the place of the first is free again
		_, err = s.Synthesize(t.Context(), tts.Request{Text: "hello"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestUnreadSoundIsGivenUpByClose(t *testing.T) {
	need(t, "flite")
	s, err := openCommand(t, "flite", func(cfg *tts.CommandConfig) { cfg.Concurrency = 1 })
	require.NoError(t, err)
	for range 3 {
		a, err := s.Synthesize(t.Context(), tts.Request{Text: "A long sentence that nobody wants to hear to its end, nor the next one."})
		require.NoError(t, err)
		_, err = a.Read(make([]int16, 10))
		require.NoError(t, err)
		require.NoError(t, a.Close())
	}
}

func TestCommandConfiguration(t *testing.T) {
	for name, set := range map[string]func(*tts.CommandConfig){
		"concurrency": func(c *tts.CommandConfig) { c.Concurrency = 0 },
		"timeout":     func(c *tts.CommandConfig) { c.Timeout = 0 },
		"speed":       func(c *tts.CommandConfig) { c.Speed = 7 },
		"voice":       func(c *tts.CommandConfig) { c.Voice = "-o/etc/passwd" },
		"program":     func(c *tts.CommandConfig) { c.Program = "" },
		"install":     func(c *tts.CommandConfig) { c.Program = "/nowhere/engine" },
	} {
		_, err := openCommand(t, "espeak", set)
		require.ErrorContains(t, err, name)
	}
	s, err := openCommand(t, "espeak", func(c *tts.CommandConfig) { c.Program = script(t, "exit 0") })
	require.NoError(t, err)
	_, err = s.Synthesize(t.Context(), tts.Request{Text: string(make([]byte, 1<<20))})
	require.ErrorIs(t, err, tts.ErrText)
}

// The whole way of a prompt, from the engine to the line.
func TestPromptReachesTheLine(t *testing.T) {
	need(t, "flite")
	s, err := tts.Providers.Open(t.Context(), "flite", nil, deps())
	require.NoError(t, err)
	c := tts.NewCache(1<<20, pcm.Mu)
	defer c.Close()
	clip := c.Clip(t.Context(), tts.Resilient(s), tts.Request{Text: "What would you like to order?"})
	require.NoError(t, ready(t, clip))
	require.InDelta(t, 1.7, clip.Duration().Seconds(), 0.6)
}
