package call

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// completion is a streamed message as traces.
func completion(state, content string) dialog.Trace {
	payload, _ := json.Marshal(map[string]string{"state": state, "content": content})
	return dialog.Trace{Type: "completion", Payload: payload}
}

func planned(p *planner, traces ...dialog.Trace) []machine.Item {
	var items []machine.Item
	for _, tr := range traces {
		for _, s := range dialog.Interpret(tr).Split() {
			items = append(items, p.plan(s)...)
		}
	}
	return items
}

func spoken(items []machine.Item) []string {
	var out []string
	for _, it := range items {
		switch it.Kind {
		case machine.Speech:
			out = append(out, it.Text)
		default:
			out = append(out, fmt.Sprint(it.Kind))
		}
	}
	return out
}

func TestSentencesAreSpokenAsTheyComplete(t *testing.T) {
	p := &planner{}
	require.Empty(t, planned(p, completion("start", "")))
	steps := []struct {
		token string
		says  []string
	}{
		{"Hel", nil},
		{"lo Mr.", nil},
		{" Smith.", nil},
		{" It", []string{"Hello Mr. Smith."}},
		{" costs 3.", nil},
		{"50 euros! W", []string{"It costs 3.50 euros!"}},
		{"ait **for.", nil},
		{" it** please. [See. he", []string{"Wait for.", "it please."}},
		{"re](https://x.example/a. b). Thanks", []string{"See.", "here."}},
	}
	for _, s := range steps {
		require.Equal(t, s.says, spoken(planned(p, completion("content", s.token))), s.token)
	}
	require.Equal(t, []string{"Thanks"}, spoken(planned(p, completion("end", ""))))
	require.Empty(t, p.flush(true))
}

func TestAStreamThatBreaksSpeaksNoHalfSentence(t *testing.T) {
	for said, want := range map[string][]string{"One. Two. Th": {"One.", "Two."}, `One. "Two."`: {"One.", `"Two."`}, "One": nil} {
		p := &planner{}
		got := spoken(planned(p, completion("start", ""), completion("content", said)))
		require.Equal(t, want, append(got, spoken(p.flush(false))...))
	}
}

func TestOtherTracesEndAStreamedMessage(t *testing.T) {
	p := &planner{}
	got := planned(p,
		completion("content", "No start, no"), dialog.Trace{Type: "debug", Payload: json.RawMessage(`{"message":"x"}`)}, completion("content", " end"),
		dialog.Trace{Type: "end"},
	)
	require.Equal(t, []string{"No start, no end", fmt.Sprint(machine.End)}, spoken(got))
	old := func(typ, payload string) dialog.Trace {
		return dialog.Trace{Type: typ, Payload: json.RawMessage(payload)}
	}
	got = planned(p,
		old("completion-start", `{"type":"speak","completion":"One <break time=\"1s\"/> two. <prosody rate=\"slow\">Three. F"}`),
		old("completion-continue", `{"completion":"our.</prosody> Five."}`), old("completion-end", ``),
	)
	require.Equal(t, []string{"One.", "two.", "Three.", "Four.", "Five."}, spoken(got))
}

// TestStreamedWordsAreThoseOfOneMessage compares a message that comes in one
// piece with the same in any pieces.
func TestStreamedWordsAreThoseOfOneMessage(t *testing.T) {
	phrases := []string{
		"Hello.", "How are you?", "It costs 3.50 euros", "Dr. Who is in.", "**Very. important**", "`code. here`", "\n- a list", "\n1. First", "\n2. Second",
		"See [our. page](https://example.com/a.html).", "Visit https://example.com/x.y now.", "Wow!", "…", "\n", "\n\n", "*so. so*", "e.g. this", "at 5 p.m. Today", "{name. x}",
		strings.Repeat("very ", 80) + "long.", "grüß Gott. Übermorgen!", "“Quoted.”", "(In brackets.)",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(phrases), 1, 12).Draw(t, "phrases"), " ")
		p := &planner{}
		whole := textOf(p.items(dialog.Step{Kind: dialog.KindSpeak, Text: text}))
		traces := []dialog.Trace{completion("start", "")}
		for rest := []rune(text); len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, 12).Draw(t, "n"))
			traces = append(traces, completion("content", string(rest[:n])))
			rest = rest[n:]
		}
		streamed := textOf(planned(&planner{}, append(traces, completion("end", ""))...))
		require.Equal(t, letters(whole), letters(streamed))
	})
}

// letters leaves out what no voice says.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" .,;:!?…\n\"“”()", r) {
			return -1
		}
		return r
	}, s)
}

func TestStreamedSound(t *testing.T) {
	chunk := func(state, content, encoding string) dialog.Trace {
		payload, _ := json.Marshal(map[string]string{"state": state, "content": content, "encoding": encoding})
		return dialog.Trace{Type: "audio", Payload: payload}
	}
	samples := func(n int) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xFF", n))) }
	text := dialog.Trace{Type: "text", Payload: json.RawMessage(`{"message":"Hello. You."}`)}

	p := &planner{inTraces: true}
	require.Empty(t, planned(p, text, chunk("start", "", ""), chunk("content", samples(400), "audio/x-mulaw"), chunk("content", samples(401), "audio/x-mulaw")))
	got := planned(p, chunk("end", "", ""))
	require.Len(t, got, 1)
	require.Equal(t, "Hello. You.", got[0].Text, "what is spoken when the sound cannot be played")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got[0].Src, "data:audio/wav;base64,"))
	require.NoError(t, err)
	a, err := pcm.Open(strings.NewReader(string(raw)), soundLimits)
	require.NoError(t, err)
	require.Equal(t, 8000, a.SampleRate())
	total := 0
	for err == nil {
		var n int
		n, err = a.Read(make([]int16, 256))
		total += n
	}
	require.Equal(t, 801, total)

	require.Empty(t, planned(p, text))
	require.Equal(t, []string{"Hello.", "You."}, spoken(p.flush(true)), "words without sound")
	require.Empty(t, planned(p, text))
	require.Equal(t, []string{"Hello.", "You.", fmt.Sprint(machine.End)}, spoken(planned(p, dialog.Trace{Type: "end"})))
	got = planned(p, chunk("content", samples(4), ""), chunk("end", "", ""))
	require.True(t, strings.HasPrefix(got[0].Src, "data:audio/mp3;base64,"))
	require.Equal(t, machine.Sound, got[0].Kind)
	require.Empty(t, planned(p, chunk("start", "", ""), chunk("content", "!", "audio/pcm"), chunk("end", "", "")))
}
