package tts_test

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ivrbridge/ivrbridge/tts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

// need skips a test whose tool is missing, and fails it where all must run.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", tool)
		}
		t.Skipf("%s is not installed", tool)
	}
}

// voice is a synthesiser that speaks a tone of one second at 16 kHz.
type voice struct {
	name   string
	ssml   bool
	wait   time.Duration // before the first sample
	rude   bool          // waits without looking at its context
	refuse error
	breaks int           // samples after which Read fails
	pause  time.Duration // before each further read
	hz     float64       // 1000 when zero
	length int           // samples; a second when zero

	mu   sync.Mutex
	said []tts.Request
	open int
}

func (v *voice) Key() string { return v.name }
func (v *voice) SSML() bool  { return v.ssml }

func (v *voice) Synthesize(ctx context.Context, r tts.Request) (tts.Audio, error) {
	v.mu.Lock()
	v.said = append(v.said, r)
	refuse := v.refuse
	v.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	if v.rude {
		time.Sleep(v.wait)
	} else if err := sleep(ctx, v.wait); err != nil {
		return nil, err
	}
	v.mu.Lock()
	v.open++
	v.mu.Unlock()
	left := 16000
	if v.length != 0 {
		left = max(v.length, 0)
	}
	hz := v.hz
	if hz == 0 {
		hz = 1000
	}
	return &tone{ctx: ctx, v: v, left: left, step: 2 * math.Pi * hz / 16000}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type tone struct {
	ctx    context.Context
	v      *voice
	step   float64
	at     int
	left   int
	closed bool
}

func (t *tone) SampleRate() int { return 16000 }

func (t *tone) Read(p []int16) (int, error) {
	if t.at > 0 {
		if err := sleep(t.ctx, t.v.pause); err != nil {
			return 0, err
		}
	}
	if t.v.breaks > 0 && t.at >= t.v.breaks {
		return 0, errDown
	}
	n := min(len(p), t.left, 1600)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range n {
		p[i] = int16(8000 * math.Sin(t.step*float64(t.at+i)))
	}
	t.at += n
	t.left -= n
	return n, nil
}

func (t *tone) Close() error {
	t.v.mu.Lock()
	defer t.v.mu.Unlock()
	if !t.closed {
		t.closed = true
		t.v.open--
	}
	return nil
}
