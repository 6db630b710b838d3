package caller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/ivrbridge/ivrbridge/internal/line"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

var (
	// ErrEnded says that the call was over before the script was.
	ErrEnded = errors.New("the call is over")
	// ErrNotMet says that what a step waits for did not happen in time.
	ErrNotMet = errors.New("did not happen in time")
)

// play does the script's steps, or waits for the end of the call.
func (c *caller) play(ctx context.Context) error {
	if c.conf.Script == nil {
		err := c.until(ctx, 24*time.Hour, func() bool { return c.over })
		if errors.Is(err, context.Canceled) {
			err = nil // the caller has heard enough
		}
		return err
	}
	for _, s := range c.conf.Script.Steps {
		begun := time.Now()
		if err := c.step(ctx, s); err != nil {
			return s.in(fmt.Errorf("%s: %w", s, err))
		}
		c.report.Steps++
		c.say("%6.2fs  %s", time.Since(begun).Seconds(), s)
	}
	return nil
}

func (c *caller) step(ctx context.Context, s Step) error {
	switch {
	case s.Hear != nil:
		return c.until(ctx, s.Hear.Within.or(defaultWithin), c.ear.hears)
	case s.Silence != nil:
		return c.until(ctx, s.Silence.Within.or(3*defaultWithin), func() bool { return c.began && !c.ear.hears() })
	case s.Press != "":
		return c.press(ctx, s.Press)
	case s.Say != "":
		return c.speak(ctx, s.Say)
	case s.Play != "":
		return c.sound(ctx, s.Play)
	case s.Expect != nil:
		return c.expect(ctx, *s.Expect)
	case s.Event != nil:
		return c.event(ctx, *s.Event)
	case s.Hold != nil:
		return c.current().Hold(ctx, *s.Hold)
	case s.Hangup:
		c.hangup()
		return c.until(ctx, defaultWithin, func() bool { return c.over })
	}
	err := c.until(ctx, time.Duration(s.Wait), func() bool { return false })
	if errors.Is(err, ErrNotMet) {
		return nil // that was the point
	}
	return err
}

// until waits for a condition and follows what happens meanwhile.
func (c *caller) until(ctx context.Context, within time.Duration, met func() bool) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if met() {
			return nil
		}
		if c.over {
			return fmt.Errorf("%w: %s", ErrEnded, c.report.End)
		}
		select {
		case h := <-c.ear.events:
			c.happened(h)
		case <-tick.C:
		case <-limit.C:
			if met() {
				return nil
			}
			return fmt.Errorf("%w (%s)", ErrNotMet, within)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *caller) happened(h happening) {
	c.facts[h.what]++
	switch h.what {
	case promptBegan:
		c.began = true
	case wordsHeard:
		c.report.Heard = append(c.report.Heard, h.text)
		c.say("         heard %q", h.text)
	case referred:
		c.report.Refers = append(c.report.Refers, h.text)
		c.say("         referred to %s", h.text)
	case moved:
		c.report.Moved = true
		c.say("         now talking to %s", h.text)
	case ended:
		c.over, c.report.End = true, h.text
		c.say("         over: %s", h.text)
	case speechBegan:
		if c.feeder != nil {
			c.feeder.Speech(true)
		}
	case speechEnded:
		if c.feeder != nil {
			c.feeder.Speech(false)
			c.feeder.End(c.utt)
			c.utter()
		}
	case promptEnded, played, digitsSent, heldUs:
	}
}

func (c *caller) current() *line.Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.line
}

func (c *caller) press(ctx context.Context, keys string) error {
	before := c.facts[digitsSent]
	c.seq++
	c.current().SendDigits(c.seq, keys)
	return done(c.until(ctx, 3*defaultWithin, func() bool { return c.facts[digitsSent] > before }))
}

// done accepts that the call ended while something was sent: the far end may
// hang up on the first sign of a key.
func done(err error) error {
	if errors.Is(err, ErrEnded) {
		return nil
	}
	return err
}

func (c *caller) speak(ctx context.Context, text string) error {
	if c.conf.Voice == nil {
		return errors.New("no voice is installed: install flite or espeak-ng")
	}
	audio, err := c.conf.Voice.Synthesize(ctx, tts.Request{Text: text})
	if err != nil {
		return fmt.Errorf("synthesise: %w", err)
	}
	return c.send(ctx, audio)
}

func (c *caller) sound(ctx context.Context, path string) error {
	b, err := os.ReadFile(c.conf.Script.path(path))
	if err != nil {
		return fmt.Errorf("read sound: %w", err)
	}
	audio, err := pcm.Open(bytes.NewReader(b), pcm.Limits{MaxInput: 100 << 20, MaxOutput: time.Hour})
	if err != nil {
		return fmt.Errorf("read sound: %w", err)
	}
	return c.send(ctx, audio)
}

// send plays audio to the far end and returns when it was sent.
func (c *caller) send(ctx context.Context, audio pcm.Audio) error {
	defer func() { _ = audio.Close() }()
	clip := pcm.NewClip(pcm.Mu)
	if err := pcm.Fill(ctx, clip, pcm.Normalise(pcm.Resample(audio, pcm.Rate), pcm.SpeechLevel)); err != nil {
		return fmt.Errorf("make sound: %w", err)
	}
	before := c.facts[played]
	c.seq++
	c.current().Play(media.Cue{Seq: c.seq, Clip: clip})
	length := time.Duration(clip.Len()) * time.Second / pcm.Rate
	return done(c.until(ctx, length+defaultWithin, func() bool { return c.facts[played] > before }))
}

// expect looks for words in what was heard since the last match.
func (c *caller) expect(ctx context.Context, e Expect) error {
	if c.feeder == nil {
		return errors.New("no recogniser is installed: install pocketsphinx and pocketsphinx-en-us")
	}
	want := words(e.Text)
	return c.until(ctx, e.Within.or(2*defaultWithin), func() bool {
		for i := c.taken; i < len(c.report.Heard); i++ {
			if strings.Contains(words(c.report.Heard[i]), want) {
				c.taken = i + 1
				return true
			}
		}
		return false
	})
}

// words is text without case and punctuation, with a space at either end.
func words(text string) string {
	return " " + strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\''
	}), " ") + " "
}

func (c *caller) event(ctx context.Context, e Event) error {
	return c.until(ctx, e.Within.or(defaultWithin), func() bool {
		switch {
		case e.Refer:
			for _, to := range c.report.Refers {
				if strings.Contains(to, e.To) {
					return true
				}
			}
			return false
		case e.Moved:
			return c.report.Moved
		case e.Held:
			return c.facts[heldUs] > 0
		}
		return c.over
	})
}
