package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	heartbeat     = 15 * time.Second
	slowReader    = 10 * time.Second // for one event to leave
	maxStreams    = 1000             // of all calls
	streamsOfCall = 8
)

// streams bounds the event streams that are open.
type streams struct {
	gauge prometheus.Gauge

	mu     sync.Mutex
	all    int
	ofCall map[*Feed]int
}

func newStreams(g prometheus.Gauge) *streams { return &streams{gauge: g, ofCall: map[*Feed]int{}} }

func (s *streams) begin(f *Feed) *PhoneError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ofCall[f] >= streamsOfCall {
		return &PhoneError{Status: http.StatusTooManyRequests, Code: CodeLimit, Retry: heartbeat, Reason: "the call is watched often enough: close another page"}
	}
	if s.all >= maxStreams {
		return &PhoneError{Status: http.StatusServiceUnavailable, Code: CodeFull, Retry: heartbeat, Reason: "too many calls are watched: try again later"}
	}
	s.all++
	s.ofCall[f]++
	s.gauge.Set(float64(s.all))
	return nil
}

func (s *streams) end(f *Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.ofCall[f]--; s.ofCall[f] == 0 {
		delete(s.ofCall, f)
	}
	s.gauge.Set(float64(s.all))
}

// events answers GET …/events with server-sent events, as the HTML standard
// defines them, until the call has ended. A reader who is too slow for them is
// cut off and comes back with the number of the last one that he got.
func (s *server) events(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // what is no number of ours begins anew
	feed := p.Feed()
	if feed.over(after) {
		w.WriteHeader(http.StatusNoContent) // tells browsers to stay away
		return nil
	}
	if err := s.streams.begin(feed); err != nil {
		return err
	}
	defer s.streams.end(feed)
	out := &stream{w: w, control: http.NewResponseController(w)}
	// The server would take its own deadlines for those of the whole stream, that
	// of reading too.
	_ = out.control.SetReadDeadline(time.Time{}) // not every connection has one
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // for proxies that would wait for more
	if r.Method == http.MethodHead {
		return nil
	}
	defer out.deadline() // for what the server writes at the end
	if out.write("retry: 1000\n\n") == nil {
		out.follow(r.Context(), feed, after)
	}
	return nil
}

// A stream is one reader of events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// write sends at once, and gives up on a reader who does not read. The deadline
// is taken back: that of an HTTP/2 stream ends it even when nothing is sent.
func (s *stream) write(text string) error {
	s.deadline()
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	err := s.control.Flush()
	_ = s.control.SetWriteDeadline(time.Time{}) // as above
	return err
}

// deadline bounds what is written from now on.
func (s *stream) deadline() {
	_ = s.control.SetWriteDeadline(time.Now().Add(slowReader)) // not every connection has one
}

// follow sends the events after one until the call ends, the reader goes, or he
// would miss events.
func (s *stream) follow(ctx context.Context, f *Feed, after uint64) {
	for begun := false; ; {
		quiet, cancel := context.WithTimeout(ctx, heartbeat)
		for e := range f.Watch(quiet, after) {
			if begun && e.ID != after+1 {
				cancel()
				return
			}
			err := s.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, e.Data))
			if begun, after = true, e.ID; err != nil || ended(e) {
				cancel()
				return
			}
		}
		over := quiet.Err() == nil // the feed ended, not the wait
		cancel()
		if over || ctx.Err() != nil || s.write(": here\n\n") != nil {
			return
		}
	}
}

// ended reports whether an event is the last one that browsers get.
func ended(e FeedEvent) bool {
	if e.Kind != "state" {
		return false
	}
	var d struct {
		State string `json:"state"`
	}
	return json.Unmarshal(e.Data, &d) == nil && d.State == "ended"
}
