package app

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// hung is a server that accepts and never answers.
func hung(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}

// TestVoiceThatDoesNotAnswerKeepsNobodyWaiting starts a bridge whose voice
// hangs: it takes calls, with a tone for its own sentences.
func TestVoiceThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	conf := configs.Default()
	any0 := netip.MustParseAddrPort("127.0.0.1:0")
	conf.SIP.Listen = []configs.Listen{{Transport: "udp", Addr: any0}, {Transport: "tcp", Addr: any0}}
	conf.Media.RTPPorts = configs.PortRange{Low: 19000, High: 19019}
	conf.HTTP.Listen, conf.RTC.Listen = "127.0.0.1:0", ""
	agent := configs.DefaultAgent()
	agent.Name, agent.Voiceflow.APIKey = "a", secret.New("VF.DM.000000000000000000000000.test")
	agent.ASR = configs.NewAdapter(configs.None, nil)
	agent.TTS = configs.NewAdapter("openai", map[string]any{"url": "http://" + hung(t) + "/v1"})
	conf.Agents = []configs.Agent{agent}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := New(ctx, Options{Config: &conf, Version: "test", Log: zap.NewNop(), Registry: prometheus.NewRegistry(), Quarantine: time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, a.Start(ctx))
	require.NoError(t, a.ready())
	require.NotEmpty(t, a.HTTP())
	require.Len(t, a.SIP(), 2)
	require.Positive(t, a.agents["a"].voice.Prompts.Get(machine.PromptApology).Len())
	require.NoError(t, a.Stop(ctx))
	require.NoError(t, ctx.Err())
}
