package asr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr/wire"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "pocketsphinx", func() PocketsphinxConfig {
		return PocketsphinxConfig{Program: "ivrbridge-worker", Start: 10 * time.Second}
	}, openPocketsphinx)
}

// PocketsphinxConfig configures recognition of English phrases on this machine,
// without a server: the hints of each turn and yes and no, nothing else.
type PocketsphinxConfig struct {
	Program   string        `yaml:"program"`   // name or path of the worker; a name is looked for beside the bridge, then in PATH
	Model     string        `yaml:"model"`     // folder of the model; empty for that of Debian's package
	Threshold float64       `yaml:"threshold"` // how much worse than any speech a phrase may fit, negative; 0 for the worker's own
	Start     time.Duration `yaml:"start"`     // limit for the worker's start
}

// Validate implements registry.Validator.
func (c *PocketsphinxConfig) Validate() error {
	switch {
	case c.Program == "":
		return errors.New("program: write the name or path of ivrbridge-worker")
	case c.Threshold > 0:
		return errors.New("threshold: write a negative number such as -18, or 0")
	case c.Start <= 0:
		return errors.New("start: write a positive duration such as 10s")
	}
	return nil
}

// PocketsphinxReady says what is missing for the recogniser "pocketsphinx" with
// its defaults, nil when nothing is.
func PocketsphinxReady() error {
	c, ok := Providers.Defaults("pocketsphinx").(*PocketsphinxConfig)
	if !ok {
		return errors.New("pocketsphinx is not compiled in")
	}
	if _, err := c.find(); err != nil {
		return err
	}
	if _, err := os.Stat(debianModel); err != nil {
		return fmt.Errorf("find model: %w: install pocketsphinx-en-us", err)
	}
	return nil
}

// debianModel is where Debian keeps the English model.
const debianModel = "/usr/share/pocketsphinx/model/en-us/en-us"

// find returns the path of the worker.
func (c *PocketsphinxConfig) find() (string, error) {
	if !strings.ContainsRune(c.Program, filepath.Separator) {
		if own, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(own), c.Program)
			if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(c.Program)
	if err != nil {
		return "", fmt.Errorf("find worker: %w: put ivrbridge-worker beside the bridge, or write its path as program", err)
	}
	return path, nil
}

// pocketsphinx is the recogniser: one worker process serves all streams, and a
// new one is started where it has died.
type pocketsphinx struct {
	c    PocketsphinxConfig
	log  *zap.Logger
	path string

	mu     sync.Mutex
	w      *workerProcess
	closed bool
}

