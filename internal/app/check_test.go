package app

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/configs"
)

// An unknown key hides no mistake in the keys beside it.
func TestCheckReportsEveryMistakeOfAnAdapter(t *testing.T) {
	const text = `
agents:
  - name: a
    voiceflow: {api_key: VF.DM.000000000000000000000000.test}
    asr: {provider: vosk, url: "ftp://x", voicee: q}
routes: [{agent: a}]
`
	_, problems, err := configs.Read(strings.NewReader(text), configs.Options{Check: CheckAdapter})
	require.Error(t, err)
	said := problems.Errors().String()
	require.Contains(t, said, "line 5: agents[0].asr.voicee: unknown key")
	require.Contains(t, said, `line 5: agents[0].asr: vosk: url: "ftp://x"`)
}
