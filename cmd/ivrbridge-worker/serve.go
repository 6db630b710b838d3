package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr/wire"
	"github.com/ivrbridge/ivrbridge/internal/guard"
)

// queued is how many frames of one stream may wait for its decoder: more than an
// utterance that is replayed at once.
const queued = 256

// A worker serves streams that share one input and one output. Each has a
// goroutine of its own.
type worker struct {
	engine    *sphinx
	log       *zap.Logger
	threshold float64
	cores     chan struct{} // limits decoding to as many as there are cores

	mu  sync.Mutex // output
	out *bufio.Writer

	streams map[uint32]chan wire.Frame
	work    sync.WaitGroup
}

// serve reads frames until the input ends.
func (w *worker) serve(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.work.Wait()
	defer cancel()
	defer func() {
		for _, c := range w.streams {
			close(c)
		}
	}()
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		f, err := wire.Read(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		c, ok := w.streams[f.Stream]
		switch {
		case f.Kind == wire.Close:
			if ok {
				close(c)
				delete(w.streams, f.Stream)
			}
			continue
		case !ok:
			c = make(chan wire.Frame, queued)
			w.streams[f.Stream] = c
			w.work.Go(func() { w.stream(ctx, f.Stream, c) })
		}
		if f.Kind == wire.Sound {
			// A decoder that does not keep up loses sound, not the other streams' time.
			select {
			case c <- f:
			default:
				w.log.Warn("decoder too slow", zap.Uint32("stream", f.Stream))
			}
			continue
		}
		select {
		case c <- f:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *worker) reply(r wire.Reply) {
	b, err := json.Marshal(r)
	if err != nil {
		w.log.Error("cannot encode reply", zap.Error(err))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.out.Write(append(b, '\n'))
	if err := w.out.Flush(); err != nil {
		w.log.Debug("nobody reads", zap.Error(err))
	}
}

// stream hears the utterances of one stream.
func (w *worker) stream(ctx context.Context, id uint32, frames <-chan wire.Frame) {
	var h *hearing
	defer func() {
		if h != nil {
			h.close()
		}
	}()
	for f := range frames {
		var replies []wire.Reply
		failed := guard.Run(w.log, "stream", func() { h, replies = w.obey(ctx, h, f) })
		if failed != nil && h != nil {
			replies = append(replies, wire.Reply{Utterance: h.id, Final: true, Error: failed.Error()})
			h.close()
			h = nil
		}
		for _, r := range replies {
			r.Stream = id
			w.reply(r)
		}
	}
}

// obey acts on one frame and returns what is heard from then on.
func (w *worker) obey(ctx context.Context, h *hearing, f wire.Frame) (*hearing, []wire.Reply) {
	if f.Kind == wire.Sound {
		if h == nil {
			return nil, nil
		}
		w.cores <- struct{}{}
		partial, err := h.write(f.Payload)
		<-w.cores
		switch {
		case err != nil:
			return w.fail(h, err)
		case partial != "":
			return h, []wire.Reply{{Utterance: h.id, Text: partial}}
		}
		return h, nil
	}
	u, err := f.Utterance()
	if err != nil {
		return w.fail(h, err)
	}
	if f.Kind == wire.Begin {
		if h != nil {
			h.close()
		}
		w.cores <- struct{}{}
		next, err := w.engine.listen(ctx, u, w.threshold)
		<-w.cores
		if err != nil {
			return w.fail(&hearing{id: u.ID}, err)
		}
		return next, nil
	}
	if h == nil || h.id != u.ID {
		return h, nil
	}
	r, err := h.final()
	if err != nil {
		return w.fail(h, err)
	}
	h.close()
	return nil, []wire.Reply{r}
}

func (w *worker) fail(h *hearing, err error) (*hearing, []wire.Reply) {
	if h == nil {
		w.log.Warn("frame refused", zap.Error(err))
		return nil, nil
	}
	h.close()
	return nil, []wire.Reply{{Utterance: h.id, Final: true, Error: err.Error()}}
}
