package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An entry is one line of a program's log: the keys and values of a JSON line,
// none for any other.
type entry struct {
	text string
	keys map[string]any
}

func (e entry) message() string { s, _ := e.keys["msg"].(string); return s }

func (e entry) value(key string) string {
	if v, ok := e.keys[key]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// A journal takes what a program writes, line by line.
type journal struct {
	mu   sync.Mutex
	part []byte
	all  []entry
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.part = append(j.part, p...)
	for {
		line, rest, ok := bytes.Cut(j.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		e := entry{text: string(line)}
		_ = json.Unmarshal(line, &e.keys) // a banner is no JSON
		j.all = append(j.all, e)
		j.part = rest
	}
}

func (j *journal) entries() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.all)
}

func (j *journal) String() string {
	var b strings.Builder
	for _, e := range j.entries() {
		b.WriteString(e.text)
		b.WriteByte('\n')
	}
	return b.String()
}

// find lists the lines with a message.
func (j *journal) find(message string) []entry {
	var out []entry
	for _, e := range j.entries() {
		if e.message() == message {
			out = append(out, e)
		}
	}
	return out
}

// await waits for the first line with a message.
func (j *journal) await(t *testing.T, within time.Duration, message string) entry {
	t.Helper()
	await(t, within, "log line "+message, func() bool { return len(j.find(message)) > 0 })
	return j.find(message)[0]
}

// await waits until a condition holds. The time is only a bound: the machine may
// be slow.
func await(t *testing.T, within time.Duration, what string, met func() bool) {
	t.Helper()
	if !eventually(t, within, met) {
		require.FailNow(t, "did not happen: "+what, "within %s", within)
	}
}

func eventually(t *testing.T, within time.Duration, met func() bool) bool {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-limit.C:
			return met()
		}
	}
	return true
}
