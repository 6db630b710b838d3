package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ivrbridge/ivrbridge/asr/wire"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	rate         = 2 * pcm.Rate // of the decoders
	frameRate    = 100          // decoder frames per second
	partialEvery = 3 * pcm.Rate / 10
	phoneTime    = 0.085 // seconds that a phone takes, spoken at leisure
	stretch      = 2.2   // how much slower than that a phrase may be said
	slack        = 0.5   // seconds of speech that may come with any phrase
	leastSpeech  = 0.08  // seconds: a click is no word
	speechLevel  = 24.0  // dB under the loudest frame that still count as speech
)

// A hearing is one utterance being heard: a decoder that knows what may be said,
// and one that hears phones in any order. Where the second explains the sound
// much better, something else was said.
type hearing struct {
	id        uint64
	grammar   *grammar
	words     *decoder
	phones    *decoder
	threshold float64

	fed     int // samples at 8 kHz
	since   int // the last partial
	partial string
	levels  []float64 // of frames of 10 ms
	up      []int16
	law     []int16
	noise   uint32
}

// listen opens a hearing.
func (s *sphinx) listen(ctx context.Context, u wire.Utterance, threshold float64) (h *hearing, err error) {
	h = &hearing{id: u.ID, threshold: threshold, grammar: newGrammar(ctx, s.words, u.Hints)}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if h.words, err = s.decoder("-beam", "1e-80", "-pbeam", "1e-80", "-wbeam", "1e-60"); err != nil {
		return nil, fmt.Errorf("open decoder: %w", err)
	}
	if err = h.words.grammar(h.grammar); err != nil {
		return nil, fmt.Errorf("set grammar: %w", err)
	}
	if h.phones, err = s.decoder("-allphone", s.phone, "-allphone_ci", "yes", "-lw", "2", "-beam", "1e-20", "-pbeam", "1e-20"); err != nil {
		return nil, fmt.Errorf("open phone loop: %w", err)
	}
	if err = errors.Join(h.words.begin(), h.phones.begin()); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *hearing) close() {
	h.words.close()
	h.phones.close()
}

// write takes mu-law sound and returns new words where there are some.
func (h *hearing) write(sound []byte) (partial string, err error) {
	if cap(h.law) < len(sound) {
		h.law = make([]int16, len(sound))
	}
	samples := h.law[:pcm.Mu.Decode(h.law[:len(sound)], sound)]
	for i := 0; i+pcm.Rate/frameRate <= len(samples); i += pcm.Rate / frameRate {
		h.levels = append(h.levels, pcm.Level(samples[i:i+pcm.Rate/frameRate]))
	}
	h.breathe(samples)
	h.up = pcm.UpsampleImage(h.up, samples)
	if err := errors.Join(h.words.feed(h.up), h.phones.feed(h.up)); err != nil {
		return "", err
	}
	h.fed += len(samples)
	if h.fed-h.since < partialEvery {
		return "", nil
	}
	h.since = h.fed
	tokens, margin := h.compare()
	if tokens == "" || margin < h.threshold {
		return "", nil
	}
	text := h.grammar.partial(tokens)
	if text == h.partial {
		return "", nil
	}
	h.partial = text
	return text, nil
}

// breathe adds noise of about -70 dBFS: the model has never heard the silence of
// a digital line, which is exactly nothing.
func (h *hearing) breathe(samples []int16) {
	for i := range samples {
		h.noise = h.noise*1664525 + 1013904223
		samples[i] += int16(h.noise>>28) - 8 // mu-law ends well before the range of int16
	}
}

// compare returns the best path and how much worse than the phone loop it
// explains the sound, per frame: 0 at best.
func (h *hearing) compare() (tokens string, margin float64) {
	tokens, score, frames := h.words.best()
	_, loop, loopFrames := h.phones.best()
	if frames == 0 || loopFrames == 0 {
		return tokens, math.Inf(-1)
	}
	return tokens, float64(score)/float64(frames) - float64(loop)/float64(loopFrames)
}

// final ends the utterance.
func (h *hearing) final() (wire.Reply, error) {
	r := wire.Reply{Utterance: h.id, Final: true}
	if h.fed == 0 {
		return r, nil
	}
	if err := errors.Join(h.words.finish(), h.phones.finish()); err != nil {
		return r, err
	}
	tokens, margin := h.compare()
	p, whole := h.grammar.phrases[tokens]
	speech := h.speech()
	expected := float64(p.phones) * phoneTime
	switch {
	case strings.TrimSpace(tokens) == "":
		r.Rejected = "nothing"
	case !whole:
		r.Rejected = "unfinished"
	case margin < h.threshold:
		r.Rejected = fmt.Sprintf("margin %.1f", margin)
	case speech < leastSpeech || speech > stretch*expected+slack:
		r.Rejected = fmt.Sprintf("%.1f s of speech for %.1f s", speech, expected)
	default:
		r.Text = p.text
		r.Confidence = min(1, 1-0.5*margin/h.threshold)
	}
	return r, nil
}

// speech is how many seconds of the utterance were speech.
func (h *hearing) speech() float64 {
	loudest := pcm.Quietest
	for _, l := range h.levels {
		loudest = max(loudest, l)
	}
	n := 0
	for _, l := range h.levels {
		if l > loudest-speechLevel && l > -50 {
			n++
		}
	}
	return float64(n) / frameRate
}