// openPocketsphinx starts the worker, so that what is missing is known before
// the first call.
func openPocketsphinx(ctx context.Context, c PocketsphinxConfig, d registry.Deps) (Recognizer, error) {
	path, err := c.find()
	if err != nil {
		return nil, err
	}
	p := &pocketsphinx{c: c, log: d.Log, path: path}
	if _, err := p.worker(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Key implements Keyed.
func (p *pocketsphinx) Key() string { return "pocketsphinx " + p.path }

// worker returns the process that runs, or starts one.
func (p *pocketsphinx) worker(ctx context.Context) (*workerProcess, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, ErrClosed
	case p.w != nil && p.w.alive():
		return p.w, nil
	}
	args := []string{}
	if p.c.Model != "" {
		args = append(args, "-model", p.c.Model)
	}
	if p.c.Threshold < 0 {
		args = append(args, "-threshold", fmt.Sprint(p.c.Threshold))
	}
	ctx, cancel := context.WithTimeout(ctx, p.c.Start)
	defer cancel()
	w, err := startWorker(ctx, p.path, args, p.log)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	p.w = w
	return w, nil
}

// Open implements Recognizer.
func (p *pocketsphinx) Open(ctx context.Context, params Params) (Stream, error) {
	if lang := strings.ToLower(params.Language); lang != "" && !strings.HasPrefix(lang, "en") {
		p.log.Warn("pocketsphinx hears english only", zap.String("language", params.Language), zap.String("call", params.CallID))
	}
	if _, err := p.worker(ctx); err != nil {
		return nil, fmt.Errorf("open pocketsphinx: %w", err)
	}
	s := &sphinxStream{p: p, out: newOutbox(), waiting: make(map[uint64]time.Time)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// Close ends the worker. Streams that are open fail.
func (p *pocketsphinx) Close() error {
	p.mu.Lock()
	p.closed = true
	w := p.w
	p.mu.Unlock()
	if w != nil {
		w.end()
	}
	return nil
}

// A sphinxStream is one caller's share of the worker. It stays open when the
// worker dies while nothing is being heard.
type sphinxStream struct {
	p      *pocketsphinx
	ctx    context.Context
	cancel context.CancelFunc
	out    *outbox

	mu      sync.Mutex
	w       *workerProcess // nil before the first utterance
	id      uint32         // of the stream, at w
	cur     uint64
	open    bool
	waiting map[uint64]time.Time // utterances that were ended, and when
	law     []byte
}

// Segmented implements Segmented: a grammar makes words of any noise.
func (*sphinxStream) Segmented() bool { return true }

func (s *sphinxStream) Events() <-chan Event { return s.out.ch }

func (s *sphinxStream) Begin(u Utterance) error {
	w, err := s.p.worker(s.ctx)
	if err != nil {
		return s.fail(u.ID, fmt.Errorf("begin: %w", err))
	}
	s.mu.Lock()
	old, oldID := s.w, s.id
	if old != w {
		s.w, s.id = w, w.join(s)
	}
	s.cur, s.open = u.ID, true
	id := s.id
	s.mu.Unlock()
	if old != nil && old != w {
		old.leave(oldID)
	}
	if err := w.utterance(wire.Begin, id, wire.Utterance{ID: u.ID, Hints: u.Hints, Language: u.Language}); err != nil {
		return s.fail(u.ID, fmt.Errorf("begin: %w", err))
	}
	return nil
}

// Write is called by the feeder alone, as law is its own.
func (s *sphinxStream) Write(samples []int16) error {
	s.mu.Lock()
	w, id, cur, open := s.w, s.id, s.cur, s.open
	s.mu.Unlock()
	if !open {
		return nil
	}
	if cap(s.law) < len(samples) {
		s.law = make([]byte, len(samples))
	}
	s.law = s.law[:pcm.Mu.Encode(s.law[:len(samples)], samples)]
	if err := w.send(wire.Frame{Kind: wire.Sound, Stream: id, Payload: s.law}); err != nil {
		return s.fail(cur, err)
	}
	return nil
}

func (s *sphinxStream) End(id uint64) error {
	s.mu.Lock()
	if !s.open || s.cur != id {
		s.mu.Unlock()
		return nil
	}
	s.open = false
	s.waiting[id] = time.Now()
	w, stream := s.w, s.id
	s.mu.Unlock()
	if err := w.utterance(wire.End, stream, wire.Utterance{ID: id}); err != nil {
		return s.fail(id, fmt.Errorf("end: %w", err))
	}
	return nil
}

// hear takes the worker's reply. It does not block.
func (s *sphinxStream) hear(r wire.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.Final {
		if s.open && s.cur == r.Utterance {
			s.out.post(Event{Utterance: r.Utterance, Kind: Partial, Text: r.Text})
		}
		return
	}
	ev := Event{Utterance: r.Utterance, Kind: Final, Text: r.Text, Confidence: r.Confidence}
	if r.Error != "" {
		ev.Err = fmt.Errorf("pocketsphinx: %s", r.Error)
	}
	at, ended := s.waiting[r.Utterance]
	switch {
	case ended:
		delete(s.waiting, r.Utterance)
		ev.Latency = time.Since(at)
	case s.open && s.cur == r.Utterance && ev.Err != nil:
		s.open = false // it failed before its end
	default:
		return
	}
	s.out.post(ev)
}

// lost tells that the worker has died.
func (s *sphinxStream) lost(err error) {
	s.mu.Lock()
	listening, cur := s.open || len(s.waiting) > 0, s.cur
	s.mu.Unlock()
	if listening {
		_ = s.fail(cur, err)
	}
}

func (s *sphinxStream) fail(utterance uint64, err error) error {
	if !s.out.fail(utterance, err) {
		return ErrClosed
	}
	s.detach()
	return err
}

func (s *sphinxStream) detach() {
	s.cancel()
	s.mu.Lock()
	w, id := s.w, s.id
	s.open = false
	s.mu.Unlock()
	if w != nil {
		w.leave(id)
	}
}

func (s *sphinxStream) Close() error {
	s.out.close()
	s.detach()
	return nil
}
