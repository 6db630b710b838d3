package app

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ivrbridge/ivrbridge/internal/call"
)

// metrics are those of the bridge as a whole.
type metrics struct {
	calls    *call.Metrics
	total    *prometheus.CounterVec
	duration prometheus.Histogram
	setup    prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, a *App) (*metrics, error) {
	cm, err := call.NewMetrics(r)
	if err != nil {
		return nil, err
	}
	m := &metrics{
		calls: cm,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_calls_total", Help: "Calls that ended, by trunk and kind of end.",
		}, []string{"trunk", "end_class"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ivrbridge_call_duration_seconds", Help: "Answer to end.", Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600},
		}),
		setup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ivrbridge_setup_seconds", Help: "Start of a call to its answer.", Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .3, 1},
		}),
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	all := []prometheus.Collector{
		m.total, m.duration, m.setup,
		gauge("ivrbridge_calls_active", "Calls that are up.", func() float64 { return float64(a.calls.len()) }),
		gauge("ivrbridge_calls_limit", "Most calls at the same time.", func() float64 { return float64(a.conf.SIP.MaxCalls) }),
		gauge("ivrbridge_ready", "1 while calls are taken.", func() float64 {
			if a.ready() != nil {
				return 0
			}
			return 1
		}),
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// ended counts a call that is over.
func (m *metrics) ended(r call.Result) {
	m.total.WithLabelValues(r.Info.Trunk, string(r.Class)).Inc()
	if r.Answered.IsZero() {
		return
	}
	m.setup.Observe(r.Answered.Sub(r.Began).Seconds())
	m.duration.Observe(r.Ended.Sub(r.Answered).Seconds())
}
