package localflow

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Fault makes a turn go wrong. Faults come from the flow, from SetFaults, from
// the request header FaultHeader and from the variable FaultVariable; the first
// that fits a turn applies.
type Fault struct {
	// Turn is the number of the session's request, counted from 1 (the launch).
	// 0 means every turn.
	Turn int
	// User limits the fault to one session; empty: all.
	User string
	// Times is how often the fault applies; 0: always.
	Times int
	// Delay comes before the answer.
	Delay time.Duration
	// Gap comes between the events of a stream.
	Gap time.Duration
	// Status is the answer's; 0 leaves it.
	Status int
	// Body replaces the answer's; nil leaves it, unless Status is set: then there
	// is none.
	Body *string
	// Cut breaks the connection after so many bytes of the body; nil does not.
	Cut *int
	// RetryAfter is told with the answer; 0: not.
	RetryAfter time.Duration
	// Executed runs the turn although its answer is replaced or lost.
	Executed bool
}

// Where a request can ask for a fault, written as key=value pairs with spaces
// between: turn, times, delay, gap, status, body, cut, retry_after, executed. The body
// is the last and takes the rest.
const (
	FaultHeader   = "X-Localflow-Fault"
	FaultVariable = "localflow_fault"
)

// ParseFault reads the form of FaultHeader, such as "turn=2 delay=3s status=503".
func ParseFault(s string) (Fault, error) {
	var f Fault
	for rest := strings.TrimSpace(s); rest != ""; {
		var pair string
		if after, ok := strings.CutPrefix(rest, "body="); ok {
			body := after
			f.Body = &body
			return f, nil
		}
		pair, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		key, value, _ := strings.Cut(pair, "=")
		var err error
		switch key {
		case "turn":
			f.Turn, err = strconv.Atoi(value)
		case "times":
			f.Times, err = strconv.Atoi(value)
		case "status":
			f.Status, err = strconv.Atoi(value)
			if err == nil && (f.Status < 100 || f.Status > 599) {
				err = fmt.Errorf("%d is no status", f.Status)
			}
		case "delay":
			f.Delay, err = parseDuration(value)
		case "gap":
			f.Gap, err = parseDuration(value)
		case "retry_after":
			f.RetryAfter, err = parseDuration(value)
		case "executed":
			f.Executed, err = strconv.ParseBool(value)
		case "cut":
			var n int
			n, err = strconv.Atoi(value)
			f.Cut = &n
		default:
			err = fmt.Errorf("there is no key %q", key)
		}
		if err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", s, err)
		}
	}
	return f, nil
}

// applies reports whether f is meant for the turn number turn of user.
func (f *Fault) applies(user string, turn int) bool {
	return (f.Turn == 0 || f.Turn == turn) && (f.User == "" || f.User == user)
}

// replaces reports whether the answer is not the flow's.
func (f *Fault) replaces() bool { return f.Status != 0 || f.Body != nil }

// fault takes the fault for a turn: one asked for by the request, else the first
// of the list that still applies.
func (s *Server) fault(req *http.Request, user string, turn int, variables map[string]any) *Fault {
	asked := req.Header.Get(FaultHeader)
	if v, ok := variables[FaultVariable].(string); ok && asked == "" {
		asked = v
	}
	if asked != "" {
		f, err := ParseFault(asked)
		if err == nil && f.applies(user, turn) {
			return &f
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults {
		f := &s.faults[i]
		if !f.applies(user, turn) {
			continue
		}
		if f.Times > 0 {
			if f.used == f.Times {
				continue
			}
			f.used++
		}
		c := f.Fault
		return &c
	}
	return nil
}

// countedFault is a fault with how often it was used.
type countedFault struct {
	Fault
	used int
}

// SetFaults replaces all faults, those of the flow included.
func (s *Server) SetFaults(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	for _, f := range faults {
		s.faults = append(s.faults, countedFault{Fault: f})
	}
}

// spoil answers as f says in place of body.
func (s *Server) spoil(c *call, f *Fault, status int, contentType string, body []byte) {
	w := c.w
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	if f.Status != 0 {
		status, body = f.Status, nil
	}
	if f.Body != nil {
		body = []byte(*f.Body)
	}
	w.Header().Set("Content-Type", contentType)
	if f.Cut != nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
		body = body[:max(0, min(*f.Cut, len(body)))]
	}
	w.WriteHeader(status)
	for piece := range bytes.SplitAfterSeq(body, []byte("\n\n")) {
		_, _ = w.Write(piece) // the client may have gone
		if f.Gap > 0 {
			flush(w)
			s.hold(c.req.Context(), f.Gap)
		}
	}
	if f.Cut != nil {
		flush(w)
		panic(http.ErrAbortHandler) // the way that net/http offers to break a connection
	}
}

func flush(w http.ResponseWriter) {
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
}
