package sip

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of one registerer; servers that share it share them.
type metrics struct {
	requests    *prometheus.CounterVec
	responses   *prometheus.CounterVec
	drops       *prometheus.CounterVec
	repeats     prometheus.Counter
	calls       *prometheus.GaugeVec
	connections *prometheus.GaugeVec
	dialogs     prometheus.Gauge
	transaction prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		r = prometheus.NewRegistry()
	}
	m := &metrics{}
	var errs []error
	m.requests = register(r, &errs, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ivrbridge_sip_requests_total", Help: "SIP requests received, by method and by what became of them.",
	}, []string{"method", "result"}))
	m.responses = register(r, &errs, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ivrbridge_sip_responses_total", Help: "SIP responses sent, by method of the request and status code.",
	}, []string{"method", "code"}))
	m.drops = register(r, &errs, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ivrbridge_sip_dropped_total", Help: "SIP messages and connections dropped without a call, by reason.",
	}, []string{"reason"}))
	m.repeats = register(r, &errs, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ivrbridge_sip_retransmissions_total", Help: "SIP messages sent again for want of an answer.",
	}))
	m.calls = register(r, &errs, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ivrbridge_sip_calls", Help: "Calls that are not over, by direction.",
	}, []string{"direction"}))
	m.connections = register(r, &errs, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ivrbridge_sip_connections", Help: "Open connections that SIP messages come by, by transport.",
	}, []string{"transport"}))
	m.dialogs = register(r, &errs, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ivrbridge_sip_dialogs", Help: "Dialogs known, with those whose BYE is still being answered.",
	}))
	m.transaction = register(r, &errs, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ivrbridge_sip_transactions", Help: "SIP transactions known.",
	}))
	return m, errors.Join(errs...)
}

// register returns the collector that already has the name, if there is one.
func register[C prometheus.Collector](r prometheus.Registerer, errs *[]error, c C) C {
	err := r.Register(c)
	if dup, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := dup.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		*errs = append(*errs, err)
	}
	return c
}

// methods bounds the label.
var methods = map[string]bool{
	"INVITE": true, "ACK": true, "BYE": true, "CANCEL": true, "OPTIONS": true, "REGISTER": true, "INFO": true,
	"REFER": true, "NOTIFY": true, "UPDATE": true, "PRACK": true, "MESSAGE": true, "SUBSCRIBE": true, "PUBLISH": true,
}

func methodLabel(m string) string {
	if methods[m] {
		return m
	}
	return "other"
}

func (m *metrics) requested(method, result string) {
	m.requests.WithLabelValues(methodLabel(method), result).Inc()
}

func (m *metrics) responded(method string, code int) {
	m.responses.WithLabelValues(methodLabel(method), strconv.Itoa(code)).Inc()
}

func (m *metrics) dropped(reason string) { m.drops.WithLabelValues(reason).Inc() }
