package call

import (
	"strings"
	"sync"
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
	unhandled      *prometheus.CounterVec

	mu    sync.Mutex
	types map[string]bool // of traces that nobody handles, as far as they are labels
}

// mostTypes bounds the labels that agents can make up.
const mostTypes = 50

// NewMetrics makes the metrics and registers them with r, which may be nil.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		types: map[string]bool{},
		unhandled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_unhandled_traces_total", Help: "Traces and custom actions that nothing here handles, by type.",
		}, []string{"type"}),
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
	for _, c := range []prometheus.Collector{m.digits, m.counts, m.response, m.turn, m.transfers, m.panics, m.recogniserDown, m.unhandled} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) count(what machine.Counter) { m.counts.WithLabelValues(string(what)).Inc() }

// nobodyHandles counts a trace by its type.
func (m *Metrics) nobodyHandles(typ string) {
	m.mu.Lock()
	if len(m.types) < mostTypes && len(typ) <= 64 {
		m.types[typ] = true
	}
	if !m.types[typ] {
		typ = "other"
	}
	m.mu.Unlock()
	m.unhandled.WithLabelValues(strings.ToValidUTF8(typ, "?")).Inc()
}

func (m *Metrics) observe(what string, d time.Duration) {
	if what == "response" {
		m.response.Observe(d.Seconds())
		return
	}
	m.turn.Observe(d.Seconds())
}
