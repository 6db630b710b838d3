package tts

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/guard"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// ErrStalled is why a prompt ends that its engine stopped delivering.
var ErrStalled = errors.New("tts: synthesiser stalled")

// errClosed is why nothing is rendered any more.
var errClosed = fmt.Errorf("tts: cache is closed: %w", context.Canceled)

// defaultStall is how long an engine may deliver nothing.
const defaultStall = 10 * time.Second

// A Cache renders prompts into clips that any number of calls play at a time,
// and keeps them. It is safe for concurrent use.
type Cache struct {
	// Stall is how long a synthesiser may go without progress before its clip
	// is closed with [ErrStalled]; 0 for 10 s. It is set before the first use.
	Stall time.Duration

	max  int64
	law  pcm.Law
	work sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	prompts map[cacheKey]*prompt
	recent  *list.List // of finished *prompt, the last used in front
	bytes   int64
	stats   CacheStats
}

// CacheStats describes what a cache holds and how well it serves.
type CacheStats struct {
	Clips   int    // finished and growing
	Bytes   int64  // held by the finished
	Hits    uint64 // requests for a clip that was there or under way
	Misses  uint64 // renderings begun
	Failed  uint64 // renderings that failed
	Evicted uint64
}

// cacheKey is everything that the sound depends on.
type cacheKey struct {
	engine  string
	request Request
}

type prompt struct {
	key  cacheKey
	clip *pcm.Clip
	stop context.CancelCauseFunc // ends its rendering
	size int64
	lent bool          // spoken by a substitute: not kept
	at   *list.Element // in recent; nil while it grows
}

// NewCache makes a cache that keeps up to maxBytes of sound, encoded in law.
func NewCache(maxBytes int64, law pcm.Law) *Cache {
	return &Cache{max: maxBytes, law: law, prompts: make(map[cacheKey]*prompt), recent: list.New()}
}

// Clip returns the sound of r as spoken by s, at the level and rate of the
// line. It returns at once: the clip grows while s renders, and closes with an
// error where that fails; see Clip.Ready and Clip.Err. Calls that ask for the
// same prompt share the clip. The rendering goes on when ctx ends, because others may
// wait for it. What failed is not kept.
func (c *Cache) Clip(ctx context.Context, s Synthesizer, r Request) *pcm.Clip {
	key := cacheKey{s.Key(), r}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.prompts[key]; ok && (p.at != nil || !p.clip.Closed() || p.clip.Err() == nil) {
		c.stats.Hits++
		if p.at != nil {
			c.recent.MoveToFront(p.at)
		}
		return p.clip
	}
	c.stats.Misses++
	p := &prompt{key: key, clip: pcm.NewClip(c.law)}
	if c.closed {
		p.clip.Close(errClosed)
		return p.clip
	}
	c.prompts[key] = p
	var own context.Context
	own, p.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	c.work.Go(func() {
		defer p.stop(nil)
		c.settle(p, c.render(own, s, r, p))
	})
	return p.clip
}

// Stats describes the cache now.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Clips, st.Bytes = len(c.prompts), c.bytes
	return st
}

// Close ends renderings that are under way and waits for their synthesisers.
// Clips that were handed out stay playable.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	for _, p := range c.prompts {
		p.stop(errClosed)
	}
	c.mu.Unlock()
	c.work.Wait()
}

// render fills the clip of p. It returns when s has, which may be after the clip
// was closed because s delivers nothing.
func (c *Cache) render(ctx context.Context, s Synthesizer, r Request, p *prompt) (err error) {
	clip := p.clip
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("render prompt: %w", &guard.PanicError{Value: v})
		}
		clip.Close(err)
	}()
	defer context.AfterFunc(ctx, func() { clip.Close(fmt.Errorf("render prompt: %w", context.Cause(ctx))) })()
	limit := c.Stall
	if limit <= 0 {
		limit = defaultStall
	}
	stall := time.AfterFunc(limit, func() { p.stop(ErrStalled) })
	defer stall.Stop()

	audio, err := s.Synthesize(ctx, r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("render prompt: %w", err)
	}
	defer func() { _ = audio.Close() }()
	_, p.lent = audio.(substitute)
	watched := &watched{Audio: audio, progress: func() { stall.Reset(limit) }}
	return pcm.Fill(ctx, clip, pcm.Normalise(pcm.Resample(watched, pcm.Rate), pcm.SpeechLevel))
}

// watched tells of each read that brought sound, and ends what never ends.
type watched struct {
	Audio
	progress func()
	seconds  float64
}

func (w *watched) Read(p []int16) (int, error) {
	n, err := w.Audio.Read(p)
	if n > 0 {
		w.progress()
		w.seconds += float64(n) / float64(w.SampleRate())
	}
	if w.seconds > maxSpoken.Seconds() {
		return n, fmt.Errorf("%w: prompt longer than %v", pcm.ErrLimit, maxSpoken)
	}
	return n, err
}

// settle keeps a clip that is whole, and makes room for it.
func (c *Cache) settle(p *prompt, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = p.clip.Err()
	}
	p.size = int64(p.clip.Size())
	if err != nil || p.lent || p.size > c.max {
		if err != nil {
			c.stats.Failed++
		}
		if c.prompts[p.key] == p {
			delete(c.prompts, p.key)
		}
		return
	}
	if c.prompts[p.key] != p {
		return
	}
	p.at = c.recent.PushFront(p)
	c.bytes += p.size
	for c.bytes > c.max {
		old := c.recent.Remove(c.recent.Back()).(*prompt) //nolint:forcetypeassert // recent holds nothing else
		delete(c.prompts, old.key)
		c.bytes -= old.size
		c.stats.Evicted++
	}
}
