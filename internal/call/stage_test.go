package call_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/call/story"
	"github.com/ivrbridge/ivrbridge/internal/secret"
	"github.com/ivrbridge/ivrbridge/internal/target"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/media/vad"
	"github.com/ivrbridge/ivrbridge/tts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddrPort("198.51.100.7:40000")
)

// voice is a synthesiser of tones: 40 ms a letter, at once. Text that holds
// "never" is never rendered.
type voice struct{}

func (voice) Key() string { return "tones" }
func (voice) SSML() bool  { return false }

func (voice) Synthesize(ctx context.Context, r tts.Request) (tts.Audio, error) {
	if r.Text == "never" {
		return stalled{ctx}, nil
	}
	return &tone{left: len(r.Text) * pcm.Rate / 25}, nil
}

type tone struct{ left, at int }

func (*tone) SampleRate() int { return pcm.Rate }
func (*tone) Close() error    { return nil }

func (t *tone) Read(p []int16) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), t.left)
	for i := range p[:n] {
		p[i] = int16(6000 - 12000*((t.at+i)/8%2))
	}
	t.left, t.at = t.left-n, t.at+n
	return n, nil
}

// stalled is a synthesiser that never answers.
type stalled struct{ ctx context.Context }

func (stalled) SampleRate() int { return pcm.Rate }
func (stalled) Close() error    { return nil }
func (s stalled) Read([]int16) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// listener is a recogniser that answers each end with the next of its texts.
type listener struct{ texts chan string }

func (l listener) Open(context.Context, asr.Params) (asr.Stream, error) {
	return &hearing{texts: l.texts, events: make(chan asr.Event, 64)}, nil
}

type hearing struct {
	texts  chan string
	events chan asr.Event
	mu     sync.Mutex
	closed bool
}

func (*hearing) Begin(asr.Utterance) error { return nil }
func (*hearing) Write([]int16) error       { return nil }
func (h *hearing) End(id uint64) error {
	ev := asr.Event{Utterance: id, Kind: asr.Final}
	select {
	case ev.Text = <-h.texts:
		ev.Confidence = .9
	default:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.events <- ev
	}
	return nil
}
func (h *hearing) Events() <-chan asr.Event { return h.events }
func (h *hearing) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		close(h.events)
	}
	h.closed = true
	return nil
}

// A line has a real leg on a network in memory, and signalling that does as it
// is told.
type line struct {
	*media.Leg
	ctx    context.Context
	cancel context.CancelCauseFunc
	params media.Params
	refer  func(ctx context.Context, r call.Referral) (call.Referred, error)
	hung   []call.Hangup
	alive  error
}

func (l *line) Context() context.Context { return l.ctx }
func (l *line) Answer(context.Context) error {
	l.Apply(l.params)
	return nil
}

func (l *line) Hangup(h call.Hangup) {
	l.hung = append(l.hung, h)
	l.Close()
	l.cancel(&call.EndError{Class: call.ClassCompleted, Why: "we hung up"})
}

func (l *line) Refer(ctx context.Context, r call.Referral, _ func(int)) (call.Referred, error) {
	return l.refer(ctx, r)
}
func (l *line) Alive(context.Context) error { return l.alive }
func (l *line) SendDigits(seq uint64, digits string) {
	l.Leg.SendDigits(seq, digits, media.DigitsAuto)
}

// bye is the caller who hangs up.
func (l *line) bye() {
	l.Close()
	l.cancel(&call.EndError{Class: call.ClassCallerHangup, Why: "the caller hung up"})
}

// A phone is the far end: it sends 50 packets a second and notes what it hears.
type phone struct {
	port media.Port
	to   netip.AddrPort
	seq  uint16
	ts   uint32

	mu      sync.Mutex
	talking bool
	muted   bool // sends nothing at all
	keys    []byte
	held    int       // packets of a 1 that is held, three with its end included
	pressed int       // of them that are sent
	loud    time.Time // when the last packet that is not silence came
	first   time.Time // when the first one came since forget
	packets int
}

