package call

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// Metrics are those of all conversations. Labels are bounded: no caller, no call
// and no free text.
type Metrics struct {
	digits         *prometheus.CounterVec
	counts         *prometheus.CounterVec
	response       prometheus.Histogram
	turn           prometheus.Histogram
	transfers      *prometheus.CounterVec
	panics         prometheus.Counter
	recogniserDown prometheus.Counter
}

// NewMetrics makes the metrics and registers them with r, which may be nil.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		digits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_dtmf_digits_total", Help: "Keys that callers pressed, by the way they came.",
		}, []string{"source"}),
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_conversation_events_total", Help: "What happened in conversations, by kind.",
		}, []string{"kind"}),
		response: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ivrbridge_turn_response_seconds", Help: "End of the caller's speech to the first audio of the answer.",
			Buckets: []float64{.2, .4, .6, .8, 1, 1.5, 2, 3, 5, 10},
		}),
		turn: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ivrbridge_turn_first_audio_seconds", Help: "Request to the agent to the first audio of its answer.",
			Buckets: []float64{.05, .1, .2, .4, .6, .8, 1, 1.5, 2, 3, 5, 10},
		}),
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_transfers_total", Help: "Hand-overs by outcome.",
		}, []string{"outcome"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ivrbridge_panics_total", Help: "Faults that ended one call each.",
		}),
		recogniserDown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ivrbridge_recogniser_unavailable_total", Help: "Calls that began without a recogniser.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.digits, m.counts, m.response, m.turn, m.transfers, m.panics, m.recogniserDown} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) count(what machine.Counter) { m.counts.WithLabelValues(string(what)).Inc() }

func (m *Metrics) observe(what string, d time.Duration) {
	if what == "response" {
		m.response.Observe(d.Seconds())
		return
	}
	m.turn.Observe(d.Seconds())
}
