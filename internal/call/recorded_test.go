package call

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/tts"
)

// TestRecordingsCoverTheDemo walks through the demo's flow and looks for a
// recording of everything that it says: without a speech engine the demo still
// talks. PRINT_SENTENCES=1 prints what is said, for make recordings.
func TestRecordingsCoverTheDemo(t *testing.T) {
	flow, err := localflow.Demo()
	require.NoError(t, err)
	server := localflow.New(flow, localflow.Options{})
	defer func() { require.NoError(t, server.Close()) }()
	client, err := dialog.New(dialog.Config{
		URL: "http://127.0.0.1", APIKey: secret.New("VF.DM.000000000000000000000000.test"), Environment: "production",
		HTTP: &http.Client{Transport: server.Transport()},
	})
	require.NoError(t, err)
	recorded, err := tts.Providers.Open(t.Context(), "recorded", nil, registry.Deps{Log: zap.NewNop()})
	require.NoError(t, err)
	silence, reply, text := dialog.NoReply(), dialog.Outcome, dialog.Text
	var said []string
	for i, walk := range [][]dialog.Action{
		{silence, silence, silence},
		{text("gibberish"), text("gibberish"), text("gibberish")},
		{text("order status"), text("1001"), text("goodbye")},
		{text("order alpha"), text("order bravo"), text("order charlie"), silence},
		{text("order status"), silence, silence, silence},
		{text("order status"), text("gibberish")},
		{text("order status"), text("1234567")},
		{text("order status"), text("906"), text("5827"), reply("busy", nil)},
		{text("opening hours"), text("speak to a human"), reply("busy", nil)},
		{text("speak to a human"), reply("no answer", nil), text("agent"), reply("failed", nil)},
	} {
		session, err := client.Open(t.Context(), dialog.Caller{ID: string(rune('a' + i))})
		require.NoError(t, err)
		for _, action := range append([]dialog.Action{dialog.Launch(nil)}, walk...) {
			_, err = session.Interact(t.Context(), dialog.Turn{Action: action, StopTypes: []string{"dial"}}, func(tr dialog.Trace) error {
				for _, step := range dialog.Interpret(tr).Split() {
					for _, it := range (&planner{noReply: time.Second}).plan(step) {
						if it.Text != "" && !slices.Contains(said, it.Text) {
							said = append(said, it.Text)
						}
					}
				}
				return nil
			})
			require.NoError(t, err)
		}
	}
	if os.Getenv("PRINT_SENTENCES") != "" {
		t.Log("\n" + strings.Join(said, "\n"))
	}
	for _, s := range said {
		audio, err := recorded.Synthesize(t.Context(), tts.Request{Text: s})
		if err != nil {
			t.Errorf("no recording of %q: %v", s, err)
			continue
		}
		require.NoError(t, audio.Close())
	}
	require.Greater(t, len(said), 20)
}

func TestOnlyHarmlessHeadersTravel(t *testing.T) {
	for name, ok := range map[string]bool{
		"X-Crm": true, "x-a1": true, "User-to-User": true, "Refer-To": false, "Via": false, "X-A\r\nB": false, "X A": false, "": false,
	} {
		require.Equal(t, ok, mayTravel(name, "1"), name)
	}
	require.False(t, mayTravel("X-A", "1\r\nX-B: 2"))
	require.False(t, mayTravel("X-A", strings.Repeat("a", 257)))
}

func TestLabelsOfUnknownTracesAreBounded(t *testing.T) {
	m, err := NewMetrics(nil)
	require.NoError(t, err)
	for i := range 3 * mostTypes {
		m.nobodyHandles(strings.Repeat("x", i%100))
	}
	require.Len(t, m.types, mostTypes)
}