func (p *phone) run(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.hear()
		p.send(n)
	}
}

func (p *phone) hear() {
	buf := make([]byte, 1500)
	for {
		n, _, err := p.port.Recv(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.packets++
		out := make([]int16, n-12)
		pcm.Mu.Decode(out, buf[12:n])
		if pcm.Level(out) > -40 {
			p.loud = time.Now()
			if p.first.IsZero() {
				p.first = p.loud
			}
		}
		p.mu.Unlock()
	}
}

func (p *phone) send(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.muted {
		return
	}
	payload := make([]int16, 160)
	if p.talking {
		vowel(payload, n*160)
	}
	enc := make([]byte, 160)
	pcm.Mu.Encode(enc, payload)
	kind, data := byte(0), enc
	if len(p.keys) > 0 && n%8 < 4 {
		event := byte(0)
		switch k := p.keys[0]; {
		case k >= '0' && k <= '9':
			event = k - '0'
		case k == '#':
			event = 11
		}
		kind, data = 101, []byte{event, 10, 1, 64}
		if n%8 == 3 {
			p.keys = p.keys[1:]
			data[1] |= 0x80
		}
	}
	since := uint32(n % 8)
	if p.pressed < p.held {
		since = uint32(p.pressed)
		d := uint16(160 * min(p.pressed+1, p.held-2))
		kind, data = 101, []byte{1, 10, byte(d >> 8), byte(d)}
		p.pressed++
		if p.pressed > p.held-3 {
			data[1] |= 0x80
		}
	}
	b := make([]byte, 12, 172)
	b[0], b[1] = 0x80, kind
	binary.BigEndian.PutUint16(b[2:], p.seq)
	ts := p.ts
	if kind == 101 {
		ts -= since * 160 // all packets of an event share one
	}
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], 77)
	p.seq, p.ts = p.seq+1, p.ts+160
	_ = p.port.Send(append(b, data...), p.to)
}

// vowel is voiced sound at a caller's level.
func vowel(out []int16, at int) {
	for i := range out {
		t := (at + i) % 64 // 125 Hz
		out[i] = int16(9000 / (1 + t))
		if t%2 == 1 {
			out[i] = -out[i] / 2
		}
	}
}

func (p *phone) talk(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.talking = on
}

func (p *phone) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = true
}

// hold presses the key 1 for a while.
func (p *phone) hold(span time.Duration) {
	p.mu.Lock()
	p.held, p.pressed = int(span/(20*time.Millisecond))+3, 0
	p.mu.Unlock()
	time.Sleep(span)
}

func (p *phone) press(keys string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, keys...)
}

func (p *phone) heardAt() (first, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first, p.loud
}

// A stage is one call under virtual time.
type stage struct {
	t      *testing.T
	flow   *localflow.Server
	line   *line
	phone  *phone
	call   *call.Call
	words  chan string
	result call.Result
	done   chan struct{}
	steps  []machine.Effect
	mu     sync.Mutex
}

const key = "VF.DM.0123456789abcdef01234567.secret"

// perform runs a call against a flow inside a bubble; script plays the caller
// and should end the call.
func perform(t *testing.T, flow string, change func(*call.Config), script func(s *stage)) call.Result {
	t.Helper()
	var res call.Result
	synctest.Test(t, func(t *testing.T) {
		s := open(t, flow, change)
		script(s)
		<-s.done
		res = s.result
	})
	return res
}

