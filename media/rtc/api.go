// Package rtc is the browser's leg: a [media.Leg] whose packets travel over ICE,
// DTLS and SRTP (RFC 8827) instead of a UDP port of its own.
//
// Pion's PeerConnection does ICE, DTLS and SRTP, and nothing else. Offer and
// answer are read and written here, because a far end's description is the work
// of a stranger: the connection is shown a small one of our own making with the
// few values in it that it needs, so that neither video, forty codecs nor a
// change of direction ever reaches its state. What the engine of package media
// makes of packets, taps, keys, speech and statistics, it makes of these as well.
//
// The package knows nothing of HTTP, SIP, tokens or conversations.
package rtc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media"
)

// ErrClosed is returned for what is asked of an [API] or a [Peer] after its end,
// and is the cause of the end of a peer that was closed by us.
var ErrClosed = errors.New("rtc: closed")

const (
	defaultTimeout = 10 * time.Second
	gatherWait     = 2 * time.Second // for candidates of TURN servers; those of our ports come at once
	socketBuffer   = 4 << 20         // bytes, as far as the system lets us
	tcpQueue       = 64              // packets read from a TCP connection that wait
	tcpBuffer      = 64 << 10        // bytes that wait to be written to one, before packets are dropped
	tcpMost        = 2000            // TCP connections at a time
	firstTCP       = 10 * time.Second
)

// An ICEServer is a STUN or TURN server that helps us to be reached.
type ICEServer struct {
	URLs       []string // stun:, turn: and turns: as in RFC 7064 and RFC 7065
	Username   string   // of TURN
	Credential string
}

// Config is what an [API] is built from. The API takes over UDP and TCP: Close
// closes them.
type Config struct {
	UDP net.PacketConn // the one UDP port of all peers
	TCP net.Listener   // the one TCP port of all peers (RFC 6544); nil: none
	// External are the addresses that browsers reach our ports at, where they
	// differ from those of the host; they take the place of the host's.
	External   []netip.Addr
	ICEServers []ICEServer
	Loopback   bool // loopback addresses are offered and taken
	Engine     *media.Engine
	Log        *zap.Logger           // nil: none
	Metrics    prometheus.Registerer // nil: none

	ICETimeout  time.Duration // from an answer to a path; 0: 10 s
	DTLSTimeout time.Duration // from the path to keys; 0: 10 s
	Vanish      time.Duration // of silence until a far end is taken for gone; 0: 10 s
}

// An API serves all browsers' peers on one UDP and one TCP port. It is safe for
// concurrent use.
type API struct {
	conf   Config
	log    *zap.Logger
	logs   *logFactory
	meter  *meter
	udp    ice.UDPMux
	tcp    *ice.TCPMuxDefault
	relays []webrtc.ICEServer // those of TURN

	mapped atomic.Pointer[netip.AddrPort] // our UDP port as a STUN server sees it
	cancel context.CancelFunc
	work   sync.WaitGroup // peers and the STUN client
	once   sync.Once

	mu     sync.Mutex
	peers  map[*Peer]struct{}
	closed bool
}

// New starts to serve. The error says what in the configuration cannot be used;
// its ports are left open then.
func New(c Config) (*API, error) {
	if c.UDP == nil || c.Engine == nil {
		return nil, errors.New("rtc: a UDP port and an engine are needed")
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	for _, d := range []*time.Duration{&c.ICETimeout, &c.DTLSTimeout, &c.Vanish} {
		if *d <= 0 {
			*d = defaultTimeout
		}
	}
	a := &API{conf: c, log: c.Log, logs: newLogFactory(c.Log), peers: map[*Peer]struct{}{}}
	var servers []string
	for _, s := range c.ICEServers {
		var turn []string
		for _, u := range s.URLs {
			switch scheme, rest, _ := strings.Cut(u, ":"); {
			case rest == "":
				return nil, fmt.Errorf("rtc: ice server %q is no URL", u)
			case scheme == "stuns": // for the pages; ours are asked through the UDP port
			case scheme == "stun":
				servers = append(servers, rest)
			case scheme == "turn" || scheme == "turns":
				turn = append(turn, u)
			default:
				return nil, fmt.Errorf("rtc: ice server %q is neither stun, turn nor turns", u)
			}
		}
		if len(turn) > 0 {
			a.relays = append(a.relays, webrtc.ICEServer{URLs: turn, Username: s.Username, Credential: s.Credential})
		}
	}
	m, err := newMeter(c.Metrics, a.count)
	if err != nil {
		return nil, err
	}
	a.meter = m
	a.listen(servers)
	return a, nil
}

// listen takes over the ports.
func (a *API) listen(servers []string) {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	// One socket carries what the SIP legs have thousands for.
	if c, ok := a.conf.UDP.(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	}); ok {
		if err := errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)); err != nil {
			a.log.Debug("buffers of the udp port are the system's", zap.Error(err))
		}
	}
	udp := a.conf.UDP
	if c, ok := udp.(*net.UDPConn); ok {
		udp = steady{c}
	}
	if len(servers) > 0 && len(a.conf.External) == 0 {
		mux := ice.NewUniversalUDPMuxDefault(ice.UniversalUDPMuxParams{
			UDPConn: udp, Logger: a.logs.NewLogger(scopeUDP), XORMappedAddrCacheTTL: time.Nanosecond,
		})
		a.udp = mux
		a.work.Go(func() { a.watchMapping(ctx, mux, servers) })
	} else {
		a.udp = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: udp, Logger: a.logs.NewLogger(scopeUDP)})
	}
	if a.conf.TCP != nil {
		a.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
			Listener: newBounded(a.conf.TCP, tcpMost), Logger: a.logs.NewLogger(scopeTCP),
			ReadBufferSize: tcpQueue, WriteBufferSize: tcpBuffer,
			FirstStunBindTimeout: firstTCP, AliveDurationForConnFromStun: firstTCP,
		})
	}
}

