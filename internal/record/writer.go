package record

import (
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

// run writes until the file is closed and nothing waits. One timer serves the
// next try after a failure and the next sync.
func (f *File) run() {
	defer close(f.done)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	closing, armed := f.closing, false
	for {
		wake := f.wake
		switch f.drain(); {
		case f.failing:
			wake = nil // the next record does not make room on the disk
			timer.Reset(f.config.Retry)
		case closing == nil:
			f.finish()
			return
		case f.unsynced && f.config.Sync == 0:
			f.sync()
		case f.unsynced && f.config.Sync > 0 && !armed:
			armed = true
			timer.Reset(f.config.Sync)
		}
		select {
		case <-wake:
		case <-closing:
			closing = nil
		case <-f.abort:
			f.finish()
			return
		case <-timer.C:
			armed = false
			if !f.failing && f.config.Sync > 0 {
				f.sync()
			}
		}
	}
}

// drain writes what waits, up to the first failure.
func (f *File) drain() {
	for {
		line := f.next()
		if line == nil {
			return
		}
		if err := f.append(line); err != nil {
			f.failed.Inc()
			if !f.failing {
				f.failing = true
				f.config.Log.Error("call records cannot be written, keeping them in memory",
					zap.String("path", f.config.Path), zap.Error(err))
			}
			return
		}
		f.unsynced = true
		f.taken()
		if f.failing {
			f.failing = false
			f.config.Log.Info("call records are written again", zap.Int("backlog", f.Backlog()))
		}
	}
}

// next returns the line to write: the one that failed last, else the oldest that
// waits. It stays counted until taken.
func (f *File) next() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil && len(f.queue) > 0 {
		f.pending, f.queue[0] = f.queue[0], nil
		f.queue = f.queue[1:]
	}
	return f.pending
}

// taken forgets the line that was written.
func (f *File) taken() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = nil
	f.backlog.Set(float64(len(f.queue)))
}

// append writes one line with one write. A torn line is cut off again, or at
// least ended, so that the next one begins on a line of its own.
func (f *File) append(line []byte) error {
	if f.file == nil {
		if err := f.reopen(); err != nil {
			return err
		}
	}
	if f.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.file.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err == nil {
		f.size += int64(n)
		f.torn = false
		return nil
	}
	if n > 0 && f.file.Truncate(f.size) != nil {
		f.size += int64(n)
		f.torn = true
	}
	_ = f.file.Close() // the next try opens anew: a disk may have been mounted again
	f.file = nil
	return err
}

// sync asks for what is written to reach the disk.
func (f *File) sync() {
	if f.file == nil || !f.unsynced {
		return
	}
	f.unsynced = false
	if err := f.file.Sync(); err != nil {
		f.failed.Inc()
		f.config.Log.Warn("call records not synced", zap.String("path", f.config.Path), zap.Error(err))
	}
}

// finish leaves nothing open.
func (f *File) finish() {
	if f.config.Sync >= 0 {
		f.sync()
	}
	if f.file != nil {
		if err := f.file.Close(); err != nil {
			f.config.Log.Warn("close call records", zap.String("path", f.config.Path), zap.Error(err))
		}
		f.file = nil
	}
}

// reopen opens the file and looks whether its last line is whole.
func (f *File) reopen() error {
	file, size, torn, err := f.config.open(f.config.Path)
	if err != nil {
		return err
	}
	f.file, f.size, f.torn = file, size, torn
	return nil
}

// openDisk opens path for appending.
func openDisk(path string) (d disk, size int64, torn bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, 0, false, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, false, err
	}
	if !info.Mode().IsRegular() {
		return file, 0, false, nil // a pipe or a device has no last line
	}
	if size = info.Size(); size > 0 {
		var last [1]byte
		if _, err = file.ReadAt(last[:], size-1); err != nil {
			return nil, 0, false, fmt.Errorf("read the last line: %w", err)
		}
		torn = last[0] != '\n'
	}
	return file, size, torn, nil
}
