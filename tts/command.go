package tts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

func init() {
	registry.Add(&Providers, "flite", func() CommandConfig {
		return CommandConfig{
			Program: "flite", Voice: "rms", Concurrency: 8, Timeout: 30 * time.Second,
			dialect: flite, install: "the package flite",
		}
	}, openCommand)
	registry.Add(&Providers, "espeak", func() CommandConfig {
		return CommandConfig{
			Program: "espeak-ng", Concurrency: 8, Timeout: 30 * time.Second,
			dialect: espeak, install: "the package espeak-ng",
		}
	}, openCommand)
}

// CommandConfig configures a synthesiser that is a program on this machine:
// flite (English) or espeak-ng (many languages). One process speaks one prompt.
type CommandConfig struct {
	Program     string            `yaml:"program"`     // name or path of the program
	Voice       string            `yaml:"voice"`       // flite: rms, slt, awb, kal16; espeak: empty for the language's
	Voices      map[string]string `yaml:"voices"`      // voice per language, such as {de-DE: mb-de2}
	Speed       int               `yaml:"speed"`       // espeak: words per minute; 0 for its own
	Concurrency int               `yaml:"concurrency"` // processes at a time
	Timeout     time.Duration     `yaml:"timeout"`     // limit of one process

	dialect func(*CommandConfig, Request) (args []string, stdin string)
	install string
}

// Validate implements registry.Validator.
func (c *CommandConfig) Validate() error {
	switch {
	case c.Program == "":
		return errors.New("program: write the name or path of the program")
	case c.Concurrency < 1:
		return errors.New("concurrency: write a number of processes, at least 1")
	case c.Timeout <= 0:
		return errors.New("timeout: write a positive duration such as 30s")
	case c.Speed != 0 && (c.Speed < 80 || c.Speed > 450):
		return errors.New("speed: write words per minute from 80 to 450, or 0")
	}
	for _, v := range c.voices() {
		if strings.HasPrefix(v, "-") {
			return fmt.Errorf("voice: %q is no voice", v)
		}
	}
	return nil
}

func (c *CommandConfig) voices() []string {
	all := []string{c.Voice}
	for _, v := range c.Voices {
		all = append(all, v)
	}
	return all
}

func (c *CommandConfig) voice(r Request) string {
	if r.Voice != "" && !strings.HasPrefix(r.Voice, "-") {
		return r.Voice
	}
	if v, ok := c.Voices[r.Language]; ok {
		return v
	}
	return c.Voice
}

// flite takes its text as the argument of -t, whatever it begins with.
func flite(c *CommandConfig, r Request) (args []string, stdin string) {
	return []string{"-voice", c.voice(r), "-o", "/dev/stdout", "-t", r.Text}, ""
}

func espeak(c *CommandConfig, r Request) (args []string, stdin string) {
	voice := c.voice(r)
	if voice == "" {
		voice = strings.ToLower(r.Language)
	}
	if voice == "" || strings.HasPrefix(voice, "-") {
		voice = "en-us"
	}
	args = []string{"--stdout", "--stdin", "-b", "1", "-v", voice}
	if c.Speed > 0 {
		args = append(args, "-s", strconv.Itoa(c.Speed))
	}
	if r.SSML {
		args = append(args, "-m")
	}
	return args, r.Text
}

const (
	maxText    = 16 << 10 // bytes of one prompt
	maxSpoken  = 10 * time.Minute
	maxAudioIn = 64 << 20
	maxStderr  = 2 << 10
	killDelay  = 500 * time.Millisecond // after which pipes of a killed process are cut
)

// ErrText is wrapped where a prompt is too long to be spoken in one piece.
var ErrText = errors.New("tts: text too long")

type command struct {
	c    CommandConfig
	path string
	free chan struct{}
}

func openCommand(_ context.Context, c CommandConfig, _ registry.Deps) (Synthesizer, error) {
	path, err := exec.LookPath(c.Program)
	if err != nil {
		return nil, fmt.Errorf("find synthesiser: %w: install %s, or write its path as program", err, c.install)
	}
	return &command{c: c, path: path, free: make(chan struct{}, c.Concurrency)}, nil
}

// Key implements Synthesizer.
func (c *command) Key() string {
	return fmt.Sprintf("%s/%s/%v/%d", c.path, c.c.Voice, c.c.Voices, c.c.Speed)
}

// SSML implements Synthesizer: only espeak-ng reads it.
func (c *command) SSML() bool {
	args, _ := c.c.dialect(&c.c, Request{SSML: true})
	return args[len(args)-1] == "-m"
}

// Synthesize implements Synthesizer: it starts a process, and waits for one to
// end first where too many run.
func (c *command) Synthesize(ctx context.Context, r Request) (Audio, error) {
	if len(r.Text) > maxText {
		return nil, fmt.Errorf("%w: %d bytes", ErrText, len(r.Text))
	}
	r.Text = printable(r.Text)
	if !speakable(r.Text) {
		return nothing{}, nil
	}
	select {
	case c.free <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for synthesiser: %w", context.Cause(ctx))
	}
	p, err := c.start(ctx, r)
	if err != nil {
		<-c.free
		return nil, err
	}
	audio, err := pcm.Open(p, pcm.Limits{MaxInput: maxAudioIn, MaxOutput: maxSpoken})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return audio, nil
}

func (c *command) start(ctx context.Context, r Request) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	args, stdin := c.c.dialect(&c.c, r)
	cmd := exec.CommandContext(ctx, c.path, args...) //nolint:gosec // the operator's program; no shell sees the text
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = killDelay
	p := &process{cmd: cmd, ctx: ctx, cancel: cancel, name: c.c.Program, release: func() { <-c.free }}
	cmd.Stderr = &p.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", c.c.Program, err)
	}
	p.out = out
	return p, nil
}

// A process is the output of one run of a program.
type process struct {
	cmd     *exec.Cmd
	ctx     context.Context
	cancel  context.CancelFunc
	name    string
	out     io.Reader
	stderr  tail
	release func()

	once sync.Once
	err  error
}

// Read returns the program's output and, at its end, why it ended.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if n > 0 || err == nil {
		return n, nil
	}
	if failed := p.wait(); failed != nil {
		return 0, failed
	}
	return 0, err
}

// Close kills the program if it still runs. Its error tells how the program
// failed by itself.
func (p *process) Close() error {
	p.cancel()
	if err := p.wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (p *process) wait() error {
	p.once.Do(func() {
		err := p.cmd.Wait()
		switch {
		case err == nil:
		case p.ctx.Err() != nil:
			p.err = fmt.Errorf("run %s: %w", p.name, context.Cause(p.ctx))
		default:
			p.err = fmt.Errorf("run %s: %w: %s", p.name, err, strings.TrimSpace(p.stderr.String()))
		}
		p.cancel()
		p.release()
	})
	return p.err
}

// A tail keeps the first bytes written to it.
type tail struct{ strings.Builder }

func (t *tail) Write(b []byte) (int, error) {
	t.Builder.Write(b[:min(len(b), max(0, maxStderr-t.Len()))])
	return len(b), nil
}

// printable replaces what no engine can say: control characters, broken UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
}

// speakable tells whether s has anything to say.
func speakable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsSymbol(r)
	})
}

// nothing is the sound of a text without words.
type nothing struct{}

func (nothing) SampleRate() int           { return pcm.Rate }
func (nothing) Read([]int16) (int, error) { return 0, io.EOF }
func (nothing) Close() error              { return nil }
