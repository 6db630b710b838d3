package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// ErrClosed is returned for records that come after Close.
var ErrClosed = errors.New("record: file is closed")

// FileConfig says where records are written and how hard.
type FileConfig struct {
	Path    string
	Sync    time.Duration         // longest time before a record is on the disk; 0: each at once; negative: never asked for
	Backlog int                   // records kept while the disk is full; 0: 10000. The oldest are dropped beyond it
	Retry   time.Duration         // pause after a failed write; 0: 1 s
	Log     *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none

	open func(path string) (d disk, size int64, torn bool, err error) // tests
}

// A disk is the part of *os.File that is used.
type disk interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// A File writes records as lines of JSON, each with one write, so that a crash
// tears at most the last. It goes on when the disk is full: records wait in
// memory and are written when there is room again. It is safe for concurrent
// use.
type File struct {
	config  FileConfig
	wake    chan struct{} // doorbell
	closing chan struct{} // closed by Close
	abort   chan struct{} // closed when Close waits no longer
	done    chan struct{} // closed by run

	backlog prometheus.Gauge
	failed  prometheus.Counter
	dropped prometheus.Counter

	mu      sync.Mutex
	queue   [][]byte // lines that wait
	pending []byte   // the line that is being written
	closed  bool
	aborted bool

	// Owned by run.
	file     disk
	size     int64
	torn     bool // the last line has no end
	unsynced bool
	failing  bool
}

// OpenFile opens the file, creating it with permission for its owner alone, and
// starts the goroutine that writes. Close ends it.
func OpenFile(c FileConfig) (*File, error) {
	if c.Backlog <= 0 {
		c.Backlog = 10_000
	}
	if c.Retry <= 0 {
		c.Retry = time.Second
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.open == nil {
		c.open = openDisk
	}
	f := &File{
		config: c, wake: make(chan struct{}, 1), closing: make(chan struct{}), abort: make(chan struct{}), done: make(chan struct{}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ivrbridge_journal_backlog", Help: "Call records that wait for the disk.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ivrbridge_journal_errors_total", Help: "Writes of call records that failed and are tried again.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ivrbridge_journal_dropped_total", Help: "Call records lost because the disk was full for too long.",
		}),
	}
	if c.Metrics != nil {
		for _, m := range []prometheus.Collector{f.backlog, f.failed, f.dropped} {
			if err := c.Metrics.Register(m); err != nil {
				return nil, fmt.Errorf("register record metrics: %w", err)
			}
		}
	}
	if err := f.reopen(); err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	go f.run()
	return f, nil
}

// Write queues a record and returns at once; it is on its way to the disk
// without delay. The only errors are ErrClosed and a record that is no JSON.
func (f *File) Write(r *Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", r.ID, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.queue = append(f.queue, append(line, '\n'))
	if len(f.queue) > f.config.Backlog {
		f.queue[0] = nil
		f.queue = f.queue[1:]
		f.dropped.Inc()
		f.config.Log.Error("call record lost, disk full for too long", zap.Int("backlog", f.config.Backlog))
	}
	f.backlog.Set(float64(len(f.queue)))
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return nil
}

// Backlog returns how many records wait for the disk.
func (f *File) Backlog() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending != nil {
		return len(f.queue) + 1
	}
	return len(f.queue)
}

// Close writes what waits, trying until ctx ends, and closes the file. The error
// says how many records were lost. It is idempotent.
func (f *File) Close(ctx context.Context) error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.closing)
	}
	f.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		f.giveUp()
		return fmt.Errorf("close records, %d lost: %w", f.Backlog(), context.Cause(ctx))
	}
	if n := f.Backlog(); n > 0 {
		return fmt.Errorf("close records: %d lost", n)
	}
	return nil
}

// giveUp ends run although records wait. It does not wait for it: a write may
// hang.
func (f *File) giveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.aborted {
		f.aborted = true
		close(f.abort)
	}
}
