package app

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/sip"
)

// A Human is the demo's second user agent: it takes the calls that the agent
// hands over, says a few words, and can be made busy.
type Human struct {
	conf  line.Config
	words *pcm.Clip
	log   *zap.Logger
	busy  atomic.Bool
	taken atomic.Int64
}

const (
	humanRings = time.Second
	humanTalks = 2 * time.Minute
)

// SetBusy makes the human refuse calls, or take them again.
func (h *Human) SetBusy(on bool) { h.busy.Store(on) }

// Taken counts the calls that the human has answered.
func (h *Human) Taken() int { return int(h.taken.Load()) }

// ServeHTTP tells whether the human is busy, and with POST makes it so:
// busy=true or busy=false.
func (h *Human) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		h.SetBusy(r.FormValue("busy") == "true")
	}
	word := "free\n"
	if h.busy.Load() {
		word = "busy\n"
	}
	_, _ = w.Write([]byte(word))
}

// boss is the user of the demo's second desk, whose line is always busy.
const boss = "boss"

// ServeCall implements sip.Handler.
func (h *Human) ServeCall(ctx context.Context, c *sip.Call) {
	if h.busy.Load() || c.RequestURI().User == boss {
		h.log.Info("human is busy")
		_ = c.Reject(486, "")
		return
	}
	if err := c.Ring(ctx); err != nil {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(humanRings):
	}
	said := make(chan struct{}, 8)
	l, err := line.Inbound(h.conf, saidSink(said), c) //nolint:contextcheck // the line lives as long as its call
	if err != nil {
		h.log.Warn("human cannot answer", zap.Error(err))
		_ = c.Reject(503, "")
		return
	}
	defer l.Wait()
	if err := l.Answer(ctx); err != nil {
		h.log.Info("human's call ended early", zap.Error(err))
		return
	}
	h.taken.Add(1)
	h.log.Info("human took the call")
	bye := time.NewTimer(humanTalks)
	defer bye.Stop()
	l.Play(media.Cue{Seq: 1, Clip: h.words})
	for seq := uint64(2); ; seq++ {
		select {
		case <-l.Context().Done():
			return
		case <-bye.C:
			l.Hangup(call.Hangup{Why: "the demo is over"})
			return
		case <-said:
			// A pause, then the words again.
			select {
			case <-l.Context().Done():
				return
			case <-time.After(3 * time.Second):
				l.Play(media.Cue{Seq: seq, Clip: h.words})
			}
		}
	}
}

// saidSink tells the ends of cues.
type saidSink chan struct{}

// Post implements media.Events.
func (s saidSink) Post(e media.Event) bool {
	if e.Kind != media.PlayEnd {
		return true
	}
	select {
	case s <- struct{}{}:
	default:
	}
	return true
}

// Hold implements line.Sink.
func (saidSink) Hold(bool) {}
