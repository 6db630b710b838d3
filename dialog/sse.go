package dialog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"
)

// Reasons to give up a stream.
var (
	errNoEvents   = errors.New("the answer is no stream of events")
	errUnreadable = errors.New("no trace of the answer can be read")
)

// The names of events.
const (
	eventTrace = "trace"
	eventState = "state"
	eventEnd   = "end"
	eventError = "error"
)

// readEvents is the reader of an answer that comes as events. It returns at the
// end event, without waiting for the connection's end. A trace that cannot be
// read is passed over: the next event begins afresh. The state comes after all
// traces, so that a stream which breaks behind it is complete.
func readEvents(a *answer, each func(Trace) error) error {
	in := events{r: bufio.NewReader(&capped{r: a.body, left: maxTurnBytes})}
	received, spoilt, complete := 0, 0, false
	for {
		ev, err := in.next()
		if err != nil {
			switch {
			case complete:
				return nil
			case errors.Is(err, io.EOF) && !in.any:
				return errNoEvents
			}
			return readError(err)
		}
		switch ev.name {
		case eventTrace:
			t, ok := ev.trace()
			if !ok {
				spoilt++
				if in.failed != nil {
					continue // half of one
				}
				a.log.Warn("trace cannot be read", zap.Int("bytes", len(ev.data)))
				continue
			}
			if !isContent(t) {
				received++
			}
			if received > maxTraces {
				return errTooManyTrace
			}
			if err := each(t); err != nil {
				return &eachError{err}
			}
		case eventState:
			complete = complete || members(sanitised(ev.data)) != nil
		case eventError:
			return fmt.Errorf("the turn failed: %s", errorText(sanitised(ev.data)))
		case eventEnd:
			if received == 0 && spoilt > 0 {
				return errUnreadable
			}
			return nil
		}
	}
}

// isContent reports whether t is a piece of a message, of which there may be any
// number: the length of the answer bounds them.
func isContent(t Trace) bool {
	switch t.Type {
	case "completion-continue":
		return true
	case "completion", "audio":
		return members(t.Payload).str("state") == stateContent
	}
	return false
}

// event is one event of a stream (Server-sent events, HTML Living Standard 9.2).
type event struct {
	name string
	data string
	// loose is the data with the lines between that belong to nothing: the rest of
	// a string that a raw line break cut.
	loose string
}

// trace reads the trace of an event, which the oldest streams wrap in an object.
func (e *event) trace() (Trace, bool) {
	var t Trace
	for _, data := range []string{e.data, e.loose} {
		raw := bytes.TrimSpace(sanitised(data))
		if len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) {
			continue
		}
		o := members(raw)
		if inner := bytes.TrimSpace(o["trace"]); o.str("type") == eventTrace && len(inner) > 0 && inner[0] == '{' {
			raw = inner
		}
		if t.UnmarshalJSON(raw) == nil {
			return t, true
		}
	}
	return t, false
}

// events reads a stream as browsers do, with three differences: an event without
// data counts, lines of no field are kept for event.loose, and neither the end
// event nor what precedes the end of the stream needs its blank line.
type events struct {
	r       *bufio.Reader
	any     bool  // an event was seen
	begun   bool  // behind the byte order mark
	afterCR bool  // a line feed that follows belongs to the last line's end
	failed  error // of the connection, once what came before it was dealt with
}

// next returns the next event that has a name. At the end of a stream it is
// io.EOF.
func (in *events) next() (event, error) {
	var ev event
	var data, loose strings.Builder
	fields := 0
	for in.failed == nil {
		line, whole, err := in.line()
		in.failed = err
		if errors.Is(err, errTraceTooLong) || data.Len()+loose.Len() > 2*maxTraceBytes {
			return event{}, errTraceTooLong
		}
		if !whole && !errors.Is(err, io.EOF) {
			break // half a line says nothing
		}
		if line == "" && whole {
			if ev.name != "" {
				break
			}
			data.Reset()
			loose.Reset()
			fields = 0
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			ev.name = strings.TrimSpace(value)
			if ev.name == eventEnd {
				in.any = true
				return ev, nil // nothing that follows matters, not even the blank line
			}
		case "data":
			if fields > 0 {
				data.WriteByte('\n')
				loose.WriteByte('\n')
			}
			fields++
			data.WriteString(value)
			loose.WriteString(value)
		case "", "id", "retry": // comments, and what is for taking a stream up again
		default:
			if fields > 0 {
				loose.WriteString(" " + line)
			}
		}
	}
	if ev.name == "" {
		return event{}, in.failed
	}
	ev.data, ev.loose = data.String(), loose.String()
	in.any = true
	return ev, nil
}

// line returns the next line without its end, which is CR LF, LF or CR. Whole is
// false for what precedes an error.
func (in *events) line() (line string, whole bool, err error) {
	var b []byte
	for {
		if _, err := in.r.Peek(1); err != nil {
			return in.text(b), false, err
		}
		chunk, _ := in.r.Peek(in.r.Buffered())
		if in.afterCR {
			in.afterCR = false
			if chunk[0] == '\n' {
				_, _ = in.r.Discard(1) // it is there
				continue
			}
		}
		end := bytes.IndexAny(chunk, "\r\n")
		if end < 0 {
			b = append(b, chunk...)
			_, _ = in.r.Discard(len(chunk)) // it is there
		} else {
			b = append(b, chunk[:end]...)
			in.afterCR = chunk[end] == '\r'
			_, _ = in.r.Discard(end + 1) // it is there
		}
		if len(b) > maxTraceBytes {
			return "", false, errTraceTooLong
		}
		if end >= 0 {
			return in.text(b), true, nil
		}
	}
}

// text takes the byte order mark off the first line.
func (in *events) text(b []byte) string {
	if !in.begun {
		in.begun = true
		b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
	}
	return string(b)
}
