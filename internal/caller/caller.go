package caller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/sip"
	"github.com/ivrbridge/ivrbridge/tts"
)

// Config is what a caller needs.
type Config struct {
	Target     string // SIP URI to call
	From       string // SIP URI of the caller; empty: sip:caller@ our address
	Transport  sip.Transport
	Script     *Script     // nil: stay until the far end hangs up
	Record     string      // WAV file for what was heard (left) and sent (right); empty: none
	Codecs     []sdp.Codec // in order of preference; none: all
	LateOffer  bool        // INVITE without a session description
	Headers    []sip.Header
	Voice      tts.Synthesizer // nil: the script may not say anything
	Recognizer asr.Recognizer  // nil: the script may not expect words
	Ports      [2]uint16       // for RTP; zero: 40000 to 49998
	Log        *zap.Logger
	Out        io.Writer // a line for each step; nil: none
}

// A Report is what happened.
type Report struct {
	Steps  int      // done
	Heard  []string // what the recogniser made of the far end
	Refers []string // targets that the far end asked for
	Moved  bool     // a call to one of them was answered
	End    string   // why the call is over
	Stats  media.Stats
}

// dialLimit bounds the wait for an answer.
const dialLimit = 60 * time.Second

// A caller is one run of a script.
type caller struct {
	conf   Config
	log    *zap.Logger
	server *sip.Server
	engine *media.Engine
	ear    *ear
	feeder *asr.Feeder
	work   sync.WaitGroup

	mu   sync.Mutex
	line *line.Line // the one that the script talks on
	all  []*line.Line

	// Owned by the script.
	seq    uint64
	utt    uint64
	began  bool // a prompt was heard
	over   bool
	taken  int // of report.Heard
	facts  map[kind]int
	report Report
}

