package load

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// pitch is the lowest tone of the prompt in Hz; one of offPitch is not in it.
const (
	pitch    = 130.
	offPitch = 195.
)

// kept is how much of the sound a page keeps: as long as the prompt's loudness
// takes to rise and fall.
const kept = 2500 * time.Millisecond / packetTime

// A book is what all pages of a crowd have in common.
type book struct {
	crowd *crowd
	api   string // host:port
	certs []webrtc.Certificate
}

// book opens the phone book of a crowd.
func (c *crowd) book() *book {
	c.t.Helper()
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{}) // which makes a certificate
	require.NoError(c.t, err)
	certs := pc.GetConfiguration().Certificates
	require.NoError(c.t, pc.Close())
	return &book{crowd: c, api: c.owner.http, certs: certs}
}

// address is where the nth page lives: the limits are per address.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + n/250), byte(1 + n%250)})
}

// A page is a browser's call: a peer connection over a socket of its own, since
// the bridge tells browsers apart by their addresses. Its sound is sent and
// counted by the wheel of its crowd, for which it is a [media.Port].
type page struct {
	book   *book
	client http.Client
	sock   *socket
	mux    ice.UDPMux
	pc     *webrtc.PeerConnection
	out    pageTrack
	header rtp.Header // owned by the wheel
	stamp  time.Time  // owned by the wheel
	stream *stream
	sent   atomic.Int64
	once   sync.Once // closes over
	left   sync.Once

	id, session string
	posted      time.Duration // the offer until its answer
	setUp       time.Duration // the offer until media runs
	up, over    chan struct{}

	mu     sync.Mutex
	heard  [kept][samples]byte // in turn
	frames int
}

// dialFrom opens a connection for each request, from an address of this host.
func dialFrom(at netip.Addr) *http.Transport {
	return &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: at.AsSlice()}}).DialContext, DisableKeepAlives: true}
}

// open makes a page at an address of its own.
func (k *book) open(at netip.Addr) (*page, error) {
	p := &page{book: k, up: make(chan struct{}), over: make(chan struct{}), client: http.Client{Timeout: patience, Transport: dialFrom(at)}}
	var err error
	if p.sock, err = listen(at); err != nil {
		return nil, err
	}
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	p.mux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: p.sock, Logger: logs.NewLogger("page")})
	codecs := &webrtc.MediaEngine{}
	for _, c := range []struct {
		kind   string
		number webrtc.PayloadType
	}{{webrtc.MimeTypePCMU, 0}, {webrtc.MimeTypePCMA, 8}, {"audio/telephone-event", keyType}} {
		err = errors.Join(err, codecs.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: c.kind, ClockRate: pcm.Rate}, PayloadType: c.number,
		}, webrtc.RTPCodecTypeAudio))
	}
	if err != nil {
		return nil, err
	}
	s := webrtc.SettingEngine{LoggerFactory: logs}
	s.SetICEUDPMux(p.mux)
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(net.IP.IsLoopback)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetFireOnTrackBeforeFirstRTP(true)
	s.BufferFactory = func(kind packetio.BufferPacketType, _ uint32) io.ReadWriteCloser { return &ear{page: p, kind: kind} }
	api := webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	if p.pc, err = api.NewPeerConnection(webrtc.Configuration{Certificates: k.certs}); err != nil {
		return nil, err
	}
	p.pc.OnTrack(func(*webrtc.TrackRemote, *webrtc.RTPReceiver) {})
	rise := sync.OnceFunc(func() { close(p.up) })
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			rise()
		}
	})
	_, err = p.pc.AddTrack(&p.out)
	return p, err
}

// offer is the page's description with all its candidates.
func (p *page) offer() (string, error) {
	o, err := p.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(o); err != nil {
		return "", err
	}
	<-done
	return p.pc.LocalDescription().SDP, nil
}

// browse places a call from a page and returns when media runs.
func (k *book) browse(at netip.Addr) (*page, error) {
	p, err := k.open(at)
	if err != nil {
		return nil, err
	}
	if err := p.call(); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

func (p *page) call() error {
	text, err := p.offer()
	if err != nil {
		return err
	}
	began := time.Now()
	a, status, err := p.book.post(&p.client, text)
	if err != nil || status != http.StatusCreated {
		return fmt.Errorf("the offer was answered with %d: %w", status, err)
	}
	p.id, p.session, p.posted = a.ID, a.Session, time.Since(began)
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: a.SDP}); err != nil {
		return err
	}
	select {
	case <-p.up:
	case <-time.After(patience):
		return errors.New("media did not come to run")
	}
	p.setUp = time.Since(began)
	p.stream = newStream(p, quiet{p})
	binary.BigEndian.PutUint32(p.stream.packet[8:], uint32(p.pc.GetSenders()[0].GetParameters().Encodings[0].SSRC))
	p.stream.to, p.stream.answered = p.book.crowd.owner.rtc, time.Now()
	p.book.crowd.wheel.admit(p.stream)
	return nil
}

