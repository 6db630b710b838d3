package rtc

import (
	"net"
	"testing"
	"time"

	"github.com/pion/turn/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media"
)

// relay runs a STUN and TURN server.
func relay(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "lab", LoggerFactory: newLogFactory(zap.NewNop()),
		AuthHandler: func(r *turn.RequestAttributes) (string, []byte, bool) {
			return r.Username, turn.GenerateAuthKey(r.Username, "lab", "secret"), r.Username == "bridge"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
		}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return conn.LocalAddr().String()
}

func TestStunTellsHowOurPortLooksFromOutside(t *testing.T) {
	at := relay(t)
	s := set(t, func(c *Config) { c.ICEServers = []ICEServer{{URLs: []string{"stun:127.0.0.1:1", "stun:" + at}}} })
	until(t, "the server answers", func() bool { return s.api.mapped.Load() != nil })
	require.Equal(t, s.udp.LocalAddr().String(), s.api.mapped.Load().String())
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{})
	b.call(p)
	until(t, "sound comes by the same port", func() bool { return level(b.heard(1600), 440) > 6000 })
	require.NotContains(t, b.pc.RemoteDescription().SDP, "srflx", "it is the host's own")

	outside := net.UDPAddrFromAddrPort(farRTP).AddrPort()
	s.api.mapped.Store(&outside)
	require.Contains(t, s.api.addresses(nil), "stun 1 udp 1694498815 100::1 1 typ srflx raddr 0.0.0.0 rport 0")
}

func TestTurnOffersARelay(t *testing.T) {
	at := relay(t)
	s := set(t, func(c *Config) {
		c.ICEServers = []ICEServer{{URLs: []string{"turn:" + at + "?transport=udp"}, Username: "bridge", Credential: "secret"}}
	})
	began := time.Now()
	p := s.peer(media.LegConfig{})
	answer, _, err := p.Answer(t.Context(), []byte(pageOffer))
	require.NoError(t, err)
	require.Contains(t, string(answer), "typ relay")
	require.Less(t, time.Since(began), patience)
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer conn.Close()
	e := media.NewEngine(media.EngineConfig{})
	defer e.Close()
	for _, c := range []Config{
		{},
		{UDP: conn},
		{Engine: e},
		{UDP: conn, Engine: e, ICEServers: []ICEServer{{URLs: []string{"stun"}}}},
		{UDP: conn, Engine: e, ICEServers: []ICEServer{{URLs: []string{"http://x"}}}},
	} {
		_, err := New(c)
		require.Error(t, err)
	}
}
