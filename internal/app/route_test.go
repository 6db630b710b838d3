package app

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestNumbersBecomeInternational(t *testing.T) {
	for _, c := range []struct{ in, region, want string }{
		{"+14155550100", "US", "+14155550100"},
		{"14155550100", "US", "+14155550100"},
		{"4155550100", "US", "+14155550100"},
		{"(415) 555-0100", "US", "+14155550100"},
		{"030 901820", "DE", "+4930901820"},
		{"0049 30 901820", "DE", "+4930901820"},
		{"100", "US", "100"},
		{"112", "DE", "112"},
		{"demo", "US", "demo"},
		{"", "US", ""},
		{"+", "US", "+"},
	} {
		require.Equal(t, c.want, e164(c.in, c.region), c.in)
	}
}

func TestEveryVariableIsThereAtLaunch(t *testing.T) {
	a := configs.DefaultAgent()
	a.Headers = []string{"X-Crm-Id", "X-None"}
	a.Voiceflow.Variables = map[string]string{"crm": "sip_x_crm_id", "phone": "caller_number"}
	in := call.Info{ID: "c", Caller: "+14155550100", Called: "+14155550199", Headers: map[string]string{"x-crm-id": "42"}}
	v := variables(a, in, time.Unix(0, 0).UTC())
	for _, name := range []string{
		"caller_number", "caller_name", "caller_anonymous", "called_number", "call_id", "call_direction", "trunk", "diverted_from",
		"uui", "language", "local_time", "input_type", "confidence", "heard_until", "transfer_outcome", "transfer_cause",
		"transfer_target", "transfer_seconds", "recording_url",
	} {
		require.Contains(t, v, name)
	}
	require.Equal(t, "42", v["sip_x_crm_id"])
	require.Empty(t, v["sip_x_none"])
	require.Equal(t, "42", v["crm"])
	require.Equal(t, "+14155550100", v["phone"])
	require.Equal(t, "1970-01-01T00:00:00Z", v["local_time"])
}

func TestSessionsAreOpaqueAndNeverShared(t *testing.T) {
	a := configs.DefaultAgent()
	a.Name, a.Voiceflow.APIKey = "shop", secret.New("key")
	in := call.Info{Caller: "+14155550100", Called: "+14155550199", Trunk: "t"}
	var s sessions
	one, free := s.name(a, in, true)
	free()
	two, _ := s.name(a, in, true)
	require.NotEqual(t, one, two, "session: call is a new one each time")
	require.Regexp(t, `^[a-z2-7]{26}$`, one)

	a.Voiceflow.Session = "caller"
	one, free = s.name(a, in, true)
	other, _ := s.name(a, in, true)
	require.NotEqual(t, one, other, "one live call a session")
	free()
	again, free := s.name(a, in, true)
	require.Equal(t, one, again)
	free()
	for _, change := range []func(*call.Info){
		func(i *call.Info) { i.Anonymous = true },
		func(i *call.Info) { i.Caller = "100" },
		func(i *call.Info) { i.Caller = i.Called },
		func(i *call.Info) { i.Trunk = "elsewhere" },
	} {
		in := in
		change(&in)
		id, _ := s.name(a, in, true)
		require.NotEqual(t, one, id)
	}
	id, _ := s.name(a, in, false)
	require.NotEqual(t, one, id, "a number that nobody vouches for")
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	c := configs.Default()
	require.Empty(t, Unavailable(&c))
	c.SIP.Listen = append(c.SIP.Listen, configs.Listen{Transport: "tls", Addr: netip.MustParseAddrPort("0.0.0.0:5061")})
	c.SIP.ExternalIP.Auto = true
	c.Trunks[0].SRTP = "require"
	c.Trunks[0].Register.Registrar = "sip:x"
	c.Trunks[0].Users = []configs.User{{Username: "a"}}
	a := configs.DefaultAgent()
	a.Voiceflow.API = "v4"
	a.TTS.Provider = "voiceflow"
	a.Actions.URL = "https://x"
	c.Agents = []configs.Agent{a}
	require.Len(t, Unavailable(&c), 7)
}

func TestRTPIsBoundWhereSIPIs(t *testing.T) {
	l := func(addrs ...string) (out []configs.Listen) {
		for _, a := range addrs {
			out = append(out, configs.Listen{Transport: "udp", Addr: netip.MustParseAddrPort(a)})
		}
		return out
	}
	require.Equal(t, "127.0.0.1", bindTo(l("127.0.0.1:1", "127.0.0.1:2")).String())
	require.Equal(t, "0.0.0.0", bindTo(l("127.0.0.1:1", "10.0.0.1:2")).String())
	require.Equal(t, "::", bindTo(l("0.0.0.0:1", "[::]:2")).String())
}

func TestIntentsAreTriedLongestFirst(t *testing.T) {
	in := intents(map[string]configs.Strings{"b": {"order", "my order status"}, "a": {"opening hours"}})
	require.Equal(t, "my order status", in[0].Phrase)
	require.Equal(t, "order", in[2].Phrase)
}