// An answered offer.
type answered struct {
	ID, Session, SDP string
}

// post sends an offer to the bridge.
func (k *book) post(from *http.Client, sdp string) (a answered, status int, err error) {
	body, err := json.Marshal(map[string]string{"sdp": sdp})
	if err != nil {
		return a, 0, err
	}
	r, err := from.Post("http://"+k.api+"/api/v1/rtc", "application/json", bytes.NewReader(body))
	if err != nil {
		return a, 0, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode == http.StatusCreated {
		err = json.Unmarshal(text, &a)
	}
	return a, r.StatusCode, err
}

// hangUp ends the call as the page does: the bridge is told.
func (p *page) hangUp() error {
	defer p.leave()
	r, err := p.client.Post("http://"+p.book.api+"/api/v1/rtc/"+p.session+"/hangup", "text/plain", nil)
	if err != nil {
		return err
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusAccepted {
		return fmt.Errorf("hangup was answered with %d", r.StatusCode)
	}
	return nil
}

// leave gives everything back. It may be called more than once.
func (p *page) leave() {
	p.left.Do(func() {
		if p.stream == nil {
			_ = p.Close()
		} else {
			p.stream.close()
		}
		<-p.over
		_ = p.pc.GracefulClose()
		_ = p.mux.Close()
		_ = p.sock.Close()
	})
}

// tone is the amplitude of a frequency in what was heard last, and how much that
// is.
func (p *page) tone(hz float64) (amplitude float64, of time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var re, im float64
	n := min(p.frames, len(p.heard))
	sound := make([]int16, samples)
	for i := range n {
		pcm.Mu.Decode(sound, p.heard[(p.frames-n+i)%len(p.heard)][:])
		for j, s := range sound {
			sin, cos := math.Sincos(2 * math.Pi * hz * float64(i*samples+j) / pcm.Rate)
			re += float64(s) * cos
			im += float64(s) * sin
		}
	}
	return 2 * math.Hypot(re, im) / float64(max(n, 1)*samples), time.Duration(n) * packetTime
}

// Recv implements [media.Port]: what it returns is the head of a packet that has
// come, and its length.
func (p *page) Recv(b []byte) (int, netip.AddrPort, error) {
	a, ok := p.sock.take()
	if !ok {
		return 0, netip.AddrPort{}, media.ErrWouldBlock
	}
	p.stamp = a.at
	return copy(b, a.head[:]), p.stream.to, nil
}

// Stamp is when the packet came that Recv returned last.
func (p *page) Stamp() (time.Time, bool) { return p.stamp, true }

// Send implements [media.Port].
func (p *page) Send(b []byte, _ netip.AddrPort) error {
	w := p.out.stream.Load()
	if w == nil {
		return media.ErrWouldBlock
	}
	n, err := p.header.Unmarshal(b)
	if err != nil {
		return err
	}
	if _, err = (*w).WriteRTP(&p.header, b[n:]); err == nil {
		p.sent.Add(1)
	}
	return err
}

// Connect implements [media.Port].
func (p *page) Connect(netip.AddrPort) error { return nil }

// LocalPort implements [media.Port].
func (p *page) LocalPort() uint16 { return p.sock.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// Close implements [media.Port].
func (p *page) Close() error {
	p.once.Do(func() { close(p.over) })
	return nil
}

// A quiet port is that of RTCP, which the connection takes care of.
type quiet struct{ media.Port }

// Recv implements [media.Port].
func (quiet) Recv([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, media.ErrWouldBlock
}

// Send implements [media.Port].
func (quiet) Send([]byte, netip.AddrPort) error { return nil }

// An ear takes the place of the buffer between a connection and its track.
type ear struct {
	page *page
	kind packetio.BufferPacketType
}

// Write takes a packet that was decrypted.
func (e *ear) Write(b []byte) (int, error) {
	var h rtp.Header
	if n, err := h.Unmarshal(b); e.kind == packetio.RTPBufferPacket && err == nil && h.PayloadType == 0 && len(b)-n == samples {
		e.page.mu.Lock()
		copy(e.page.heard[e.page.frames%len(e.page.heard)][:], b[n:])
		e.page.frames++
		e.page.mu.Unlock()
	}
	return len(b), nil
}

// Read waits for the end of the call.
func (e *ear) Read([]byte) (int, error) {
	<-e.page.over
	return 0, io.EOF
}

// Close implements [io.Closer].
func (e *ear) Close() error { return nil }

// A pageTrack is what a page sends: packets pass as the wheel made them.
type pageTrack struct {
	stream atomic.Pointer[webrtc.TrackLocalWriter]
}

// Bind implements [webrtc.TrackLocal].
func (t *pageTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	w := c.WriteStream()
	t.stream.Store(&w)
	return c.CodecParameters()[0], nil
}

// Unbind implements [webrtc.TrackLocal].
func (t *pageTrack) Unbind(webrtc.TrackLocalContext) error {
	t.stream.Store(nil)
	return nil
}

// ID implements [webrtc.TrackLocal].
func (t *pageTrack) ID() string { return "audio" }

// RID implements [webrtc.TrackLocal].
func (t *pageTrack) RID() string { return "" }

// StreamID implements [webrtc.TrackLocal].
func (t *pageTrack) StreamID() string { return "load" }

// Kind implements [webrtc.TrackLocal].
func (t *pageTrack) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeAudio }

// A socket notes the packets of sound that come before anybody else sees them,
// with the kernel's time: SRTP leaves the head of a packet in clear.
type socket struct {
	*net.UDPConn
	extra [128]byte // owned by the reader

	mu   sync.Mutex
	came []arrival
	next int // of came, to be taken
}

type arrival struct {
	head [12]byte
	at   time.Time
}

func listen(at netip.Addr) (*socket, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, stampOption, 1) }); e != nil || err != nil {
		return nil, errors.Join(e, err)
	}
	return &socket{UDPConn: conn}, nil
}