func open(t *testing.T, flow string, change func(*call.Config)) *stage {
	t.Helper()
	f, err := localflow.Parse([]byte(flow))
	require.NoError(t, err)
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	s := &stage{t: t, flow: localflow.New(f, localflow.Options{}), words: make(chan string, 8), done: make(chan struct{})}
	client, err := dialog.New(dialog.Config{
		URL: "http://flow.invalid", APIKey: secret.New(key), Environment: "production",
		HTTP: &http.Client{Transport: s.flow.Transport()},
	})
	require.NoError(t, err)
	metrics, err := call.NewMetrics(nil)
	require.NoError(t, err)
	cache := tts.NewCache(1<<20, pcm.Mu)
	conf := call.Config{
		Agent: "test", Policy: policy(), Dialog: client, Session: "caller", Recognizer: listener{s.words},
		Voice:   &call.Voice{Synth: voice{}, Cache: cache, Prompts: prompts()},
		Targets: target.Policy{Allow: []string{"sip:*@agents.example.com"}, Timeout: 30 * time.Second, Region: "US"},
		Log:     log, Metrics: metrics, Info: call.Info{ID: "c1", Language: "en-US"},
		OnStep: func(st story.Step) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.steps = append(s.steps, st.Effects...)
		},
	}
	if change != nil {
		change(&conf)
	}
	s.call = call.New(conf)
	network := media.NewMemoryNetwork()
	engine := media.NewEngine(media.EngineConfig{Shards: 1, Ports: media.MemoryPorts(network, here, 20000, 20100, time.Second), Log: log})
	leg, err := engine.NewLeg(media.LegConfig{Events: s.call, VAD: vad.Default(), FirstSilence: 30 * time.Second, Silence: 15 * time.Second})
	require.NoError(t, err)
	port, err := network.Listen(there)
	require.NoError(t, err)
	s.phone = &phone{port: port, to: netip.AddrPortFrom(here, leg.LocalPort()), ts: 5000}
	s.line = &line{Leg: leg, params: media.Params{
		Remote: there, Signalling: there.Addr(), Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true,
	}, refer: func(context.Context, call.Referral) (call.Referred, error) {
		return call.Referred{}, errors.New("no refer")
	}}
	s.line.ctx, s.line.cancel = context.WithCancelCause(t.Context())
	calling, hang := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { s.phone.run(calling) })
	work.Go(func() {
		defer close(s.done)
		s.result = s.call.Run(t.Context(), s.line)
	})
	t.Cleanup(func() {
		s.line.bye()
		hang()
		work.Wait()
		engine.Close()
		cache.Close()
		_ = port.Close()
		_ = s.flow.Close()
	})
	return s
}

func policy() machine.Policy {
	return machine.Policy{
		NoReply: 10 * time.Second, MaxNoReplies: 3, NoReplyGuard: 10, TurnTimeout: 17 * time.Second, ThinkingAfter: 1500 * time.Millisecond,
		BargeIn:   machine.BargeIn{Speech: true, Keys: true, Protect: 300 * time.Millisecond, FalseBargeIn: 1500 * time.Millisecond},
		Keys:      machine.KeyPolicy{Max: 20, Delimiters: "#", Interdigit: 2 * time.Second, ChoiceKeys: true},
		DialNames: []string{"dial"}, DialTimeout: 30 * time.Second,
		HoldMax: 10 * time.Minute, MaxDuration: 30 * time.Minute, MaxTurns: 200,
	}
}

func prompts() *call.Prompts {
	out := &call.Prompts{}
	out.Set(machine.PromptHold, call.Music())
	for _, p := range []machine.Prompt{machine.PromptApology, machine.PromptGoodbye, machine.PromptFiller, machine.PromptTransferFailed, machine.PromptLimit} {
		c := pcm.NewClip(pcm.Mu)
		_ = c.Append(dtmf.Tone('5', 400*time.Millisecond))
		c.Close(nil)
		out.Set(p, c)
	}
	return out
}

// wait lets virtual time pass.
func (s *stage) wait(d time.Duration) { time.Sleep(d) }

// requests are those of the flow, by action.
func (s *stage) requests() []string {
	var out []string
	for _, r := range s.flow.Requests() {
		if r.Action != "" {
			out = append(out, r.Action)
		}
	}
	return out
}

// until waits for the flow's n-th request and returns when it came.
func (s *stage) until(n int) time.Time {
	s.t.Helper()
	for range 60_000 {
		if all := s.flow.Requests(); len(all) >= n {
			return all[n-1].At
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("no request %d, only %v", n, s.requests())
	return time.Time{}
}
