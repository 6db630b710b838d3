package dtmf_test

import (
	"testing"
	"time"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// BenchmarkReceiver takes the packets of one press after the other.
func BenchmarkReceiver(b *testing.B) {
	b.ReportAllocs()
	var r dtmf.Receiver
	payload := []byte{5, 10, 0, 160}
	seq, ts, at := uint16(0), uint32(0), time.Duration(0)
	for b.Loop() {
		if seq%8 == 0 {
			ts += 1600
		}
		r.Packet(seq, ts, seq%8 == 0, payload, at)
		seq++
		at += 20 * time.Millisecond
	}
}

// BenchmarkSender makes the packets of a long number, 20 ms at a time.
func BenchmarkSender(b *testing.B) {
	b.ReportAllocs()
	digits := "01234567890123456789"
	s, err := dtmf.NewSender(digits, 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, _, kind := s.Next(160); kind == dtmf.Done {
			s, _ = dtmf.NewSender(digits, 0, 0)
		}
	}
}
