// Package media sends and receives the sound of calls: RTP on a shared wheel.
//
// An [Engine] runs one goroutine per core. Each serves its legs in slots of a
// 20 ms wheel, so that thousands of calls need neither a timer, a goroutine nor
// an allocation per packet. A [Leg] is one RTP stream in each direction: it plays
// clips, notices keys and speech, feeds taps, and tells what happens by events.
//
// The package knows RTP, RTCP and G.711. It knows nothing of SIP, SDP,
// recognisers, synthesisers or conversations; [Params] says what was negotiated.
// It keeps no package state and reads no clock but that of package time, so
// that tests run it over a [MemoryNetwork] in a testing/synctest bubble.
package media

import (
	"time"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	turn      = 20 * time.Millisecond // one turn of the wheel
	slots     = 4                     // slots per turn
	slotStep  = turn / slots
	maxLag    = 100 * time.Millisecond // packets later than that are not caught up with
	frameSize = pcm.Rate / 50          // samples of a turn

	perMilli  = pcm.Rate / 1000
	minPtime  = 10 * time.Millisecond
	maxPtime  = 60 * time.Millisecond
	stdPtime  = 20 * time.Millisecond
	headerLen = 12 // RFC 3550 section 5.1, without CSRC
)

// samples is the number of samples that d holds.
func samples(d time.Duration) int { return int(d / (time.Second / pcm.Rate)) }

// span is how long n samples take.
func span(n int) time.Duration { return time.Duration(n) * (time.Second / pcm.Rate) }
