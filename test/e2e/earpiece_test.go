package e2e

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// An earpiece is the RTP end of a peer whose signalling is done by others. It
// notes what arrives and sends what it is given, silence by default, to where
// that came from.
type earpiece struct {
	port int
	in   *net.UDPConn
	out  *net.UDPConn // the same, or another socket

	mu     sync.Mutex
	from   netip.AddrPort
	heard  []packet
	frames func(now time.Time) []byte // next 20 ms of mu-law
	keys   *dtmf.Sender               // pressed in place of sound
}

// A packet is one that arrived.
type packet struct {
	at      time.Time
	seq     uint16
	ts      uint32
	ssrc    uint32
	payload uint8
	audio   []byte
	told    bool // at the port that the description names
}

const (
	frame     = 160 // samples in 20 ms
	eventType = 101 // payload type of telephone-event
)

// newEarpiece opens an earpiece; with apart it sends from another port than it
// receives at.
func newEarpiece(t *testing.T, apart bool) *earpiece {
	t.Helper()
	e := &earpiece{port: freePorts(t, 4)}
	e.in = udp(t, e.port)
	e.out = e.in
	if apart {
		e.out = udp(t, e.port+2)
	}
	silence := slices.Repeat([]byte{pcm.Mu.Silence()}, frame)
	e.frames = func(time.Time) []byte { return silence }
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { e.receive(e.in) })
	if apart {
		work.Go(func() { e.receive(e.out) })
	}
	work.Go(func() { e.send(stop) })
	t.Cleanup(func() {
		close(stop)
		_ = e.in.Close()
		_ = e.out.Close()
		work.Wait()
	})
	return e
}

func udp(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local(port))))
	require.NoError(t, err)
	return c
}

func (e *earpiece) receive(at *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := at.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n < 12 {
			continue
		}
		p := packet{
			at: time.Now(), payload: buf[1] & 0x7F, seq: binary.BigEndian.Uint16(buf[2:]), ts: binary.BigEndian.Uint32(buf[4:]),
			ssrc: binary.BigEndian.Uint32(buf[8:]), audio: slices.Clone(buf[12:n]), told: at == e.in,
		}
		e.mu.Lock()
		e.from = from
		e.heard = append(e.heard, p)
		e.mu.Unlock()
	}
}

func (e *earpiece) send(stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	seq, ts := uint16(rand.Uint32()), rand.Uint32()
	ssrc := rand.Uint32()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			seq, ts = seq+1, ts+frame
			to, body, payload, at := e.next(now, ts)
			b := make([]byte, 12, 12+frame)
			b[0], b[1] = 2<<6, payload
			binary.BigEndian.PutUint16(b[2:], seq)
			binary.BigEndian.PutUint32(b[4:], at)
			binary.BigEndian.PutUint32(b[8:], ssrc)
			if to.IsValid() && body != nil {
				_, _ = e.out.WriteToUDPAddrPort(append(b, body...), to)
			}
		}
	}
}

// next makes what is sent in the slot that begins at timestamp ts: a key's
// event, or sound.
func (e *earpiece) next(now time.Time, ts uint32) (to netip.AddrPort, body []byte, payload byte, at uint32) {
	e.mu.Lock()
	to, frames, keys := e.from, e.frames, e.keys
	e.mu.Unlock()
	if keys != nil {
		event, marker, offset, kind := keys.Next(frame)
		if kind == dtmf.Event {
			payload = eventType
			if marker {
				payload |= 0x80
			}
			return to, event[:], payload, ts - offset
		}
		if kind == dtmf.Done {
			e.mu.Lock()
			e.keys = nil
			e.mu.Unlock()
		}
	}
	return to, frames(now), 0, ts
}

// press sends keys as telephone-events.
func (e *earpiece) press(t *testing.T, keys string) {
	t.Helper()
	s, err := dtmf.NewSender(keys, 100*time.Millisecond, 100*time.Millisecond)
	require.NoError(t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = s
}

// say makes frames the sound that is sent from now on.
func (e *earpiece) say(frames func(now time.Time) []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frames = frames
}

func (e *earpiece) packets() []packet {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// gaps lists the times without a packet, those of at least d.
func (e *earpiece) gaps(d time.Duration) []time.Duration {
	var out []time.Duration
	all := e.packets()
	for i := 1; i < len(all); i++ {
		if g := all[i].at.Sub(all[i-1].at); g >= d {
			out = append(out, g)
		}
	}
	return out
}

// level is the loudness of a packet in dBm0.
func (p packet) level() float64 {
	s := make([]int16, len(p.audio))
	pcm.Mu.Decode(s, p.audio)
	return pcm.Level(s)
}

// loud counts the packets in which something sounds.
func loud(all []packet) int {
	n := 0
	for _, p := range all {
		if p.level() > -45 {
			n++
		}
	}
	return n
}

// requireOneStream checks what all packets of a call have in common: one SSRC,
// numbers without a gap, and timestamps that go with them and with the time.
func requireOneStream(t *testing.T, all []packet) {
	t.Helper()
	require.NotEmpty(t, all)
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		require.Equal(t, a.ssrc, b.ssrc, "SSRC")
		require.Equal(t, a.seq+1, b.seq, "sequence number")
		step := b.ts - a.ts
		require.Zero(t, step%frame, "timestamp")
		require.Less(t, step, uint32(30*8000), "timestamp")
	}
}
