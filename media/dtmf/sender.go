package dtmf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrTiming is wrapped where tones or gaps are shorter or longer than receivers
// can tell apart.
var ErrTiming = errors.New("dtmf: unusable timing")

const (
	clockRate = 8000 // of telephone-event/8000

	defaultOn  = 100 * time.Millisecond
	defaultGap = 100 * time.Millisecond
	shortest   = 40 * time.Millisecond // ITU-T Q.24
	longest    = 8 * time.Second       // one segment of RFC 4733 holds 8.19 s
	mostDigits = 256

	shortPause = 500 * time.Millisecond // w
	longPause  = time.Second            // W

	volume     = 10 // -10 dBm0 (RFC 4733 section 2.3.4)
	endPackets = 3  // RFC 4733 section 2.5.1.4
)

// A Kind says what a [Sender] wants in a slot.
type Kind uint8

// The kinds of slots.
const (
	Done  Kind = iota // everything was sent; the slot is free
	Audio             // a gap or a pause: the slot is free for audio
	Event             // send the event packet instead of audio
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Audio:
		return "audio"
	case Event:
		return "event"
	default:
		return "done"
	}
}

// A Sender turns digits into telephone events (RFC 4733), one slot after the
// other. One goroutine uses it; it does not allocate after [NewSender].
type Sender struct {
	digits  string
	on, gap uint32 // samples

	at      int    // of digits: what is under way
	elapsed uint32 // samples of it up to the slot that comes
	final   uint32 // its duration, once the end has been sent
	ends    int    // end packets sent
	started bool   // its first packet was sent
}

// NewSender checks digits: 0–9, *, #, A–D, w for a pause of half a second and W
// for one of a second. Each key sounds for on, with at least gap behind it;
// 0 stands for 100 ms. Both must lie between 40 ms and 8 s ([ErrTiming]); other
// characters, none and more than 256 are [ErrDigit].
func NewSender(digits string, on, gap time.Duration) (*Sender, error) {
	if err := checkDigits(digits); err != nil {
		return nil, err
	}
	on, gap, err := checkTiming(on, gap)
	if err != nil {
		return nil, err
	}
	return &Sender{digits: digits, on: samplesOf(on), gap: samplesOf(gap)}, nil
}

func checkDigits(digits string) error {
	if digits == "" || len(digits) > mostDigits {
		return fmt.Errorf("%w: %d of them", ErrDigit, len(digits))
	}
	for i := range len(digits) {
		if _, ok := eventOf(digits[i]); !ok && pauseOf(digits[i]) == 0 {
			return fmt.Errorf("%w: %q at %d", ErrDigit, digits[i], i)
		}
	}
	return nil
}

func checkTiming(on, gap time.Duration) (time.Duration, time.Duration, error) {
	if on == 0 {
		on = defaultOn
	}
	if gap == 0 {
		gap = defaultGap
	}
	for _, d := range []time.Duration{on, gap} {
		if d < shortest || d > longest {
			return 0, 0, fmt.Errorf("%w: %v", ErrTiming, d)
		}
	}
	return on, gap, nil
}

func pauseOf(digit byte) time.Duration {
	switch digit {
	case 'w':
		return shortPause
	case 'W':
		return longPause
	}
	return 0
}

func samplesOf(d time.Duration) uint32 { return uint32(d * clockRate / time.Second) }

// Next decides about the next slot, which covers samples of the RTP clock
// (160 for 20 ms). Call it exactly once per slot, as long as it does not return
// Done; the number of samples may change from slot to slot.
//
// With Event, send one packet in the slot, with the payload type of the
// telephone events, the payload and marker returned, the stream's next
// sequence number, and as timestamp that of the slot less tsOffset: all
// packets of an event carry the timestamp of its beginning. The timestamp of
// the stream advances with each slot as it does for audio. With Audio and Done
// the slot is free for what else is to be sent, and the other results are zero;
// its timestamp has run on. The end of an event is sent in three slots, the
// second and third of which lie in the gap.
func (s *Sender) Next(samples uint32) (payload [4]byte, marker bool, tsOffset uint32, kind Kind) {
	if samples == 0 {
		samples = 1
	}
	for s.at < len(s.digits) {
		digit := s.digits[s.at]
		if pause := samplesOf(pauseOf(digit)); pause > 0 {
			if s.elapsed >= pause {
				s.step()
				continue
			}
			s.elapsed += samples
			return payload, false, 0, Audio
		}
		switch {
		case s.ends < endPackets:
			payload, marker, tsOffset = s.event(digit, samples)
			return payload, marker, tsOffset, Event
		case s.at == len(s.digits)-1, s.elapsed >= s.final+s.gap:
			s.step()
		default:
			s.elapsed += samples
			return payload, false, 0, Audio
		}
	}
	return payload, false, 0, Done
}

// Stop gives up the digits that have not begun. The one under way comes to its
// end, so that nobody is left with half a key.
func (s *Sender) Stop() {
	n := s.at
	if s.started {
		n++
	}
	s.digits = s.digits[:n]
}

// step goes on to the next digit.
func (s *Sender) step() {
	s.at++
	s.elapsed, s.final, s.ends, s.started = 0, 0, 0, false
}

// event makes the packet of the slot that begins elapsed samples after the
// event did. It tells the duration up to the slot's end.
func (s *Sender) event(digit byte, samples uint32) (payload [4]byte, marker bool, tsOffset uint32) {
	marker, tsOffset = !s.started, s.elapsed
	s.elapsed += samples
	duration := min(s.elapsed, 0xFFFF)
	payload[0], _ = eventOf(digit)
	payload[1] = volume
	// Never the beginning and the end in one packet: a receiver that waits for
	// both would miss the key.
	if s.ends > 0 || (s.started && s.elapsed >= s.on) {
		if s.ends == 0 {
			s.final = duration
		}
		duration = s.final
		s.ends++
		payload[1] |= endBit
	}
	s.started = true
	binary.BigEndian.PutUint16(payload[2:], uint16(duration))
	return payload, marker, tsOffset
}
