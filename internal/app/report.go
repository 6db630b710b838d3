package app

import (
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/call"
)

// summary is the one line at a call's end: what an operator asks first.
func summary(r call.Result) []zap.Field {
	fields := []zap.Field{
		zap.String("agent", r.Agent), zap.String("trunk", r.Info.Trunk),
		zap.String("end_class", string(r.Class)), zap.String("why", r.Why),
		zap.Float64("seconds", r.Ended.Sub(r.Began).Seconds()),
		zap.Int("turns", len(r.Turns)), zap.Int("failed_turns", r.Failures), zap.Int("keys", r.Keys), zap.Int("barge_ins", r.BargeIns),
		zap.Uint64("rtp_sent", r.Media.Sent), zap.Uint64("rtp_received", r.Media.Received),
		zap.Uint64("rtp_lost", r.Media.Lost), zap.Float64("rtp_jitter_ms", ms(r.Media.Jitter)),
	}
	if worst := slowest(r.Turns); worst > 0 {
		fields = append(fields, zap.Float64("slowest_turn_ms", ms(worst)))
	}
	if n := len(r.Handovers); n > 0 {
		last := r.Handovers[n-1]
		fields = append(fields, zap.Int("transfers", n), zap.String("transfer_outcome", string(last.Outcome)), zap.String("transfer_cause", last.Cause))
	}
	if r.Deaf {
		fields = append(fields, zap.Bool("recogniser_down", true))
	}
	return fields
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func slowest(turns []call.Turn) time.Duration {
	var worst time.Duration
	for _, t := range turns {
		worst = max(worst, t.Latency)
	}
	return worst
}
