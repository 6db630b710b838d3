package rtc

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// setupBounds are the upper bounds of the buckets of the time to media, in
// seconds.
var setupBounds = []float64{0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20}

// A meter is the metrics of an API.
type meter struct {
	now                   prometheus.GaugeFunc
	peers                 *prometheus.CounterVec
	dropped               *prometheus.CounterVec
	droppedIn, droppedOut prometheus.Counter
	setup                 prometheus.Histogram

	register prometheus.Registerer // nil: nowhere
	in       []prometheus.Collector
}

func newMeter(r prometheus.Registerer, now func() int) (*meter, error) {
	m := &meter{
		register: r,
		now: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ivrbridge_rtc_peers", Help: "Browsers' peers that there are, those whose media does not run yet included.",
		}, func() float64 { return float64(now()) }),
		peers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_rtc_peers_total", Help: "Browsers' peers that are over, by how they ended.",
		}, []string{"outcome"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_rtc_dropped_packets_total", Help: "Packets between a leg and its peer connection that waited too long.",
		}, []string{"direction"}),
		setup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ivrbridge_rtc_setup_seconds", Help: "Time from the first offer to running media.", Buckets: setupBounds,
		}),
	}
	m.droppedIn, m.droppedOut = m.dropped.WithLabelValues("in"), m.dropped.WithLabelValues("out")
	for _, o := range outcomes {
		m.peers.WithLabelValues(o.name)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.now, m.peers, m.dropped, m.setup} {
		if err := r.Register(c); err != nil {
			m.close()
			return nil, fmt.Errorf("register rtc metrics: %w", err)
		}
		m.in = append(m.in, c)
	}
	return m, nil
}

func (m *meter) close() {
	for _, c := range m.in {
		m.register.Unregister(c)
	}
}

// outcomes are the causes of a peer's end as labels.
var outcomes = []struct {
	err  error
	name string
}{
	{ErrClosed, "closed"},
	{ErrPeerClosed, "peer_closed"},
	{ErrNoMedia, "no_media"},
	{ErrVanished, "vanished"},
	{ErrFault, "fault"},
	{errSources, "abuse"},
}

func outcome(why error) string {
	for _, o := range outcomes {
		if errors.Is(why, o.err) {
			return o.name
		}
	}
	return "fault"
}