// Close ends all peers and gives the ports back. It returns when nothing of the
// API runs any more, and may be called more than once.
func (a *API) Close() {
	a.once.Do(func() {
		a.mu.Lock()
		a.closed = true
		all := make([]*Peer, 0, len(a.peers))
		for p := range a.peers {
			all = append(all, p)
		}
		a.mu.Unlock()
		for _, p := range all {
			p.Close()
		}
		a.cancel()
		a.work.Wait()
		if err := a.udp.Close(); err != nil {
			a.log.Warn("udp port of browsers not closed", zap.Error(err))
		}
		if a.tcp != nil {
			if err := a.tcp.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				a.log.Warn("tcp port of browsers not closed", zap.Error(err))
			}
		}
		a.meter.close()
	})
}

// count is how many peers there are.
func (a *API) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.peers)
}

// NewPeer opens a leg for one browser. The leg is silent and takes nothing until
// the media of the first [Peer.Answer] runs; what it is given to play waits for
// that. Law and SSRC of c are not looked at. It fails with [ErrClosed].
func (a *API) NewPeer(c media.LegConfig) (*Peer, error) {
	p := newPeer(a, c)
	if err := p.open(c); err != nil {
		p.cancel(err)
		return nil, fmt.Errorf("new peer: %w", err)
	}
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.peers[p] = struct{}{}
		a.work.Add(1)
	}
	a.mu.Unlock()
	if closed {
		p.end(ErrClosed)
		p.tend()
		return nil, fmt.Errorf("new peer: %w", ErrClosed)
	}
	go func() {
		defer a.work.Done()
		p.tend()
		a.mu.Lock()
		delete(a.peers, p)
		a.mu.Unlock()
		a.meter.peers.WithLabelValues(outcome(context.Cause(p.ctx))).Inc()
	}()
	return p, nil
}

// connection makes a peer connection whose packets go to sink. Each has an engine
// of its own: that costs little, and a far end's payload types never become
// another's.
func (a *API) connection(p *Peer) (*webrtc.PeerConnection, error) {
	codecs := &webrtc.MediaEngine{}
	err := codecs.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: g711, PayloadType: 0}, webrtc.RTPCodecTypeAudio)
	if err != nil {
		return nil, fmt.Errorf("register codec: %w", err)
	}
	vanish := a.conf.Vanish
	s := webrtc.SettingEngine{LoggerFactory: a.logs}
	s.BufferFactory = func(kind packetio.BufferPacketType, _ uint32) io.ReadWriteCloser { return p.sink(kind) }
	s.SetICEUDPMux(a.udp)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if a.tcp != nil {
		s.SetICETCPMux(a.tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	s.SetNetworkTypes(networks)
	s.DisableActiveTCP(true) // connections to wherever a page says are none of our business
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(a.conf.Loopback)
	s.SetSTUNGatherTimeout(gatherWait)
	// A far end that fell silent is noticed after half of Vanish; what follows is
	// decided here, so that an agent never fails on its own.
	s.SetICETimeouts(vanish/2, a.conf.ICETimeout+10*vanish, vanish/10)
	s.SetDTLSConnectContextMaker(func() (context.Context, func()) {
		return context.WithTimeout(p.ctx, a.conf.DTLSTimeout)
	})
	s.SetFireOnTrackBeforeFirstRTP(true) // what comes is read by the sink
	api := webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{ICEServers: slices.Clone(a.relays)})
	if err != nil {
		return nil, fmt.Errorf("new peer connection: %w", err)
	}
	return pc, nil
}

// A bounded listener has so many connections at most; further ones are closed.
type bounded struct {
	net.Listener
	free chan struct{}
}

func newBounded(l net.Listener, n int) *bounded {
	return &bounded{Listener: l, free: make(chan struct{}, n)}
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		select {
		case b.free <- struct{}{}:
			return &counted{Conn: c, done: sync.OnceFunc(func() { <-b.free })}, nil
		default:
			_ = c.Close()
		}
	}
}

type counted struct {
	net.Conn
	done func()
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.done()
	return c.Conn.Close() //nolint:wrapcheck // the connection's own
}
