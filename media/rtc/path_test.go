package rtc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A wire is a browser's socket that can be cut, and frozen: then nothing is read
// from it, and what would be written is kept.
type wire struct {
	net.PacketConn
	cut atomic.Bool

	mu     sync.Mutex
	frozen chan struct{} // closed at the end of a freeze
	kept   [][]byte
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := w.PacketConn.ReadFrom(b)
		w.mu.Lock()
		frozen := w.frozen
		w.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if err != nil || !w.cut.Load() {
			return n, from, err //nolint:wrapcheck // a test's
		}
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.mu.Lock()
	if w.frozen != nil {
		if b[0]>>6 == 2 {
			w.kept = append(w.kept, append([]byte(nil), b...))
		}
		w.mu.Unlock()
		return len(b), nil
	}
	w.mu.Unlock()
	if w.cut.Load() {
		return len(b), nil
	}
	return w.PacketConn.WriteTo(b, to) //nolint:wrapcheck // a test's
}

func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
}

func (w *wire) recorded() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept
}

func (w *wire) Close() error {
	w.mu.Lock()
	if w.frozen != nil {
		close(w.frozen)
		w.frozen = nil
	}
	w.mu.Unlock()
	return w.PacketConn.Close() //nolint:wrapcheck // a test's
}

// wired makes a browser on a socket of its own.
func wired(tb testing.TB) (*browser, *wire) {
	tb.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(tb, err)
	w := &wire{PacketConn: conn}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: w, Logger: newLogFactory(zap.NewNop()).NewLogger("test")})
	tb.Cleanup(func() { _ = mux.Close() })
	return open(tb, browserConfig{change: func(s *webrtc.SettingEngine) { s.SetICEUDPMux(mux) }}), w
}

func TestRestartMovesTheCall(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{})
	b.call(p)
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	until(t, "tones run", func() bool { return level(b.heard(1600), 440) > 6000 && level(heard.last(1600), 1000) > 6000 })
	port := func() uint16 {
		pair, err := b.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil {
			return 0
		}
		return pair.Local.Port
	}
	before, ssrc := port(), p.Leg().Stats().SSRC
	for range 2 {
		answer, _, err := p.Answer(t.Context(), []byte(b.offer(&webrtc.OfferOptions{ICERestart: true})))
		require.NoError(t, err)
		b.take(answer)
		n := b.packets()
		until(t, "another path", func() bool { now := port(); return now != 0 && now != before })
		until(t, "sound goes on", func() bool { return b.packets() > n+25 && level(b.heard(1600), 440) > 6000 })
		mine := p.Leg().Stats().Received
		until(t, "and back", func() bool { return p.Leg().Stats().Received > mine+25 && level(heard.last(1600), 1000) > 6000 })
		before = port()
	}
	require.Equal(t, ssrc, p.Leg().Stats().SSRC)
	require.NoError(t, p.Context().Err())
}

func TestRestartSavesACallWhoseNetworkIsGone(t *testing.T) {
	s := set(t, func(c *Config) { c.Vanish = 4 * time.Second })
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b, w := wired(t)
	b.call(p)
	until(t, "sound comes", func() bool { return b.packets() > 10 })
	w.cut.Store(true)
	until(t, "silence is noticed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.broken
	})
	w.cut.Store(false)
	answer, _, err := p.Answer(t.Context(), []byte(b.offer(&webrtc.OfferOptions{ICERestart: true})))
	require.NoError(t, err)
	b.take(answer)
	n := b.packets()
	until(t, "sound comes again", func() bool { return b.packets() > n+100 })
	require.NoError(t, p.Context().Err())
}

// TestRestartsAreNoFlood asks for new paths without end: each would send checks to
// whatever addresses the request names.
func TestRestartsAreNoFlood(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	restarts := func(offer string) (n int) {
		for i := range 50 {
			again := strings.ReplaceAll(offer, "a=ice-ufrag:", fmt.Sprintf("a=ice-ufrag:n%d", i))
			if _, _, err := p.Answer(t.Context(), []byte(again)); err == nil {
				n++
			} else {
				var refused *Error
				require.ErrorAs(t, err, &refused)
			}
		}
		return n
	}
	offer := b.offer(nil)
	_, _, err := p.Answer(t.Context(), []byte(offer))
	require.NoError(t, err)
	require.Equal(t, earlyRestarts, restarts(offer), "before media runs")

	p, b = s.peer(media.LegConfig{}), open(t, browserConfig{})
	b.call(p)
	began := time.Now()
	n := restarts(b.offer(nil))
	require.GreaterOrEqual(t, n, restartBurst, "a page may look for a way back")
	require.LessOrEqual(t, n, restartBurst+1+int(time.Since(began)/restartEvery))
}

