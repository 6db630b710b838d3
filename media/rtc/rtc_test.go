package rtc

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should come: the machine may be
// slow.
const patience = 20 * time.Second

// A journal keeps the events of a leg.
type journal struct {
	mu  sync.Mutex
	all []media.Event
}

func (j *journal) Post(e media.Event) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, e)
	return true
}

func (j *journal) of(k media.Kind) []media.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []media.Event
	for _, e := range j.all {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

func (j *journal) digits() string {
	var b strings.Builder
	for _, e := range j.of(media.Digit) {
		b.WriteByte(e.Digit)
	}
	return b.String()
}

// An ear keeps what the leg hears.
type ear struct {
	mu sync.Mutex
	rx []int16
}

func (e *ear) Frame(_ int64, rx, _ []int16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rx = append(e.rx, rx...)
}

// last returns the last n samples, or nil.
func (e *ear) last(n int) []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.rx) < n {
		return nil
	}
	return append([]int16(nil), e.rx[len(e.rx)-n:]...)
}

// A stage is an API on loopback ports.
type stage struct {
	t      testing.TB
	engine *media.Engine
	api    *API
	udp    net.PacketConn
	tcp    net.Listener
	seen   *prometheus.Registry
}

func set(tb testing.TB, change func(*Config)) *stage {
	tb.Helper()
	s := &stage{t: tb, seen: prometheus.NewRegistry()}
	var err error
	s.udp, err = net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(tb, err)
	s.tcp, err = net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(tb, err)
	s.engine = media.NewEngine(media.EngineConfig{Ports: media.UDPPorts(netip.MustParseAddr("127.0.0.1"), 37000, 37099, 0)})
	c := Config{UDP: s.udp, TCP: s.tcp, Loopback: true, Engine: s.engine, Log: zap.NewNop(), Metrics: s.seen}
	if change != nil {
		change(&c)
	}
	s.api, err = New(c)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		s.api.Close()
		s.engine.Close()
	})
	return s
}

func (s *stage) peer(c media.LegConfig) *Peer {
	s.t.Helper()
	p, err := s.api.NewPeer(c)
	require.NoError(s.t, err)
	return p
}

// A browser is a page with a peer connection.
type browser struct {
	t    testing.TB
	pc   *webrtc.PeerConnection
	out  *track
	send *webrtc.RTPSender
	recv chan *webrtc.RTPReceiver

	mu   sync.Mutex
	got  []rtp.Packet
	seq  uint16
	left func()
}

type browserConfig struct {
	laws   []string // in the order of preference
	tcp    bool     // no UDP
	event  uint8    // payload type of telephone-event; 0: none
	change func(*webrtc.SettingEngine)
}

// open makes a browser and its track.
func open(tb testing.TB, c browserConfig) *browser {
	tb.Helper()
	if c.laws == nil {
		c.laws = []string{webrtc.MimeTypePCMU, webrtc.MimeTypePCMA}
	}
	m := &webrtc.MediaEngine{}
	for _, law := range c.laws {
		number := webrtc.PayloadType(0)
		if law == webrtc.MimeTypePCMA {
			number = 8
		}
		require.NoError(tb, m.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: law, ClockRate: 8000}, PayloadType: number,
		}, webrtc.RTPCodecTypeAudio))
	}
	if c.event != 0 {
		require.NoError(tb, m.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000},
			PayloadType:        webrtc.PayloadType(c.event),
		}, webrtc.RTPCodecTypeAudio))
	}
	s := webrtc.SettingEngine{LoggerFactory: newLogFactory(zap.NewNop())}
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(net.IP.IsLoopback)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if c.tcp {
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}
	if c.change != nil {
		c.change(&s)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	require.NoError(tb, err)
	b := &browser{t: tb, pc: pc, out: &track{}, recv: make(chan *webrtc.RTPReceiver, 1), left: sync.OnceFunc(func() { _ = pc.GracefulClose() })}
	b.send, err = pc.AddTrack(b.out)
	require.NoError(tb, err)
	pc.OnTrack(func(track *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		select {
		case b.recv <- r:
		default:
		}
		for buf := make([]byte, 2048); ; {
			n, _, err := track.Read(buf)
			var p rtp.Packet
			if n == 0 || p.Unmarshal(append([]byte(nil), buf[:n]...)) != nil {
				if err != nil {
					return
				}
				continue
			}
			b.mu.Lock()
			b.got = append(b.got, p)
			b.mu.Unlock()
		}
	})
	tb.Cleanup(b.left)
	return b
}

