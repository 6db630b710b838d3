package jitter_test

import (
	"testing"
	"time"

	"github.com/ivrbridge/ivrbridge/media/jitter"
)

// BenchmarkReorder passes packets of 20 ms through, in order and with every
// fourth one late.
func BenchmarkReorder(b *testing.B) {
	payload := make([]byte, 160)
	for _, c := range []struct {
		name string
		swap bool
	}{{"in order", false}, {"swapped", true}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var r jitter.Reorder
			n, at := uint16(0), time.Duration(0)
			for b.Loop() {
				seq := n
				if c.swap {
					switch n % 4 {
					case 2:
						seq++
					case 3:
						seq--
					}
				}
				r.Push(jitter.Packet{Seq: seq, TS: uint32(seq) * 160, At: at, Payload: payload})
				for {
					if _, _, ok := r.Pop(at); !ok {
						break
					}
				}
				n++
				at += 20 * time.Millisecond
			}
		})
	}
}