// TestLoopbackOfAnotherMachineIsOurs tells where the far end is.
func TestLoopbackOfAnotherMachineIsOurs(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	require.True(t, p.near())
	p.Afar()
	_, _, err := p.Answer(t.Context(), []byte(open(t, browserConfig{}).offer(nil)))
	require.NoError(t, err)
	require.Empty(t, p.talk.far.candidates)
}

func TestVanishedPageIsNoticed(t *testing.T) {
	s := set(t, func(c *Config) { c.Vanish = 2 * time.Second })
	p := s.peer(media.LegConfig{})
	b, w := wired(t)
	b.call(p)
	w.cut.Store(true)
	await(t, p.Context().Done())
	require.ErrorIs(t, context.Cause(p.Context()), ErrVanished)
	require.Equal(t, "vanished", outcome(context.Cause(p.Context())))
}

func TestQuietPageIsNotGone(t *testing.T) {
	s := set(t, func(c *Config) { c.Vanish = time.Second })
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	select {
	case <-p.Context().Done():
		require.FailNow(t, "ended", context.Cause(p.Context()))
	case <-time.After(3 * time.Second):
	}
}

func TestPageThatClosesEndsThePeer(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	b.left()
	await(t, p.Context().Done())
	require.ErrorIs(t, context.Cause(p.Context()), ErrPeerClosed)
	until(t, "the leg is over", func() bool { return p.Leg().Stats().Closed })
	_, _, err := p.Answer(t.Context(), []byte(pageOffer))
	require.ErrorIs(t, err, ErrPeerClosed)
	require.ErrorIs(t, p.AddCandidate(Candidate{Candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host"}), ErrPeerClosed)
}

func TestLegThatEndsEndsThePeer(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	p.Leg().Close()
	await(t, p.Context().Done())
	require.ErrorIs(t, context.Cause(p.Context()), ErrClosed)
}

func TestTCPOnly(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{tcp: true})
	b.call(p)
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	until(t, "tones run over TCP", func() bool { return level(b.heard(1600), 440) > 6000 && level(heard.last(1600), 1000) > 6000 })
	pair, err := b.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	require.NoError(t, err)
	require.Equal(t, webrtc.ICEProtocolTCP, pair.Remote.Protocol)
}

func TestTrickle(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{})
	offer := b.offer(nil)
	lines := regexp.MustCompile(`a=(candidate:.*udp.*)\r\n`).FindAllStringSubmatch(offer, -1)
	require.NotEmpty(t, lines)
	bare := regexp.MustCompile(`a=(candidate|end-of-candidates).*\r\n`).ReplaceAllString(offer, "")
	mid, ufrag := "0", regexp.MustCompile(`a=ice-ufrag:(.*)\r\n`).FindStringSubmatch(offer)[1]
	early := Candidate{Candidate: lines[0][1] + " ufrag " + ufrag, SDPMid: &mid}
	require.NoError(t, p.AddCandidate(early), "before its description")
	answer, _, err := p.Answer(t.Context(), []byte(bare))
	require.NoError(t, err)
	other := "video"
	for _, c := range []Candidate{
		{},
		{Candidate: "candidate:x"},
		{Candidate: "candidate:1 1 udp 2 4f2a.local 5 typ host", SDPMid: &mid},
		{Candidate: "candidate:1 1 udp 2 127.0.0.1 5 typ host", SDPMid: &other},
		{Candidate: lines[0][1] + " ufrag 0000", SDPMid: &mid},
	} {
		require.NoError(t, p.AddCandidate(c))
	}
	require.Equal(t, 1, p.talk.tried)
	var refused *Error
	require.ErrorAs(t, p.AddCandidate(Candidate{Candidate: strings.Repeat("x", 2000)}), &refused)
	b.take(answer)
	await(t, p.Connected())
	until(t, "sound comes", func() bool { return b.packets() > 10 })
	for i := range 100 {
		require.NoError(t, p.AddCandidate(Candidate{Candidate: "candidate:1 1 udp 2 127.0.0.1 " + string(rune('1'+i%9)) + "00 typ host", SDPMid: &mid}))
	}
	require.Equal(t, candidateMost, p.talk.tried)
}

func TestWrongFingerprintIsNoMedia(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	offer := b.offer(nil)
	forged := regexp.MustCompile(`a=fingerprint:sha-256 ..`).ReplaceAllString(offer, "a=fingerprint:sha-256 00")
	require.NotEqual(t, offer, forged)
	answer, _, err := p.Answer(t.Context(), []byte(forged))
	require.NoError(t, err)
	b.take(answer)
	await(t, p.Context().Done())
	require.ErrorIs(t, context.Cause(p.Context()), ErrNoMedia)
}

func TestHalfOpenOffersGoAway(t *testing.T) {
	const many = 200
	s := set(t, func(c *Config) { c.ICETimeout = 2 * time.Second })
	before := runtime.NumGoroutine()
	var all []*Peer
	for range many {
		p := s.peer(media.LegConfig{})
		_, _, err := p.Answer(t.Context(), []byte(pageOffer))
		require.NoError(t, err)
		all = append(all, p)
	}
	for _, p := range all {
		await(t, p.Context().Done())
		require.ErrorIs(t, context.Cause(p.Context()), ErrNoMedia)
	}
	until(t, "peers are gone", func() bool { return s.api.count() == 0 })
	until(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() < before+20 })
	p := s.peer(media.LegConfig{})
	open(t, browserConfig{}).call(p)
}

