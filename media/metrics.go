package media

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A counter is a place in a tally.
type counter uint8

const (
	sentAudio counter = iota
	sentEvents
	sentReports
	receivedAudio
	receivedEvents
	receivedReports
	lostPackets
	latePackets
	duplicatePackets
	rejectedSource
	rejectedLearning
	rejectedPayload
	rejectedMalformed
	sendErrors
	counters // how many there are
)

// intervalBounds are the upper bounds of the buckets of the send interval.
var intervalBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 15 * time.Millisecond, 18 * time.Millisecond, 19 * time.Millisecond,
	20 * time.Millisecond, 21 * time.Millisecond, 22 * time.Millisecond, 23 * time.Millisecond, 25 * time.Millisecond,
	30 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
}

// A tally counts on one shard, without atomics: they are added to the engine's
// once a turn.
type tally struct {
	n         [counters]uint64
	panics    uint64
	intervals [len(intervalBounds) + 1]uint64
	sum       time.Duration
}

// interval counts the time between two packets of a leg that sends every 20 ms.
func (t *tally) interval(d time.Duration) {
	t.sum += d
	// Nearly all are about 20 ms.
	i := 5
	for i > 0 && d <= intervalBounds[i-1] {
		i--
	}
	for i < len(intervalBounds) && d > intervalBounds[i] {
		i++
	}
	t.intervals[i]++
}

func (t *tally) flush(m *meter) {
	for i, v := range t.n {
		if v != 0 {
			m.n[i].Add(v)
		}
	}
	for i, v := range t.intervals {
		if v != 0 {
			m.intervals[i].Add(v)
		}
	}
	m.sum.Add(int64(t.sum))
	m.panics.Add(t.panics)
	*t = tally{}
}

// A meter is the metrics of an engine: a prometheus.Collector over counters
// that the shards add to.
type meter struct {
	ports         Ports
	n             [counters]atomic.Uint64
	panics        atomic.Uint64
	eventsDropped atomic.Uint64
	intervals     [len(intervalBounds) + 1]atomic.Uint64
	sum           atomic.Int64 // ns

	packets, lost, late, duplicates, rejected, errors, faults, dropped, used, interval *prometheus.Desc
}

func newMeter(p Ports) *meter {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ivrbridge_rtp_"+name, help, labels, nil)
	}
	return &meter{
		ports:      p,
		packets:    desc("packets_total", "RTP and RTCP packets sent and received.", "dir", "kind"),
		lost:       desc("lost_total", "RTP packets that never came."),
		late:       desc("late_total", "RTP packets that came too late to be heard."),
		duplicates: desc("duplicates_total", "RTP packets that came twice."),
		rejected:   desc("rejected_total", "Packets dropped unheard.", "reason"),
		errors:     desc("send_errors_total", "Errors of sending, ICMP errors included."),
		faults:     desc("leg_panics_total", "Legs ended by a fault on the wheel."),
		dropped:    desc("events_dropped_total", "Events that their receiver did not take."),
		used:       desc("ports_used", "Port pairs open or in quarantine."),
		interval:   desc("send_interval_seconds", "Time between two packets of a leg that sends every 20 ms."),
	}
}

// Describe implements prometheus.Collector.
func (m *meter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.packets, m.lost, m.late, m.duplicates, m.rejected, m.errors, m.faults, m.dropped, m.used, m.interval} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *meter) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()), labels...)
	}
	count(m.packets, &m.n[sentAudio], "out", "audio")
	count(m.packets, &m.n[sentEvents], "out", "event")
	count(m.packets, &m.n[sentReports], "out", "rtcp")
	count(m.packets, &m.n[receivedAudio], "in", "audio")
	count(m.packets, &m.n[receivedEvents], "in", "event")
	count(m.packets, &m.n[receivedReports], "in", "rtcp")
	count(m.lost, &m.n[lostPackets])
	count(m.late, &m.n[latePackets])
	count(m.duplicates, &m.n[duplicatePackets])
	count(m.rejected, &m.n[rejectedSource], "source")
	count(m.rejected, &m.n[rejectedLearning], "learning")
	count(m.rejected, &m.n[rejectedPayload], "payload_type")
	count(m.rejected, &m.n[rejectedMalformed], "malformed")
	count(m.errors, &m.n[sendErrors])
	count(m.faults, &m.panics)
	count(m.dropped, &m.eventsDropped)
	if u, ok := m.ports.(interface{ Used() int }); ok {
		ch <- prometheus.MustNewConstMetric(m.used, prometheus.GaugeValue, float64(u.Used()))
	}
	var total uint64
	buckets := make(map[float64]uint64, len(intervalBounds))
	for i := range m.intervals {
		total += m.intervals[i].Load()
		if i < len(intervalBounds) {
			buckets[intervalBounds[i].Seconds()] = total
		}
	}
	ch <- prometheus.MustNewConstHistogram(m.interval, total, time.Duration(m.sum.Load()).Seconds(), buckets)
}
