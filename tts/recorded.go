package tts

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "recorded", func() RecordedConfig { return RecordedConfig{} }, openRecorded)
}

// RecordedConfig configures the voice "recorded", which knows the sentences of
// the demo and those of the bridge itself and nothing else. It needs no engine.
type RecordedConfig struct{}

// ErrNotRecorded says that a text is not made of recorded phrases.
var ErrNotRecorded = errors.New("tts: not recorded")

// recordings hold sentences.txt, a phrase a line, and audio/N.ulaw, the sound of
// line N: µ-law at 8 kHz. make recordings renders them.
//
//go:embed recordings
var recordings embed.FS

type recorded struct{ phrases map[string]int }

func openRecorded(context.Context, RecordedConfig, registry.Deps) (Synthesizer, error) {
	list, err := recordings.ReadFile("recordings/sentences.txt")
	if err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	r := recorded{phrases: map[string]int{}}
	for i, phrase := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		r.phrases[strings.Join(spokenWords(phrase), " ")] = i + 1
	}
	return r, nil
}

// Key implements Synthesizer.
func (recorded) Key() string { return "recorded" }

// SSML implements Synthesizer.
func (recorded) SSML() bool { return false }

// Synthesize implements Synthesizer: the text is put together from the longest
// phrases that were recorded.
func (r recorded) Synthesize(_ context.Context, req Request) (Audio, error) {
	words := spokenWords(req.Text)
	var sound []byte
	for len(words) > 0 {
		n, line := r.longest(words)
		if n == 0 {
			return nil, fmt.Errorf("%w: %q", ErrNotRecorded, words[0])
		}
		b, err := recordings.ReadFile(fmt.Sprintf("recordings/audio/%d.ulaw", line))
		if err != nil {
			return nil, fmt.Errorf("%w: line %d has no sound", ErrNotRecorded, line)
		}
		sound = append(sound, b...)
		words = words[n:]
	}
	return &muLaw{Reader: bytes.NewReader(sound)}, nil
}

// longest returns how many words the longest phrase at the beginning has, and
// its line.
func (r recorded) longest(words []string) (n, line int) {
	for n = len(words); n > 0; n-- {
		if line, ok := r.phrases[strings.Join(words[:n], " ")]; ok {
			return n, line
		}
	}
	return 0, 0
}

// spokenWords splits a text into lower-case words, numbers into digits.
func spokenWords(text string) []string {
	var b strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case unicode.IsDigit(c):
			b.WriteByte(' ')
			b.WriteRune(c)
			b.WriteByte(' ')
		case unicode.IsLetter(c) || c == '\'':
			b.WriteRune(c)
		default:
			b.WriteByte(' ')
		}
	}
	return strings.Fields(b.String())
}

// muLaw is µ-law sound in memory.
type muLaw struct{ *bytes.Reader }

func (*muLaw) SampleRate() int { return pcm.Rate }
func (*muLaw) Close() error    { return nil }

func (m *muLaw) Read(p []int16) (int, error) {
	b := make([]byte, len(p))
	n, err := m.Reader.Read(b)
	pcm.Mu.Decode(p, b[:n])
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}
