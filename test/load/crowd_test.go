package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/simnet"
	"github.com/ivrbridge/ivrbridge/media"
)

// RFC 3261 section 17.1.1.1.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// patience is how long an answer may take before it counts as none: 64·T1.
const patience = 64 * t1

var home = netip.MustParseAddr("127.0.0.1")

// A crowd is any number of callers: one socket for their signalling, one
// goroutine for their sound.
type crowd struct {
	t      *testing.T
	owner  *bridge
	bridge netip.AddrPort
	sock   *net.UDPConn
	at     netip.AddrPort
	ports  *media.PortRange
	wheel  *wheel
	reader sync.WaitGroup

	resent   atomic.Int64 // our requests that were sent again
	repeated atomic.Int64 // answers of the bridge that came again

	mu    sync.Mutex
	calls map[string]*call
}

// spare is how many pairs of ports a crowd has beyond those for its calls: an
// ended call's are given back by the wheel in its next turn, and other programs
// may sit on some.
const spare = 100

func newCrowd(t *testing.T, b *bridge, pairs int) *crowd {
	t.Helper()
	pairs = min(pairs+spare, callerPairs)
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 0)))
	require.NoError(t, err)
	require.NoError(t, sock.SetReadBuffer(4<<20))
	raw, err := sock.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, stampOption, 1)
	}))
	require.NoError(t, err)
	c := &crowd{
		t: t, owner: b, bridge: b.sip, sock: sock, at: sock.LocalAddr().(*net.UDPAddr).AddrPort(),
		ports: media.UDPPorts(home, callerPorts, uint16(callerPorts+2*pairs-1), 0), wheel: newWheel(), calls: map[string]*call{},
	}
	c.reader.Go(c.read)
	t.Cleanup(func() {
		_ = sock.Close()
		c.reader.Wait()
		c.wheel.close()
		_ = c.ports.Close()
	})
	return c
}

// stampOption is SO_TIMESTAMPNS and SCM_TIMESTAMPNS: with the kernel's clock it
// does not matter when we get to read what has come.
const stampOption = 35

func (c *crowd) read() {
	buf, extra := make([]byte, 1<<16), make([]byte, 128)
	for {
		n, m, _, _, err := c.sock.ReadMsgUDPAddrPort(buf, extra)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if msg := parse(buf[:n]); msg != nil {
			c.got(msg, stamp(extra[:m]))
		}
	}
}