// offer is the browser's description with all its candidates.
func (b *browser) offer(o *webrtc.OfferOptions) string {
	b.t.Helper()
	offer, err := b.pc.CreateOffer(o)
	require.NoError(b.t, err)
	done := webrtc.GatheringCompletePromise(b.pc)
	require.NoError(b.t, b.pc.SetLocalDescription(offer))
	await(b.t, done)
	return b.pc.LocalDescription().SDP
}

func (b *browser) take(answer []byte) {
	b.t.Helper()
	require.NoError(b.t, b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}))
}

// call lets the browser call the peer.
func (b *browser) call(p *Peer) Terms {
	b.t.Helper()
	answer, terms, err := p.Answer(b.t.Context(), []byte(b.offer(nil)))
	require.NoError(b.t, err)
	b.take(answer)
	await(b.t, p.Connected())
	until(b.t, "the page is connected", func() bool { return b.pc.ConnectionState() == webrtc.PeerConnectionStateConnected })
	return terms
}

// packet sends one packet of the browser.
func (b *browser) packet(pt uint8, marker bool, ts uint32, payload []byte) {
	h := b.header(pt, marker, ts)
	if stream := b.out.stream.Load(); stream != nil {
		_, _ = (*stream).WriteRTP(&h, payload)
	}
}

func (b *browser) header(pt uint8, marker bool, ts uint32) rtp.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	return rtp.Header{
		Version: 2, PayloadType: pt, Marker: marker, SequenceNumber: b.seq, Timestamp: ts,
		SSRC: uint32(b.send.GetParameters().Encodings[0].SSRC),
	}
}

// talk sends a tone until ctx is over.
func (b *browser) talk(ctx context.Context, law pcm.Law, hz float64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	n := 0
	for {
		sound, coded := make([]int16, 160), make([]byte, 160)
		for i := range sound {
			sound[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(n)/8000))
			n++
		}
		law.Encode(coded, sound)
		pt := uint8(0)
		if law == pcm.A {
			pt = 8
		}
		b.packet(pt, false, uint32(n-160), coded)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heard returns the last n samples that the browser got, or nil.
func (b *browser) heard(n int) []int16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var parts [][]int16
	have := 0
	for i := len(b.got) - 1; i >= 0 && have < n; i-- {
		p := b.got[i]
		law := pcm.Mu
		if p.PayloadType == 8 {
			law = pcm.A
		} else if p.PayloadType != 0 {
			continue
		}
		sound := make([]int16, len(p.Payload))
		law.Decode(sound, p.Payload)
		parts = append(parts, sound)
		have += len(sound)
	}
	if have < n {
		return nil
	}
	slices.Reverse(parts)
	return slices.Concat(parts...)[have-n:]
}

// events returns the telephone-event packets that the browser got.
func (b *browser) events(pt uint8) []rtp.Packet {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []rtp.Packet
	for _, p := range b.got {
		if p.PayloadType == pt {
			out = append(out, p)
		}
	}
	return out
}

func (b *browser) packets() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// level is the amplitude of a frequency in a sound.
func level(sound []int16, hz float64) float64 {
	var re, im float64
	for i, s := range sound {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / 8000)
		re += float64(s) * cos
		im += float64(s) * sin
	}
	return 2 * math.Hypot(re, im) / float64(max(len(sound), 1))
}

// tone is a second of 440 Hz.
func tone() *pcm.Clip {
	c := pcm.NewClip(pcm.Mu)
	sound := make([]int16, 8000)
	for i := range sound {
		sound[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	_ = c.Append(sound)
	c.Close(nil)
	return c
}

func await(tb testing.TB, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(tb, "it did not happen")
	}
}

func until(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	require.Eventually(tb, f, patience, 10*time.Millisecond, what)
}

// goes runs f until the test's end, or until it is stopped.
func goes(tb testing.TB, f func(context.Context)) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	tb.Cleanup(stop)
	return stop
}

// event is the payload of a telephone-event packet.
func event(digit byte, end bool, duration uint16) []byte {
	b := []byte{digit, 10, 0, 0}
	if end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], duration)
	return b
}

