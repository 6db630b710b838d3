package asr

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr/wire"
)

const (
	maxReply    = 64 << 10 // bytes of one line
	workerGrace = time.Second
)

// A WorkerError is the death of the worker process that native engines run in.
// All streams that it served meet the same one.
type WorkerError struct {
	Cause string // what it wrote last, or how it ended

	counted atomic.Bool
}

// Error describes how the worker ended.
func (e *WorkerError) Error() string { return "worker ended: " + e.Cause }

// Counted is false for the first that asks: breakers count the fault once.
func (e *WorkerError) Counted() bool { return e.counted.Swap(true) }

// A workerProcess is a running worker.
type workerProcess struct {
	cmd    *exec.Cmd
	in     *os.File
	log    *zap.Logger
	done   chan struct{} // closed when it has ended
	stderr lastLine

	writing sync.Mutex
	frame   []byte

	mu      sync.Mutex
	streams map[uint32]*sphinxStream
	last    uint32
	ended   bool
}

// startWorker runs the program at path and waits until it is ready.
func startWorker(ctx context.Context, path string, args []string, log *zap.Logger) (*workerProcess, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	w := &workerProcess{
		cmd: exec.Command(path, args...), in: in, log: log, //nolint:gosec,noctx // the operator's program; it lives as long as the recogniser
		done: make(chan struct{}), streams: make(map[uint32]*sphinxStream),
	}
	w.cmd.Stdin, w.cmd.Stderr, w.cmd.WaitDelay = stdin, &w.stderr, workerGrace
	out, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	_ = stdin.Close()
	if err != nil {
		_ = in.Close()
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 0, 4<<10), maxReply)
	ready := make(chan wire.Reply, 1)
	go w.follow(lines, ready)
	select {
	case r := <-ready:
		switch {
		case r.Error != "":
			err = errors.New(r.Error)
		case r.Ready == "":
			w.end() // only then is all there that it has to say
			return nil, fmt.Errorf("%s is no worker: %s", path, w.stderr.String())
		default:
			return w, nil
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	w.end()
	return nil, err
}

// follow hands replies to their streams until the process has ended.
func (w *workerProcess) follow(lines *bufio.Scanner, ready chan<- wire.Reply) {
	defer close(w.done)
	begun := false
	for lines.Scan() {
		var r wire.Reply
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			w.log.Warn("worker writes what is no reply", zap.Error(err))
			continue
		}
		if !begun {
			begun = true
			ready <- r
			continue
		}
		w.mu.Lock()
		s := w.streams[r.Stream]
		w.mu.Unlock()
		if s != nil {
			s.hear(r)
		}
	}
	if !begun {
		close(ready)
	}
	if lines.Err() != nil {
		_ = w.cmd.Process.Kill()
	}
	err := w.cmd.Wait()
	cause := &WorkerError{Cause: w.stderr.String()}
	if err != nil {
		cause.Cause = strings.TrimSpace(err.Error() + " " + cause.Cause)
	}
	_ = w.in.Close()
	w.mu.Lock()
	asked := w.ended
	w.ended = true
	streams := make([]*sphinxStream, 0, len(w.streams))
	for _, s := range w.streams {
		streams = append(streams, s)
	}
	w.mu.Unlock()
	if !asked {
		w.log.Error("worker ended", zap.Error(cause), zap.Int("streams", len(streams)))
	}
	for _, s := range streams {
		s.lost(cause)
	}
}

func (w *workerProcess) alive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.ended
}

// join gives s a number.
func (w *workerProcess) join(s *sphinxStream) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	w.streams[w.last] = s
	return w.last
}

// leave forgets stream id.
func (w *workerProcess) leave(id uint32) {
	w.mu.Lock()
	_, here := w.streams[id]
	delete(w.streams, id)
	w.mu.Unlock()
	if here {
		_ = w.send(wire.Frame{Kind: wire.Close, Stream: id})
	}
}

func (w *workerProcess) send(f wire.Frame) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	b, err := wire.Append(w.frame[:0], f)
	if err != nil {
		return err
	}
	w.frame = b
	return w.write(b)
}

func (w *workerProcess) utterance(kind wire.Kind, stream uint32, u wire.Utterance) error {
	b, err := wire.AppendJSON(nil, kind, stream, u)
	if err != nil {
		return err
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.write(b)
}

// write sends whole frames. A worker that does not read is killed: what it has
// half read cannot be taken back.
func (w *workerProcess) write(b []byte) error {
	_ = w.in.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := w.in.Write(b); err != nil {
		_ = w.cmd.Process.Kill()
		return fmt.Errorf("write to worker: %w", err)
	}
	return nil
}

// end closes the worker's input, and kills it where that does not suffice.
func (w *workerProcess) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	_ = w.in.Close()
	select {
	case <-w.done:
	case <-time.After(workerGrace):
		_ = w.cmd.Process.Kill()
		<-w.done
	}
}

// A lastLine keeps the end of what a process writes.
type lastLine struct {
	mu sync.Mutex
	b  []byte
}

const lastLineMost = 2 << 10

// Write implements io.Writer.
func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, b...)
	if len(l.b) > lastLineMost {
		l.b = append(l.b[:0], l.b[len(l.b)-lastLineMost:]...)
	}
	return len(b), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(l.b)), "\n")
	return lines[len(lines)-1]
}
