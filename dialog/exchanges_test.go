package dialog

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is one file of exchanges with the real engine.
type recorded struct {
	Scenario string `json:"scenario"`
	Steps    []struct {
		Request struct {
			Method string          `json:"method"`
			Path   string          `json:"path"`
			Body   json.RawMessage `json:"body"`
		} `json:"request"`
		Response struct {
			Status      int             `json:"status"`
			ContentType string          `json:"contentType"`
			Body        json.RawMessage `json:"body"`
		} `json:"response"`
	} `json:"steps"`
}

func recordings(t *testing.T) map[string]recorded {
	t.Helper()
	files, err := filepath.Glob("../../shared/voiceflow/exchanges/*.json")
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skip("the recorded exchanges are not beside this checkout")
	}
	all := make(map[string]recorded)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		var r recorded
		require.NoError(t, json.Unmarshal(b, &r), f)
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = r
	}
	return all
}

func TestRecordedExchangesDecodeAsTheyStand(t *testing.T) {
	kinds := make(map[Kind]int)
	for name, r := range recordings(t) {
		for _, s := range r.Steps {
			turn := strings.Contains(s.Request.Path, "interact") && s.Request.Method == http.MethodPost && !strings.Contains(s.Request.Path, "stream")
			if s.Response.Status != 200 && s.Response.Status != 0 {
				require.NotEmpty(t, errorText(s.Response.Body), "%s: %s", name, s.Response.Body)
				continue
			}
			if !turn || s.Response.Status == 0 {
				continue
			}
			var steps []Step
			err := readTraces(bytes.NewReader(s.Response.Body), func(tr Trace) error {
				require.NotEmpty(t, tr.Type, name)
				steps = append(steps, Interpret(tr))
				return nil
			})
			require.NoError(t, err, "%s: %s", name, s.Response.Body)
			for _, st := range steps {
				kinds[st.Kind]++
				if st.Kind == KindChoice {
					require.NotEmpty(t, st.Buttons, name)
				}
				if st.Kind == KindNoReply {
					require.Positive(t, st.Timeout, name)
				}
				if st.Kind == KindAction {
					require.Contains(t, []string{"dial", "DTMF", "notify", "hold"}, st.Name, name)
				}
			}
		}
	}
	for _, k := range []Kind{KindSpeak, KindAudio, KindChoice, KindNoReply, KindAction, KindEnd, KindStream, KindCard, KindEntity, KindDebug, KindIgnore} {
		require.NotZero(t, kinds[k], k.String())
	}
}

func TestAnswersAreUnderstood(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		var fixture struct {
			Answer json.RawMessage `json:"answer"`
			Kinds  []string        `json:"kinds"` // of the parts, in their order
		}
		require.NoError(t, json.Unmarshal(b, &fixture))
		var kinds []string
		require.NoError(t, readTraces(bytes.NewReader(fixture.Answer), func(tr Trace) error {
			for _, s := range Interpret(tr).Split() {
				kinds = append(kinds, s.Kind.String())
			}
			return nil
		}))
		require.Equal(t, fixture.Kinds, kinds, f)
	}
}

func TestRecordedButtonsGoBackVerbatim(t *testing.T) {
	for name, r := range recordings(t) {
		for _, s := range r.Steps {
			_ = readTraces(bytes.NewReader(s.Response.Body), func(tr Trace) error {
				for _, b := range Interpret(tr).Buttons {
					out, err := encode(Press(b))
					require.NoError(t, err)
					require.JSONEq(t, string(b.Request), string(out), name)
				}
				return nil
			})
		}
	}
}