func TestToneBothWays(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	b := open(t, browserConfig{event: 126})
	p.Leg().Play(media.Cue{Seq: 1, Clip: tone(), Loop: true})
	terms := b.call(p)
	require.Equal(t, Terms{Send: true, Recv: true, Codec: pcm.Mu}, terms)
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	until(t, "the browser hears 440 Hz", func() bool { return level(b.heard(4000), 440) > 6000 })
	until(t, "the leg hears 1 kHz", func() bool { return level(heard.last(4000), 1000) > 6000 })
	b.mu.Lock()
	ssrc := b.got[0].SSRC
	b.mu.Unlock()
	require.Equal(t, p.Leg().Stats().SSRC, ssrc)
	require.Contains(t, b.pc.RemoteDescription().SDP, "a=ssrc:")
	p.Close()
	p.Close()
	require.ErrorIs(t, context.Cause(p.Context()), ErrClosed)
	until(t, "the peer is gone", func() bool { return s.api.count() == 0 })
	until(t, "the page knows", func() bool { return b.pc.ConnectionState() == webrtc.PeerConnectionStateClosed })
}

func TestMixedLaws(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{laws: []string{webrtc.MimeTypePCMA, webrtc.MimeTypePCMU}, event: 126})
	require.Equal(t, pcm.A, b.call(p).Codec)
	stop := goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 700) })
	until(t, "A-law comes", func() bool { return level(b.heard(1600), 440) > 6000 })
	until(t, "mu-law is heard", func() bool { return level(heard.last(1600), 700) > 6000 })
	b.mu.Lock()
	require.EqualValues(t, 8, b.got[0].PayloadType)
	b.mu.Unlock()
	stop()
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.A, 1200) })
	until(t, "A-law is heard as well", func() bool { return level(heard.last(1600), 1200) > 6000 })
}

func TestKeysBothWays(t *testing.T) {
	s := set(t, nil)
	events := &journal{}
	p := s.peer(media.LegConfig{Events: events})
	b := open(t, browserConfig{event: 126})
	b.call(p)
	p.Leg().SendDigits(9, "5#", media.DigitsAuto)
	until(t, "digits are out", func() bool { return len(events.of(media.DigitsSent)) == 1 })
	require.NoError(t, events.of(media.DigitsSent)[0].Err)
	var keys []byte
	until(t, "the browser got both keys", func() bool {
		keys = keys[:0]
		var last uint32
		for _, e := range b.events(126) {
			if e.Marker && e.Timestamp != last {
				keys = append(keys, e.Payload[0])
				last = e.Timestamp
			}
		}
		return len(keys) == 2
	})
	require.Equal(t, []byte{5, 11}, keys)

	for i, digit := range []byte{1, 10} {
		ts := uint32(8000 * (i + 1))
		b.packet(126, true, ts, event(digit, false, 160))
		for n := range uint16(4) {
			b.packet(126, false, ts, event(digit, false, 320+n*160))
		}
		for range 3 {
			b.packet(126, false, ts, event(digit, true, 960))
		}
	}
	until(t, "the leg got both keys", func() bool { return events.digits() == "1*" })
}

func TestWhatIsPlayedBeforeMediaRunsIsHeardFromItsBeginning(t *testing.T) {
	s := set(t, nil)
	events := &journal{}
	p := s.peer(media.LegConfig{Events: events})
	p.Leg().Play(media.Cue{Seq: 3, Clip: tone()})
	b := open(t, browserConfig{})
	b.call(p)
	until(t, "it is over", func() bool { return len(events.of(media.PlayEnd)) == 1 })
	require.Equal(t, time.Second, events.of(media.PlayEnd)[0].Heard)
	until(t, "all of it came", func() bool { return level(b.heard(8000), 440) > 5000 })
}

func TestPaddingIsNoSoundAndNoLoss(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	sound := make([]byte, 160)
	for i := range 50 {
		b.packet(0, false, uint32(i*160), sound)
		b.packet(0, false, uint32(i*160), nil)
	}
	until(t, "all came", func() bool { return p.Leg().Stats().Received == 100 })
	require.Zero(t, p.Leg().Stats().Lost)
	require.Zero(t, p.Leg().Stats().Rejected)
}

