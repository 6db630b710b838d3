package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// codes are the labels of refusals; what a Phone invents is counted as other.
var codes = map[string]bool{
	CodeBadOffer: true, CodeBadRequest: true, CodeNoAgent: true, CodeToken: true, CodeOrigin: true, CodeLimit: true,
	CodeFull: true, CodeDraining: true, CodeUnreachable: true, CodeGone: true, CodeSignin: true,
}

// metrics are those of browsers' requests.
type metrics struct {
	refused *prometheus.CounterVec
	streams prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, log *zap.Logger) metrics {
	m := metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ivrbridge_http_refused_total", Help: "Requests of browsers that were refused, by code.",
		}, []string{"why"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ivrbridge_http_event_streams", Help: "Event streams that browsers have open.",
		}),
	}
	if r == nil {
		return m
	}
	if err := errors.Join(r.Register(m.refused), r.Register(m.streams)); err != nil {
		log.Warn("metrics of browsers' requests are not shown", zap.Error(err))
	}
	return m
}

// A handler answers a request, or returns a *[PhoneError], or an error that
// only the log gets to know.
type handler func(http.ResponseWriter, *http.Request) error

// browser bounds a browser's request and answers its failure. Paths below
// /api/v1/rtc have keys in them and are never logged, their patterns are.
func (s *server) browser(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint,err113 // as net/http compares it
				panic(p)
			} else if p != nil {
				s.Log.Error("browser request panicked", zap.String("pattern", r.Pattern), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				refuse(w, &PhoneError{Status: http.StatusInternalServerError, Reason: "this did not work, the log says why"})
			}
		}()
		r.Body = http.MaxBytesReader(w, r.Body, maxPhoneBody)
		err := h(w, r)
		if err == nil {
			return
		}
		p, ok := errors.AsType[*PhoneError](err)
		if !ok {
			if r.Context().Err() == nil {
				s.Log.Error("browser request failed", zap.String("pattern", r.Pattern), zap.Error(err))
			}
			refuse(w, &PhoneError{Status: http.StatusInternalServerError, Reason: "this did not work, the log says why"})
			return
		}
		why := p.Code
		if !codes[why] {
			why = "other"
		}
		s.metrics.refused.WithLabelValues(why).Inc()
		s.Log.Info("browser request refused", zap.String("pattern", r.Pattern), zap.String("code", p.Code), zap.Int("status", p.Status),
			zap.String("reason", p.Reason), zap.Stringer("peer", s.front.client(r).addr), zap.String("origin", clip(origin(r), 200)))
		refuse(w, p)
	}
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, p *PhoneError) {
	body := map[string]string{"error": p.Reason}
	if p.Code != "" {
		body["code"] = p.Code
	}
	if p.https != "" {
		body["https"] = p.https
	}
	if p.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.Retry.Seconds()))))
	}
	status := p.Status
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	answer(w, status, body)
}

func tooMany(wait time.Duration, what string) *PhoneError {
	return &PhoneError{Status: http.StatusTooManyRequests, Code: CodeLimit, Retry: wait, Reason: what + " from this address: wait a moment and try again"}
}

func bad(code, format string, args ...any) *PhoneError {
	return &PhoneError{Status: http.StatusBadRequest, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// decode reads a JSON object with known keys alone. code is that of its
// refusals.
func decode(r *http.Request, into any, code string) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &PhoneError{Status: http.StatusUnsupportedMediaType, Code: code, Reason: "send the body as Content-Type: application/json"}
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	var raw json.RawMessage
	err := dec.Decode(&raw)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = more
			if more == nil {
				err = errors.New("there is more than one value")
			}
		}
	}
	if err == nil && (len(raw) == 0 || raw[0] != '{') {
		err = errors.New("it is another value")
	}
	if err == nil {
		err = strict(raw, into)
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &PhoneError{Status: http.StatusRequestEntityTooLarge, Code: code, Reason: fmt.Sprintf("the body is longer than %d bytes: send a shorter one", large.Limit)}
	}
	if err != nil {
		return bad(code, "the body is no such JSON object: %s", clip(strings.TrimPrefix(err.Error(), "json: "), 200))
	}
	return nil
}

// strict decodes and refuses unknown keys.
func strict(raw []byte, into any) error {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// clip cuts what others wrote to a length for logs and answers.
func clip(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
