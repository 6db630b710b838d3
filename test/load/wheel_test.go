package load

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

const (
	packetTime = 20 * time.Millisecond
	slotTime   = 5 * time.Millisecond
	slots      = int(packetTime / slotTime)
	samples    = 160
)

// A wheel is the goroutine that sends and receives the sound of all callers.
type wheel struct {
	quit chan struct{}
	work sync.WaitGroup
	next atomic.Uint32 // slot of the next stream

	mu      sync.Mutex
	waiting []*stream
	tally   tally // of the streams
}

// A tally is what the callers heard.
type tally struct {
	packets, lost, late int
	off                 spread // distance of intervals from 20 ms
	first               spread // answer to first packet
}

func newWheel() *wheel {
	w := &wheel{quit: make(chan struct{})}
	w.work.Go(w.run)
	return w
}

func (w *wheel) close() {
	close(w.quit)
	w.work.Wait()
}

func (w *wheel) admit(s *stream) {
	s.slot = int(w.next.Add(1)) % slots
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, s)
}

// reset begins counting anew.
func (w *wheel) reset() tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.tally
	w.tally = tally{}
	return was
}

func (w *wheel) run() {
	var all [slots][]*stream
	defer func() {
		for _, slot := range all {
			for _, s := range slot {
				s.release()
			}
		}
	}()
	epoch := time.Now()
	for n := 1; ; n++ {
		select {
		case <-w.quit:
			return
		default:
		}
		time.Sleep(time.Duration(n)*slotTime - time.Since(epoch))
		w.mu.Lock()
		for _, s := range w.waiting {
			all[s.slot] = append(all[s.slot], s)
		}
		w.waiting = w.waiting[:0]
		slot := all[n%slots]
		kept := slot[:0]
		for _, s := range slot {
			if s.left.Load() {
				s.release()
				continue
			}
			s.send()
			s.receive(&w.tally)
			kept = append(kept, s)
		}
		clear(slot[len(kept):])
		all[n%slots] = kept
		w.mu.Unlock()
	}
}

// A stream is one caller's sound, both ways: noise at the level of a quiet room,
// and keys.
type stream struct {
	rtp, rtcp media.Port
	to        netip.AddrPort
	answered  time.Time
	slot      int
	left      atomic.Bool
	once      sync.Once
	keys      atomic.Pointer[keys]

	// Owned by the wheel.
	packet  [12 + samples]byte
	seq     uint16
	ts      uint32
	heard   int
	lastSeq uint16
	last    time.Time
}

// keys are on their way.
type keys struct {
	sender *dtmf.Sender
	sent   chan struct{}
}

func newStream(rtp, rtcp media.Port) *stream {
	s := &stream{rtp: rtp, rtcp: rtcp, seq: uint16(rand.Uint32()), ts: rand.Uint32()}
	s.packet[0] = 0x80
	binary.BigEndian.PutUint32(s.packet[8:], rand.Uint32())
	for i := range samples {
		s.packet[12+i] = 0xFC + byte(rand.IntN(4)) - byte(rand.IntN(2))<<7 // some of the smallest steps of mu-law
	}
	return s
}

// press sends keys and returns when they are sent.
func (s *stream) press(digits string) error {
	sender, err := dtmf.NewSender(digits, 0, 0)
	if err != nil {
		return err
	}
	k := &keys{sender, make(chan struct{})}
	s.keys.Store(k)
	select {
	case <-k.sent:
		return nil
	case <-time.After(patience):
		return errors.New("the call ended before the keys were sent")
	}
}

func (s *stream) send() {
	binary.BigEndian.PutUint16(s.packet[2:], s.seq)
	binary.BigEndian.PutUint32(s.packet[4:], s.ts)
	s.packet[1] = 0
	s.ts += samples
	if k := s.keys.Load(); k != nil {
		payload, marker, back, kind := k.sender.Next(samples)
		switch kind {
		case dtmf.Event:
			s.event(payload, marker, back)
			return
		case dtmf.Done:
			s.keys.Store(nil)
			close(k.sent)
		case dtmf.Audio:
		}
	}
	s.seq++
	_ = s.rtp.Send(s.packet[:], s.to)
}

func (s *stream) event(payload [4]byte, marker bool, back uint32) {
	var p [16]byte
	copy(p[:12], s.packet[:12])
	p[1] = keyType
	if marker {
		p[1] |= 0x80
	}
	binary.BigEndian.PutUint32(p[4:], s.ts-samples-back)
	copy(p[12:], payload[:])
	s.seq++
	_ = s.rtp.Send(p[:], s.to)
}

// receive takes what has come.
func (s *stream) receive(t *tally) {
	var buf [2048]byte
	for {
		n, _, err := s.rtp.Recv(buf[:])
		if err != nil {
			return
		}
		if n < 12 {
			continue
		}
		at := time.Now()
		if k, ok := s.rtp.(interface{ Stamp() (time.Time, bool) }); ok {
			if stamp, ok := k.Stamp(); ok {
				at = stamp
			}
		}
		s.count(t, binary.BigEndian.Uint16(buf[2:]), at)
	}
}

func (s *stream) count(t *tally, seq uint16, at time.Time) {
	t.packets++
	s.heard++
	if s.heard == 1 {
		t.first.add(at.Sub(s.answered))
		s.last, s.lastSeq = at, seq
		return
	}
	switch gap := int16(seq - s.lastSeq); {
	case gap == 1:
		off := at.Sub(s.last) - packetTime
		t.off.add(max(off, -off))
	case gap > 1:
		t.lost += int(gap) - 1
	default:
		t.late++
		return
	}
	s.last, s.lastSeq = at, seq
}

// close ends the stream at its next slot, or now if it never began.
func (s *stream) close() {
	s.left.Store(true)
	if !s.to.IsValid() {
		s.release()
	}
}

func (s *stream) release() {
	s.once.Do(func() {
		if k := s.keys.Swap(nil); k != nil {
			close(k.sent)
		}
		_ = s.rtp.Close()
		_ = s.rtcp.Close()
	})
}