func TestStatistics(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	sound := make([]byte, 160)
	for i := range uint32(100) {
		if i%10 == 9 {
			b.mu.Lock()
			b.seq++ // lost
			b.mu.Unlock()
		}
		b.packet(0, false, i*160+(i%2)*400, sound)
	}
	until(t, "loss shows", func() bool { return p.Leg().Stats().Lost == 9 || p.Leg().Stats().Lost == 10 })
	require.Positive(t, p.Leg().Stats().Jitter)

	var from *webrtc.RTPReceiver
	select {
	case from = <-b.recv:
	case <-time.After(patience):
		require.FailNow(t, "no track")
	}
	var report *rtcp.SenderReport
	require.NoError(t, from.SetReadDeadline(time.Now().Add(patience)))
	for report == nil {
		all, _, err := from.ReadRTCP()
		require.NoError(t, err)
		for _, r := range all {
			if sr, ok := r.(*rtcp.SenderReport); ok {
				report = sr
			}
		}
	}
	require.Equal(t, p.Leg().Stats().SSRC, report.SSRC)
	require.NotEmpty(t, report.Reports, "what we hear is reported")
	ours := uint32(b.send.GetParameters().Encodings[0].SSRC)
	require.Equal(t, ours, report.Reports[0].SSRC)
	require.NoError(t, b.pc.WriteRTCP([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: ours, NTPTime: 1 << 32, Reports: []rtcp.ReceptionReport{{
			SSRC: report.SSRC, FractionLost: 64, TotalLost: 7, Jitter: 80, LastSenderReport: uint32(report.NTPTime >> 16),
		}}},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: ours, Items: []rtcp.SourceDescriptionItem{
			{Type: rtcp.SDESCNAME, Text: "page"},
		}}}},
	}))
	until(t, "their report shows", func() bool { return p.Leg().Stats().RemoteLost == 7 })
	st := p.Leg().Stats()
	require.InDelta(t, 0.25, st.RemoteLossRatio, 0.001)
	require.Equal(t, 10*time.Millisecond, st.RemoteJitter)
	require.Positive(t, st.RTT)
	require.Less(t, st.RTT, patience)
}

func TestSilenceIsNoticed(t *testing.T) {
	s := set(t, nil)
	events := &journal{}
	p := s.peer(media.LegConfig{Events: events, FirstSilence: 300 * time.Millisecond, Silence: 300 * time.Millisecond})
	b := open(t, browserConfig{})
	b.call(p)
	until(t, "nothing came", func() bool { return len(events.of(media.Silent)) > 0 })
	require.NoError(t, p.Context().Err(), "the path is there")
}

func TestJoinWithTelephone(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{event: 126})
	b.call(p)
	phone, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer phone.Close()
	far := phone.LocalAddr().(*net.UDPAddr).AddrPort()
	leg, err := s.engine.NewLeg(media.LegConfig{})
	require.NoError(t, err)
	leg.Apply(media.Params{
		Remote: far, Law: pcm.A, PayloadType: 8, Accept: [2]int16{-1, 8}, Event: 101, HasEvent: true, Send: true, Recv: true,
	})
	defer media.Join(p.Leg(), leg)()

	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(leg.LocalPort())}
	goes(t, func(ctx context.Context) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			sound, coded := make([]int16, 160), make([]byte, 172)
			for i := range sound {
				sound[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(n*160+i)/8000))
			}
			pcm.A.Encode(coded[12:], sound)
			coded[0], coded[1] = 0x80, 8
			binary.BigEndian.PutUint16(coded[2:], uint16(n))
			binary.BigEndian.PutUint32(coded[4:], uint32(n*160))
			_, _ = phone.WriteTo(coded, to)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	until(t, "the browser hears the telephone", func() bool { return level(b.heard(4000), 440) > 6000 })
	require.NoError(t, phone.SetReadDeadline(time.Now().Add(patience)))
	var heard []int16
	buf := make([]byte, 2048)
	for level(heard[max(0, len(heard)-4000):], 1000) < 6000 {
		n, _, err := phone.ReadFrom(buf)
		require.NoError(t, err, "the telephone hears the browser")
		if n > 12 && buf[1]&0x7F == 8 {
			sound := make([]int16, n-12)
			pcm.A.Decode(sound, buf[12:n])
			heard = append(heard, sound...)
		}
	}
	b.packet(126, true, 900000, event(7, false, 160))
	b.packet(126, false, 900000, event(7, true, 800))
	for {
		n, _, err := phone.ReadFrom(buf)
		require.NoError(t, err, "the key is passed on")
		if n == 16 && buf[1]&0x7F == 101 {
			require.EqualValues(t, 7, buf[12])
			return
		}
	}
}
