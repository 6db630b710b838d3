package rtc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
)

// g711 is the one codec that the peer connection is told of. Which payload types
// mean what is the leg's business.
var g711 = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}

const (
	headerLen   = 12
	sourcesMost = 64 // SSRCs that one far end may show before it is up to no good
)

// errSources ends a peer that makes up sources without end: each costs memory.
var errSources = errors.New("rtc: too many sources")

// A track is what we send, as the peer connection wants it: packets pass as the
// leg made them, with their own payload types.
type track struct {
	stream atomic.Pointer[webrtc.TrackLocalWriter]
}

// Bind implements [webrtc.TrackLocal].
func (t *track) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	w := c.WriteStream()
	t.stream.Store(&w)
	return webrtc.RTPCodecParameters{RTPCodecCapability: g711, PayloadType: 0}, nil
}

// Unbind implements [webrtc.TrackLocal].
func (t *track) Unbind(webrtc.TrackLocalContext) error {
	t.stream.Store(nil)
	return nil
}

// ID implements [webrtc.TrackLocal].
func (t *track) ID() string { return "audio" }

// RID implements [webrtc.TrackLocal].
func (t *track) RID() string { return "" }

// StreamID implements [webrtc.TrackLocal].
func (t *track) StreamID() string { return streamID }

// Kind implements [webrtc.TrackLocal].
func (t *track) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

// A writer takes packets from the rings to the peer connection, whose writes may
// wait.
type writer struct {
	pc        *webrtc.PeerConnection
	track     *track
	rtp, rtcp *ring
	header    rtp.Header // of the packet that is being written
	report    rtcp.RawPacket
	reports   [1]rtcp.Packet
}

// drain writes what waits.
func (w *writer) drain() {
	for p := w.rtp.take(); p != nil; p = w.rtp.take() {
		w.send(p.data)
	}
	for p := w.rtcp.take(); p != nil; p = w.rtcp.take() {
		w.report = p.data
		w.reports[0] = &w.report
		_ = w.pc.WriteRTCP(w.reports[:]) // it fails before there are keys and after the end
	}
}

// send writes one RTP packet of the leg, which has neither sources, extensions
// nor padding.
func (w *writer) send(b []byte) {
	stream := w.track.stream.Load()
	if stream == nil || len(b) < headerLen {
		return
	}
	w.header = rtp.Header{
		Version: 2, Marker: b[1]&0x80 != 0, PayloadType: b[1] & 0x7F, SequenceNumber: binary.BigEndian.Uint16(b[2:]),
		Timestamp: binary.BigEndian.Uint32(b[4:]), SSRC: binary.BigEndian.Uint32(b[8:]),
	}
	_, _ = (*stream).WriteRTP(&w.header, b[headerLen:]) // an error is about the path, which ICE watches
}

// A sink is where the peer connection puts the packets that it has decrypted: it
// takes the place of a buffer for each source and of a goroutine that reads it.
// All sources of a peer share one sink of a kind; one goroutine of the
// connection writes to it.
type sink struct {
	peer  *Peer
	kind  packetio.BufferPacketType
	to    *ring
	last  []byte // RTCP that came before
	done  chan struct{}
	close sync.Once
}

func newSink(p *Peer, kind packetio.BufferPacketType, to *ring) *sink {
	return &sink{peer: p, kind: kind, to: to, done: make(chan struct{})}
}

// Write takes one packet.
func (s *sink) Write(b []byte) (n int, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.peer.fault(fault)
			n, err = len(b), nil
		}
	}()
	if s.kind == packetio.RTCPBufferPacket {
		s.reported(b)
		return len(b), nil
	}
	if s.to.put(b, time.Now()) {
		s.peer.api.meter.droppedIn.Inc()
	}
	return len(b), nil
}

// reported takes a packet of RTCP. The connection takes compounds apart and hands
// each part to all sources that it names, one after the other: only the first is
// taken, and of what the leg has a use for.
func (s *sink) reported(b []byte) {
	if len(b) < 8 || b[1] != uint8(rtcp.TypeSenderReport) && b[1] != uint8(rtcp.TypeReceiverReport) || bytes.Equal(b, s.last) {
		return
	}
	s.last = append(s.last[:0], b...)
	if s.to.put(b, time.Now()) {
		s.peer.api.meter.droppedIn.Inc()
	}
}

// Read waits for the end of the peer: nobody needs to read what was taken.
func (s *sink) Read([]byte) (int, error) {
	<-s.done
	return 0, io.EOF
}

// Close implements [io.Closer]. A source that ends is not the end of the others.
func (s *sink) Close() error { return nil }

// stop ends all reading.
func (s *sink) stop() { s.close.Do(func() { close(s.done) }) }

// sink gives the connection the place for the packets of one more source.
func (p *Peer) sink(kind packetio.BufferPacketType) io.ReadWriteCloser {
	if p.sources.Add(1) > sourcesMost {
		p.end(fmt.Errorf("%w: more than %d", errSources, sourcesMost))
	}
	if kind == packetio.RTCPBufferPacket {
		return p.reports
	}
	return p.sound
}
