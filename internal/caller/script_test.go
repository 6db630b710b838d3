package caller

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScriptTellsAllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte(`
- hear: {within: 5s}
- listen: 1
- press: "1x"
- event: {within: 3s}
- expect: {text: ""}
- say: a
  press: "1"
- wait: -1s
- hear: 5
`))
	require.EqualError(t, err, `line 3: field listen not found in a step
line 4: press takes 0-9, *, #, A-D, and w or W for pauses
line 5: event wants one of refer, moved, ended, held
line 6: expect wants a text
line 7: a step does one thing: hear, silence, press, say, play, expect, event, wait, hold or hangup
line 9: "-1s" is no time, write for example 5s or 500ms
line 10: cannot unmarshal !!int `+"`5`"+` into caller.Within`)
}

func TestScriptIsCheckedBeforeTheCall(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "here.wav"), nil, 0o600))
	for script, want := range map[string]string{
		"- play: here.wav\n- hangup\n":             "",
		"- hangup\n- play: there.wav\n":            "line 2: stat " + filepath.Join(dir, "there.wav"),
		"- play: " + filepath.Join(dir, "x.wav\n"): "line 1: stat " + filepath.Join(dir, "x.wav"),
		"":       "there are no steps",
		"[]\n":   "there are no steps",
		"hangup": "a script is a list of steps",
	} {
		path := filepath.Join(dir, "script.yaml")
		require.NoError(t, os.WriteFile(path, []byte(script), 0o600))
		_, err := Load(path)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, Quick("", "", "12w#").Check())
	require.EqualError(t, Quick("", "", "1-2").Check(), "press takes 0-9, *, #, A-D, and w or W for pauses")
}
