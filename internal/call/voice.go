package call

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/fetch"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

// Limits of audio that an agent names.
var soundLimits = pcm.Limits{MaxInput: 10 << 20, MaxOutput: 5 * time.Minute}

// A Voice is what an agent sounds like: its synthesiser, the sounds that its
// traces name, and the bridge's own sentences. It is shared by all calls of the
// agent.
type Voice struct {
	Synth   tts.Synthesizer
	Cache   *tts.Cache
	Fetch   *fetch.Fetcher
	Prompts *Prompts
}

// Prompts are the bridge's own sentences. They are rendered at start and may be
// rendered again; calls take what is there. It is safe for concurrent use.
type Prompts struct {
	mu    sync.RWMutex
	clips map[machine.Prompt]*pcm.Clip
}

// Set replaces a sentence.
func (p *Prompts) Set(name machine.Prompt, c *pcm.Clip) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clips == nil {
		p.clips = map[machine.Prompt]*pcm.Clip{}
	}
	p.clips[name] = c
}

// Get returns a sentence, nil when it was never set.
func (p *Prompts) Get(name machine.Prompt) *pcm.Clip {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.clips[name]
}

// SSML reports whether the synthesiser takes SSML.
func (v *Voice) SSML() bool { return v.Synth.SSML() }

// clip returns the sound of an item, at once: it grows while it is made.
func (c *Call) clip(ctx context.Context, it machine.Item) *pcm.Clip {
	v := c.conf.Voice
	ctx = context.WithoutCancel(ctx) // other calls may want it, too
	if it.Prompt != "" {
		if clip := v.Prompts.Get(it.Prompt); clip != nil {
			return clip
		}
	}
	words := tts.Request{Text: it.Text, SSML: it.SSML, Voice: or(it.Voice, c.voice), Language: c.language}
	if it.Src == "" {
		return v.Cache.Clip(ctx, v.Synth, words)
	}
	sum := sha256.Sum256([]byte(it.Src))
	named := sound{src: it.Src, key: hex.EncodeToString(sum[:]), fetch: v.Fetch}
	if it.Text != "" {
		named.synth, named.words = v.Synth, words
	}
	return v.Cache.Clip(ctx, named, tts.Request{Text: named.key})
}

// A sound is one piece of audio that the agent names, as a synthesiser of that
// one thing, so that it is made, levelled and cached like speech. Where it is
// speech that came rendered and cannot be had, the words are spoken instead.
type sound struct {
	src, key string
	fetch    *fetch.Fetcher
	synth    tts.Synthesizer
	words    tts.Request
}

// Key implements tts.Synthesizer.
func (s sound) Key() string { return "sound" }

// SSML implements tts.Synthesizer.
func (s sound) SSML() bool { return false }

// Synthesize implements tts.Synthesizer.
func (s sound) Synthesize(ctx context.Context, _ tts.Request) (tts.Audio, error) {
	body, err := s.fetch.Get(ctx, s.src)
	if err == nil {
		var a pcm.Audio
		if a, err = pcm.Open(bytes.NewReader(body.Data), soundLimits); err == nil {
			return a, nil
		}
	}
	if s.synth != nil {
		return s.synth.Synthesize(ctx, s.words)
	}
	return nil, fmt.Errorf("get audio: %w", err)
}

// Music returns what a caller hears while somebody else is called: two soft
// notes and a pause, for a loop.
func Music() *pcm.Clip {
	const span = 4 * pcm.Rate
	out := make([]int16, span)
	for _, n := range []struct {
		hz float64
		at int
	}{{392, 0}, {493.88, pcm.Rate / 2}, {587.33, pcm.Rate}, {493.88, 3 * pcm.Rate / 2}} {
		for i := range pcm.Rate {
			if n.at+i >= span {
				break
			}
			t := float64(i) / pcm.Rate
			env := math.Min(1, t/0.02) * math.Exp(-3*t)
			out[n.at+i] += int16(2400 * env * math.Sin(2*math.Pi*n.hz*t))
		}
	}
	c := pcm.NewClip(pcm.Mu)
	if err := c.Append(out); err != nil {
		c.Close(err)
		return c
	}
	c.Close(nil)
	return c
}
