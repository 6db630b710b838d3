package media

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/ivrbridge/ivrbridge/media/vad"
)

// FuzzReceive gives datagrams to a leg: sizes are read from the input itself.
// Whatever they are, the leg sends on, and the tap hears frames in a row.
func FuzzReceive(f *testing.F) {
	rtp := func(pt byte, seq uint16, ts uint32, payload ...byte) []byte {
		b := []byte{0x80, pt, byte(seq >> 8), byte(seq), byte(ts >> 24), byte(ts >> 16), byte(ts >> 8), byte(ts), 0, 0, 0, 1}
		b = append(b, payload...)
		return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
	}
	var stream []byte
	for i := range 20 {
		stream = append(stream, rtp(0, uint16(65530+i), uint32(i*160), make([]byte, 160)...)...)
	}
	f.Add(stream)
	f.Add(append(rtp(101, 1, 0, 5, 10, 0, 160), rtp(101, 2, 0, 5, 0x8A, 1, 64)...))
	f.Add([]byte{0, 12, 0xBF, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0, 8, 0x80, 200, 0, 1, 0, 0, 0, 1})
	f.Add([]byte{0, 16, 0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, input []byte) {
		n := NewMemoryNetwork()
		ports := MemoryPorts(n, ourIP, 20000, 20001, 0)
		e := &Engine{ports: ports, log: nopLog(), meter: newMeter(ports), epoch: time.Now()}
		a, ar, err := ports.Open()
		if err != nil {
			t.Fatal(err)
		}
		s := newShard(e)
		heard := &recorder{}
		l := newLeg(e, LegConfig{Events: &journal{}, VAD: vad.Default()}, a, ar)
		l.home.Store(&place{s, 0})
		s.admit(l)
		s.takeIn()
		far, err := n.Listen(netip.AddrPortFrom(farIP, 4000))
		if err != nil {
			t.Fatal(err)
		}
		remote := netip.AddrPortFrom(farIP, 4000)
		l.Apply(Params{Remote: remote, RTCP: remote, Accept: [2]int16{0, 8}, Event: 101, HasEvent: true, Send: true, Recv: true})
		l.Attach(heard)
		at, due := e.epoch, time.Duration(0)
		for turns := range 400 {
			if len(input) >= 2 {
				size := min(int(binary.BigEndian.Uint16(input)), len(input)-2)
				_ = far.Send(input[2:2+size], netip.AddrPortFrom(ourIP, l.LocalPort()))
				input = input[2+size:]
			} else if turns > 20 {
				break
			}
			l.visit(due, at, true)
			l.visit(due+turn/2, at.Add(turn/2), false)
			due, at = due+turn, at.Add(turn)
			if l.state != running {
				t.Fatal("the leg ended")
			}
		}
		if l.stats.Sent == 0 {
			t.Fatal("nothing was sent")
		}
		for i, v := range heard.at {
			if v != int64(i*frameSize) {
				t.Fatalf("frame %d is at %d", i, v)
			}
		}
		s.end(l, nil)
		e.ends.Wait()
	})
}