// ReadFromAddrPort is how the connection reads.
func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, m, _, from, err := s.ReadMsgUDPAddrPort(b, s.extra[:])
	// RFC 7983: what begins with 128 to 191 is RTP or RTCP, whose types are 192 to
	// 223 (RFC 5761).
	if err == nil && n >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223) {
		a := arrival{head: [12]byte(b[:12]), at: stamp(s.extra[:m])}
		s.mu.Lock()
		s.came = append(s.came, a)
		s.mu.Unlock()
	}
	return n, from, err
}

// WriteToAddrPort is how the connection writes.
func (s *socket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to)
}

func (s *socket) take() (arrival, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.came) {
		s.came, s.next = s.came[:0], 0
		return arrival{}, false
	}
	s.next++
	return s.came[s.next-1], true
}

// fill places n calls of pages, 50 a second, from the first address on.
func (k *book) fill(first, n int) []*page {
	t := k.crowd.t
	t.Helper()
	pages, errs := make([]*page, n), make([]error, n)
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		time.Sleep(time.Duration(i)*time.Second/50 - time.Since(began))
		all.Go(func() { pages[i], errs[i] = k.browse(address(first + i)) })
	}
	all.Wait()
	t.Cleanup(func() {
		for _, p := range pages {
			if p != nil {
				p.leave()
			}
		}
	})
	require.NoError(t, errors.Join(errs...))
	return pages
}

// empty hangs up all calls of pages.
func (k *book) empty(pages []*page) {
	k.crowd.t.Helper()
	errs := make([]error, len(pages))
	var all sync.WaitGroup
	for i, p := range pages {
		all.Go(func() { errs[i] = p.hangUp() })
	}
	all.Wait()
	require.NoError(k.crowd.t, errors.Join(errs...))
}

// written is what the bridge has written about ended calls, by their id.
func (b *bridge) written() map[string]written {
	b.t.Helper()
	text, err := os.ReadFile(b.records)
	require.NoError(b.t, err)
	all := map[string]written{}
	for line := range bytes.Lines(text) {
		var w written
		require.NoError(b.t, json.Unmarshal(line, &w))
		all[w.ID] = w
	}
	return all
}

type written struct {
	ID    string `json:"id"`
	Media struct {
		Received, Lost, Late, Rejected uint64
	} `json:"media"`
}

func TestTone(t *testing.T) {
	p := &page{}
	e := &ear{page: p, kind: packetio.RTPBufferPacket}
	var sound [samples]int16
	for i := range 4 * int(kept) {
		for j := range sound {
			sound[j] = int16(1000 * math.Sin(2*math.Pi*pitch*float64(i*samples+j)/pcm.Rate))
		}
		packet := make([]byte, 12+samples)
		packet[0] = 0x80
		pcm.Mu.Encode(packet[12:], sound[:])
		_, err := e.Write(packet)
		require.NoError(t, err)
	}
	loud, of := p.tone(pitch)
	require.Equal(t, 2500*time.Millisecond, of)
	require.InDelta(t, 1000, loud, 20)
	loud, _ = p.tone(offPitch)
	require.Less(t, loud, 10.)
}
