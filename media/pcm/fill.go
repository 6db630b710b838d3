package pcm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
)

// ErrPanic is wrapped by the error of [Fill] when the source panicked.
var ErrPanic = errors.New("pcm: source panicked")

const (
	fillSamples  = 800 // 100 ms at a time
	fruitlessMax = 100 // empty reads in a row that are not yet a fault
)

// Fill reads src to its end into c and closes c: with nil after io.EOF,
// otherwise with the error that it returns. It is the only caller of
// src.Read, blocks as long as that does, and turns a panic of src into an
// error. When ctx ends, c is closed with the context's cause at once, also
// while src.Read hangs; Fill then returns after that call. It does not close src.
func Fill(ctx context.Context, c *Clip, src Source) (err error) {
	stop := context.AfterFunc(ctx, func() { c.Close(context.Cause(ctx)) })
	defer stop()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
		c.Close(err)
	}()
	buf := make([]int16, fillSamples)
	fruitless := 0
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := src.Read(buf)
		if n > 0 {
			fruitless = 0
			if failed := c.Append(buf[:n]); failed != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return fmt.Errorf("fill clip: %w", failed)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("fill clip: %w", err)
		case n == 0:
			if fruitless++; fruitless >= fruitlessMax {
				return fmt.Errorf("fill clip: %w", io.ErrNoProgress)
			}
		}
	}
}