func TestJunkChangesNothing(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b, w := wired(t)
	b.call(p)
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	until(t, "tones run", func() bool { return level(b.heard(1600), 440) > 6000 && level(heard.last(1600), 1000) > 6000 })

	evil, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer evil.Close()
	to := s.udp.LocalAddr()
	random := rand.New(rand.NewPCG(1, 2))
	junk := func(n int, first func() byte, from net.PacketConn) {
		for i := range n {
			packet := make([]byte, 1+random.IntN(1200))
			for k := range packet {
				packet[k] = byte(random.Uint32())
			}
			packet[0] = first()
			_, _ = from.WriteTo(packet, to)
			if i%100 == 0 {
				time.Sleep(time.Millisecond) // the socket's buffer is not the point
			}
		}
	}
	junk(8000, func() byte { return byte(random.Uint32()) }, evil)
	junk(1000, func() byte { return 0 }, evil) // like STUN
	hello := []byte{22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 54, 1, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 42, 0xFE, 0xFD}
	hello = append(append(hello, make([]byte, 32)...), 0, 0, 0, 2, 0, 0, 1, 0) // its one cipher is none
	for range 1000 {
		_, _ = evil.WriteTo(hello, to)
	}
	// From the browser's own socket, as far as addresses go: SRTP and SRTCP without
	// the key, and DTLS.
	junk(500, func() byte { return 0x80 }, w.PacketConn)
	for range 10 {
		_, _ = w.PacketConn.WriteTo(hello, to)
	}
	n, mine := b.packets(), p.Leg().Stats().Received
	until(t, "tones go on", func() bool {
		return b.packets() > n+50 && p.Leg().Stats().Received > mine+50 &&
			level(b.heard(1600), 440) > 6000 && level(heard.last(1600), 1000) > 6000
	})
	require.NoError(t, p.Context().Err())
	require.Zero(t, p.Leg().Stats().Rejected)
}

func TestSourcesWithoutEndEndThePeer(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	stream := *b.out.stream.Load()
	h := b.header(0, false, 0)
	for i := range uint32(2 * sourcesMost) {
		h.SSRC = 1000 + i
		_, _ = stream.WriteRTP(&h, make([]byte, 160))
	}
	await(t, p.Context().Done())
	require.Equal(t, "abuse", outcome(context.Cause(p.Context())))
}

func TestAPIThatClosesEndsItsPeers(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	b.call(p)
	idle := s.peer(media.LegConfig{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(s.api.Close)
	}
	wg.Wait()
	require.ErrorIs(t, context.Cause(p.Context()), ErrClosed)
	require.ErrorIs(t, context.Cause(idle.Context()), ErrClosed)
	_, err := s.api.NewPeer(media.LegConfig{})
	require.ErrorIs(t, err, ErrClosed)
	again, err := net.ListenPacket("udp4", s.udp.LocalAddr().String())
	require.NoError(t, err, "the port is free")
	require.NoError(t, again.Close())
}
