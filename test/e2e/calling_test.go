package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/caller"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/tts"
)

// A telephone is our own caller on a call, in the background.
type telephone struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	report caller.Report
	err    error
	out    lines
}

// lines is what the caller tells of its steps.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dial calls the bridge and plays a script: YAML steps, none to listen until
// hangUp.
func (b *bridge) dial(script string, change ...func(*caller.Config)) *telephone {
	b.t.Helper()
	p := &telephone{t: b.t, done: make(chan struct{})}
	rtp := freePorts(b.t, 8)
	conf := caller.Config{
		Target: "sip:1000@" + b.sip, From: "sip:+14155550123@127.0.0.1", Log: zap.NewNop(), Out: &p.out,
		Ports: [2]uint16{uint16(rtp), uint16(rtp + 7)},
	}
	if strings.TrimSpace(script) != "" {
		s, err := caller.Parse([]byte(script))
		require.NoError(b.t, err)
		conf.Script = s
		if strings.Contains(script, "say:") {
			conf.Voice, err = tts.Providers.Open(b.t.Context(), "flite", nil, registry.Deps{Log: conf.Log})
			require.NoError(b.t, err)
		}
	}
	for _, f := range change {
		f(&conf)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), 2*time.Minute)
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.report, p.err = caller.Run(ctx, conf)
	}()
	b.t.Cleanup(func() {
		p.hangUp()
		if b.t.Failed() {
			b.t.Logf("caller: %v\n%s", p.err, p.out.String())
		}
	})
	return p
}

// call is dial for a script that must be met to its end.
func (b *bridge) call(script string, change ...func(*caller.Config)) caller.Report {
	b.t.Helper()
	return b.dial(script, change...).finish()
}

// finish waits for the script's end, which must be met.
func (p *telephone) finish() caller.Report {
	p.t.Helper()
	<-p.done
	require.NoError(p.t, p.err, "%s", p.out.String())
	return p.report
}

// hangUp ends the call and waits until it is over.
func (p *telephone) hangUp() {
	p.cancel()
	<-p.done
}