// Run places the call and plays the script. The error says which step was not
// met.
func Run(ctx context.Context, conf Config) (Report, error) {
	c := &caller{conf: conf, log: conf.Log, ear: newEar(conf.Record != ""), facts: map[kind]int{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var recording *os.File // opened before the call: afterwards it is too late to learn that it cannot be
	if conf.Record != "" {
		var err error
		if recording, err = os.Create(conf.Record); err != nil {
			return c.report, fmt.Errorf("open recording: %w", err)
		}
	}
	report, err := c.run(ctx)
	if recording != nil {
		err = errors.Join(err, c.save(recording))
	}
	return report, err
}

// run is the call.
func (c *caller) run(ctx context.Context) (Report, error) {
	stop, err := c.open(ctx)
	if err != nil {
		return c.report, err
	}
	defer stop()
	dial, done := context.WithTimeout(ctx, dialLimit)
	l, err := c.dial(dial, c.conf.Target, nil)
	done()
	if err != nil {
		return c.report, fmt.Errorf("call %s: %w", c.conf.Target, err)
	}
	c.say("answered by %s", c.conf.Target)
	c.attach(ctx, l)
	err = c.play(ctx)
	c.hangup()
	c.report.Stats = l.Stats()
	return c.report, err
}

// open makes the user agent: sockets on the address that the target is reached
// from.
func (c *caller) open(ctx context.Context) (stop func(), err error) {
	to, err := sip.ParseAddress("<" + c.conf.Target + ">")
	if err != nil {
		return nil, fmt.Errorf("%q is no SIP URI, write sip:user@host:port: %w", c.conf.Target, err)
	}
	ip, err := localFor(ctx, to.Host)
	if err != nil {
		return nil, err
	}
	lo, hi := c.conf.Ports[0], c.conf.Ports[1]
	if lo == 0 {
		lo, hi = 40000, 49998
	}
	c.engine = media.NewEngine(media.EngineConfig{Shards: 1, Ports: media.UDPPorts(ip, lo, hi, time.Second), Log: c.log})
	everyone := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	c.server, err = sip.NewServer(sip.Config{ //nolint:contextcheck // its calls live as long as it does
		Handler: sip.HandlerFunc(func(_ context.Context, in *sip.Call) { _ = in.Reject(486, "") }),
		Log:     c.log, UserAgent: "ivrbridge-call", Trunks: []sip.Trunk{{Name: "any", Peers: everyone}},
	})
	if err != nil {
		c.engine.Close()
		return nil, err
	}
	udp, tcp, err := sockets(ctx, ip)
	if err != nil {
		c.engine.Close()
		return nil, fmt.Errorf("open socket: %w", err)
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	c.work.Go(func() { _ = c.server.ServePacket(serving, udp) })
	c.work.Go(func() { _ = c.server.Serve(serving, tcp, sip.TCP) })
	if err := c.server.Ready(ctx, 2); err != nil {
		end()
		c.engine.Close()
		return nil, err
	}
	return func() {
		c.hangup()
		down, cancel := context.WithTimeout(serving, time.Second)
		_ = c.server.Shutdown(down) // lets the BYE be answered
		cancel()
		end()
		if c.feeder != nil {
			_ = c.feeder.Close()
		}
		c.engine.Close()
		c.work.Wait()
	}, nil
}

// sockets opens the same free port on UDP and TCP.
func sockets(ctx context.Context, ip netip.Addr) (udp net.PacketConn, tcp net.Listener, err error) {
	var lc net.ListenConfig
	for range 20 {
		if udp, err = lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(ip, 0).String()); err != nil {
			return nil, nil, err
		}
		if tcp, err = lc.Listen(ctx, "tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close()
	}
	return nil, nil, err
}

func localFor(ctx context.Context, host string) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", net.JoinHostPort(host, "5060"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find a way to %s: %w", host, err)
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// dial places one call and makes it the script's line.
func (c *caller) dial(ctx context.Context, to string, progress func(sip.Progress)) (*line.Line, error) {
	ip, err := sip.ParseAddress("<" + to + ">")
	if err != nil {
		return nil, err
	}
	own, err := localFor(ctx, ip.Host)
	if err != nil {
		return nil, err
	}
	l, err := line.New(line.Config{
		Engine: c.engine, Codecs: c.conf.Codecs, NoEvents: c.conf.Script.tones(), Advertise: func(netip.Addr) netip.Addr { return own }, VAD: vad.Default(),
		Trusted: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, Log: c.log,
	}, c.ear)
	if err != nil {
		return nil, err
	}
	refers := l.AcceptRefers()
	err = l.Dial(ctx, c.server, sip.InviteRequest{
		To: to, From: c.conf.From, Transport: c.conf.Transport, Headers: c.conf.Headers, LateOffer: c.conf.LateOffer, Progress: progress,
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.line = l
	c.all = append(c.all, l)
	c.mu.Unlock()
	l.Attach(c.ear)
	c.work.Go(func() { c.watch(ctx, l, refers) })
	return l, nil
}

// watch obeys REFERs and tells the end of a line.
func (c *caller) watch(ctx context.Context, l *line.Line, refers <-chan sip.Request) {
	ctx = context.WithoutCancel(ctx) // that of the dialling has a time limit
	for {
		select {
		case r := <-refers:
			c.work.Go(func() { c.obey(ctx, r) })
		case <-l.Context().Done():
			c.mu.Lock()
			current := c.line == l
			c.mu.Unlock()
			if current {
				why := context.Cause(l.Context()) //nolint:contextcheck // of the line's end
				c.ear.tell(happening{what: ended, text: why.Error()})
			}
			return
		}
	}
}

// obey calls whom the far end names, and tells it how that goes (RFC 3515).
func (c *caller) obey(ctx context.Context, r sip.Request) {
	c.ear.tell(happening{what: referred, text: r.ReferTo})
	if err := r.Accept(ctx); err != nil {
		c.log.Warn("refer not accepted", zap.Error(err))
		return
	}
	dial, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	_, err := c.dial(dial, r.ReferTo, func(p sip.Progress) {
		if p.Status > 100 {
			_ = r.Notify(ctx, p.Status, "")
		}
	})
	status := 200
	if err != nil {
		status = 503
		if se, ok := errors.AsType[*sip.StatusError](err); ok {
			status = se.Code
		}
	} else {
		c.ear.tell(happening{what: moved, text: r.ReferTo})
	}
	if err := r.Notify(ctx, status, ""); err != nil {
		c.log.Info("outcome of the transfer not told", zap.Error(err))
	}
}

// attach lets the recogniser hear.
func (c *caller) attach(ctx context.Context, l *line.Line) {
	if c.conf.Recognizer == nil || c.conf.Script == nil || len(c.conf.Script.expected()) == 0 {
		return
	}
	stream, err := c.conf.Recognizer.Open(ctx, asr.Params{CallID: "caller", Language: "en-US"})
	if err != nil {
		c.log.Warn("recogniser not available", zap.Error(err))
		return
	}
	c.feeder = asr.NewFeeder(stream, c.log)
	l.Attach(c.feeder)
	c.utter()
	c.work.Go(func() {
		for ev := range c.feeder.Events() {
			if ev.Kind == asr.Final && ev.Text != "" {
				c.ear.tell(happening{what: wordsHeard, text: ev.Text})
			}
		}
	})
}

func (c *caller) utter() {
	c.utt++
	c.feeder.Begin(asr.Utterance{ID: c.utt, Hints: c.conf.Script.expected()})
}

func (c *caller) hangup() {
	c.mu.Lock()
	all := c.all
	c.mu.Unlock()
	for _, l := range all {
		l.Hangup(call.Hangup{Why: "the caller hangs up"})
	}
}

// save writes the recording and closes its file.
func (c *caller) save(f *os.File) error {
	err := pcm.WriteWAV(f, pcm.Rate, 2, c.ear.recording())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save recording: %w", err)
	}
	return nil
}

func (c *caller) say(format string, args ...any) {
	if c.conf.Out != nil {
		_, _ = fmt.Fprintf(c.conf.Out, format+"\n", args...)
	}
}