func stamp(extra []byte) time.Time {
	all, err := syscall.ParseSocketControlMessage(extra)
	if err != nil {
		return time.Now()
	}
	for _, m := range all {
		if m.Header.Type == stampOption && len(m.Data) >= int(unsafe.Sizeof(syscall.Timespec{})) {
			return time.Unix((*syscall.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		}
	}
	return time.Now()
}

func (c *crowd) got(m *message, at time.Time) {
	c.mu.Lock()
	l := c.calls[m.callID]
	c.mu.Unlock()
	switch {
	case l != nil && m.status > 0:
		l.response(m, at)
	case m.status > 0:
	case m.method == "BYE":
		c.send(m.answer(200))
		if l != nil {
			l.ended()
		}
	case m.method == "OPTIONS":
		c.send(m.answer(200))
	case m.method != "ACK":
		c.send(m.answer(405))
	}
}

func (c *crowd) send(b []byte) { _, _ = c.sock.WriteToUDPAddrPort(b, c.bridge) }

// A call is one caller's.
type call struct {
	crowd  *crowd
	id     string
	tag    string
	stream *stream
	relay  *simnet.Relay // nil: none
	began  time.Time

	final chan struct{} // closed by the final answer to the INVITE
	over  chan struct{} // closed at the end of the dialog

	mu      sync.Mutex
	to      string
	target  string
	status  int
	setUp   time.Duration // INVITE to 200
	first   time.Duration // INVITE to the first provisional response
	pending *time.Timer   // sends again
	gap     time.Duration
	done    bool
}

var serial atomic.Int64

// dial places a call, through a relay where there is one, and returns when it is
// answered or refused, or nobody was patient any longer.
func (c *crowd) dial(relay *simnet.Relay) (*call, error) {
	rtp, rtcp, err := c.ports.Open()
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(home, rtp.LocalPort())
	name := fmt.Sprintf("%d-%08x", serial.Add(1), rand.Uint32())
	id := name + "@load"
	l := &call{
		crowd: c, id: id, tag: "t" + name, relay: relay, final: make(chan struct{}), over: make(chan struct{}),
		to: fmt.Sprintf("<sip:1000@%s>", c.bridge), target: fmt.Sprintf("sip:1000@%s", c.bridge), stream: newStream(rtp, rtcp),
	}
	if relay != nil {
		at = relay.Far()
	}
	c.mu.Lock()
	c.calls[id] = l
	c.mu.Unlock()
	l.began = time.Now()
	l.request("INVITE", 1, offer(at))
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-l.final:
	case <-wait.C:
	}
	l.mu.Lock()
	status := l.status
	l.mu.Unlock()
	if status != 200 {
		l.ended()
		return nil, fmt.Errorf("answered with %d", status)
	}
	return l, nil
}

// request sends a request and repeats it until it is answered.
func (l *call) request(method string, cseq int, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	text := l.text(method, cseq, body)
	l.gap = t1
	l.stopRepeating()
	l.pending = time.AfterFunc(l.gap, func() { l.again(text, method) })
	l.crowd.send(text)
}

func (l *call) text(method string, cseq int, body string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s-%d%s;rport\r\nMax-Forwards: 70\r\n", method, l.target, l.crowd.at, l.tag, cseq, method)
	fmt.Fprintf(&b, "From: <sip:+14155550123@%s>;tag=%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:load@%s>\r\n",
		l.crowd.at.Addr(), l.tag, l.to, l.id, cseq, method, l.crowd.at)
	if body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return []byte(b.String())
}

func (l *call) again(text []byte, method string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil || l.done {
		return
	}
	l.crowd.resent.Add(1)
	l.gap *= 2
	if method != "INVITE" {
		l.gap = min(l.gap, t2)
	}
	l.pending.Reset(l.gap)
	l.crowd.send(text)
}

func (l *call) stopRepeating() {
	if l.pending != nil {
		l.pending.Stop()
		l.pending = nil
	}
}

func (l *call) response(m *message, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopRepeating()
	switch {
	case m.method == "BYE" && m.status >= 200:
		l.end()
	case m.method != "INVITE":
	case m.status < 200:
		if l.first == 0 {
			l.first = at.Sub(l.began.Round(0))
		}
	case l.status == 0:
		l.status, l.setUp, l.to = m.status, at.Sub(l.began.Round(0)), m.to
		if m.contact != "" {
			l.target = m.contact
		}
		l.crowd.send(l.text("ACK", 1, ""))
		if m.status == 200 {
			l.talk(m, at)
		}
		close(l.final)
	default:
		l.crowd.repeated.Add(1)
		l.crowd.send(l.text("ACK", 1, ""))
	}
}

// talk lets the sound begin.
func (l *call) talk(m *message, at time.Time) {
	to := sound(m.body)
	if l.relay != nil {
		l.relay.Connect(netip.AddrPortFrom(home, l.stream.rtp.LocalPort()), to)
		to = l.relay.Near()
	}
	l.stream.to, l.stream.answered = to, at
	l.crowd.wheel.admit(l.stream)
}

// ringing is how long the first sign of life took.
func (l *call) ringing() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// hangUp ends the call and waits for the answer.
func (l *call) hangUp() error {
	l.request("BYE", 2, "")
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-l.over:
		return nil
	case <-wait.C:
		l.ended()
		return errors.New("BYE was not answered")
	}
}

func (l *call) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

// end releases everything. Called with mu held.
func (l *call) end() {
	if l.done {
		return
	}
	l.done = true
	l.stopRepeating()
	l.stream.close()
	c := l.crowd
	c.mu.Lock()
	delete(c.calls, l.id)
	c.mu.Unlock()
	close(l.over)
}
