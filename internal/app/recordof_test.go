package app

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/target"
)

func TestRecordHoldsEveryHandover(t *testing.T) {
	began := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	res := call.Result{Began: began, Ended: began.Add(time.Minute), Handovers: []call.Handover{
		{Began: began.Add(10 * time.Second), Target: "+19005550123", Outcome: machine.Refused, Cause: "premium"},
		{Began: began.Add(20 * time.Second), Target: "sip:anna@example.com", Mode: target.ModeRefer, Outcome: machine.Busy, Cause: "486", Status: 486, Took: 2500 * time.Millisecond},
	}}
	require.Equal(t, []record.Transfer{
		{Began: began.Add(10 * time.Second), Target: "+19005550123", Outcome: "refused", Cause: "premium"},
		{Began: began.Add(20 * time.Second), Seconds: 2.5, Target: "sip:anna@example.com", Mode: "refer", Outcome: "busy", Cause: "486", Status: 486},
	}, recordOf(res).Transfers)

	line := zapcore.NewMapObjectEncoder()
	for _, f := range summary(res) {
		f.AddTo(line)
	}
	require.EqualValues(t, 2, line.Fields["transfers"])
	require.Equal(t, "busy", line.Fields["transfer_outcome"])
	require.Equal(t, "486", line.Fields["transfer_cause"])

	res.Handovers = nil
	require.Empty(t, recordOf(res).Transfers)
	for _, f := range summary(res) {
		require.NotContains(t, f.Key, "transfer")
	}
}

func TestCheckLooksAtTheAgentOfVoiceflow(t *testing.T) {
	const conf = `agents:
  - name: a
    asr: {provider: none}
    tts: {provider: none}
    voiceflow:
      url: https://general-runtime.voiceflow.com/state/user/x/interact
      api_key: VF.WS.123
      environment: prod uction
      project: "1 2"
`
	_, problems, err := configs.Read(strings.NewReader(conf), configs.Options{Check: func(kind, provider string, d registry.Decode) error {
		if kind != configs.KindVoiceflow {
			return nil
		}
		return CheckAdapter(kind, provider, d)
	}})
	require.Error(t, err)
	var got []string
	for _, p := range problems.Errors() {
		got = append(got, p.String())
	}
	require.Equal(t, []string{
		"line 6: agents[0].voiceflow.url: write it without /state/user/…, only the server's address",
		"line 7: agents[0].voiceflow.api_key: this is a workspace key (VF.WS.…), copy the agent's Dialog API key (VF.DM.…)",
		`line 8: agents[0].voiceflow.environment: "prod uction" cannot be one, write auto, production, development, staging, main or an id`,
		`line 9: agents[0].voiceflow.project: "1 2" cannot be an id`,
	}, got)
}
