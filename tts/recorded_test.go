package tts

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func TestEveryRecordedPhraseHasItsSound(t *testing.T) {
	s, err := Providers.Open(t.Context(), "recorded", nil, registry.Deps{Log: zap.NewNop()})
	require.NoError(t, err)
	list, err := fs.ReadFile(recordings, "recordings/sentences.txt")
	require.NoError(t, err)
	for phrase := range strings.SplitSeq(strings.TrimSpace(string(list)), "\n") {
		require.Greater(t, loudest(t, s, phrase), -35.0, phrase)
	}
}

// loudest returns the level of the loudest 20 ms.
func loudest(t *testing.T, s Synthesizer, text string) float64 {
	t.Helper()
	audio, err := s.Synthesize(t.Context(), Request{Text: text})
	require.NoError(t, err, text)
	best, frame := -100.0, make([]int16, 160)
	for {
		n, err := audio.Read(frame)
		best = max(best, pcm.Level(frame[:n]))
		if err != nil {
			return best
		}
	}
}

func TestRecordedPhrasesAreJoined(t *testing.T) {
	s, err := Providers.Open(t.Context(), "recorded", nil, registry.Deps{Log: zap.NewNop()})
	require.NoError(t, err)
	audio, err := s.Synthesize(t.Context(), Request{Text: "Order 1002 is packed and leaves today."})
	require.NoError(t, err)
	require.NoError(t, audio.Close())
	_, err = s.Synthesize(t.Context(), Request{Text: "Order 12 was eaten."})
	require.ErrorIs(t, err, ErrNotRecorded)
}
