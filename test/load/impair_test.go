package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/simnet"
	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/dtmf"
)

// keypad has every key once: a key that comes twice shows, whatever was lost.
const keypad = "1234567890*#ABCD"

// A listener is a leg in a bubble and the keys that it told of.
type listener struct {
	leg *media.Leg
	mu  sync.Mutex
	got []byte
}

func (l *listener) Post(e media.Event) bool {
	if e.Kind == media.Digit {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.got = append(l.got, e.Digit)
	}
	return true
}

func (l *listener) keys() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.got)
}

// A sender is the far end of a listener, behind a network that spoils.
type sender struct {
	net    *simnet.Stream
	ports  [2]media.Port // the usual one and the one that NewPort means
	to     netip.AddrPort
	seq    uint16
	ts     uint32
	packet [12 + samples]byte
}

// through runs f in a bubble with a leg behind a network.
func through(t *testing.T, c simnet.Conditions, f func(s *sender, l *listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := media.NewMemoryNetwork()
		ours, theirs := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		ports := media.MemoryPorts(network, ours, 20000, 20001, 0)
		engine := media.NewEngine(media.EngineConfig{Shards: 1, Ports: ports})
		defer func() {
			engine.Close()
			_ = ports.Close()
		}()
		l := &listener{}
		leg, err := engine.NewLeg(media.LegConfig{Events: l})
		require.NoError(t, err)
		l.leg = leg
		s := &sender{net: simnet.NewStream(c), to: netip.AddrPortFrom(ours, leg.LocalPort()), seq: 65500, ts: 1<<32 - 50000}
		for i := range s.ports {
			s.ports[i], err = network.Listen(netip.AddrPortFrom(theirs, uint16(4000+100*i)))
			require.NoError(t, err)
		}
		leg.Apply(media.Params{
			Remote: netip.AddrPortFrom(theirs, 4000), Signalling: theirs, Accept: [2]int16{0, 8}, Event: keyType, HasEvent: true, Send: true, Recv: true,
		})
		time.Sleep(time.Millisecond)
		f(s, l)
		time.Sleep(time.Second) // for what is under way
	})
}

// talk sends sound for d.
func (s *sender) talk(d time.Duration) {
	for range d / packetTime {
		s.send([]byte{0x80, 0}, s.ts, s.packet[12:])
	}
}

// press sends keys, a tenth of a second each and as much between them.
func (s *sender) press(t *testing.T, digits string) {
	t.Helper()
	keys, err := dtmf.NewSender(digits, 0, 0)
	require.NoError(t, err)
	for {
		payload, marker, back, kind := keys.Next(samples)
		switch kind {
		case dtmf.Done:
			return
		case dtmf.Audio:
			s.talk(packetTime)
		case dtmf.Event:
			head := []byte{0x80, keyType}
			if marker {
				head[1] |= 0x80
			}
			s.send(head, s.ts-back, payload[:])
		}
	}
}

// send sends one packet and waits until the next is due.
func (s *sender) send(head []byte, ts uint32, payload []byte) {
	p := append(s.packet[:0:0], s.packet[:12]...)
	copy(p, head)
	binary.BigEndian.PutUint16(p[2:], s.seq)
	binary.BigEndian.PutUint32(p[4:], ts)
	p[11] = 1
	s.seq++
	s.ts += samples
	for _, a := range s.net.Pass(append(p, payload...)) {
		by := s.ports[0]
		if a.Moved {
			by = s.ports[1]
		}
		if a.After == 0 {
			_ = by.Send(a.Packet, s.to)
			continue
		}
		time.AfterFunc(a.After, func() { _ = by.Send(a.Packet, s.to) })
	}
	time.Sleep(packetTime)
}

// missing tells how many of the keys that were sent did not come, and fails
// where one came that was not sent then, or twice.
func missing(t *testing.T, sent, got string) int {
	t.Helper()
	at := 0
	for i := range len(got) {
		n := strings.IndexByte(sent[at:], got[i])
		require.GreaterOrEqual(t, n, 0, "key %d is doubled or out of order: %q of %q", i, got, sent)
		require.Less(t, n, len(keypad)-1, "key %d is doubled or out of order: %q of %q", i, got, sent)
		at += n + 1
	}
	return len(sent) - len(got)
}

const seeds = 8

func TestKeysThroughBadNetworks(t *testing.T) {
	digits := strings.Repeat(keypad, 15) // 240, the most that a sender takes is 256
	for _, c := range []struct {
		name    string
		network simnet.Conditions
		share   float64 // that has to arrive
	}{
		{"loss 1 %", simnet.Conditions{Loss: .01}, 1},
		{"loss 5 %", simnet.Conditions{Loss: .05}, 1},
		{"loss 10 %", simnet.Conditions{Loss: .1}, 1},
		{"loss 20 %", simnet.Conditions{Loss: .2}, 1},
		{"bursts", simnet.Conditions{Bursts: simnet.Bursts{Begin: .02, End: .25}}, .99},
		{"duplicates", simnet.Conditions{Duplicate: .05}, 1},
		{"disorder", simnet.Conditions{Reorder: .1}, 1},
		{"jitter", simnet.Conditions{Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond}, 1},
		{
			"all at once", simnet.Conditions{
				Loss: .05, Duplicate: .05, Reorder: .05, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond, NewSSRC: 1000,
			}, 1,
		},
		{"another source", simnet.Conditions{NewSSRC: 333}, 1},
		{
			"another source through jitter", simnet.Conditions{
				NewSSRC: 555, Reorder: .1, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond,
			}, 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent, lost := 0, 0
			for seed := range uint64(seeds) {
				c.network.Seed = seed
				var l *listener
				through(t, c.network, func(s *sender, to *listener) {
					l = to
					s.talk(100 * time.Millisecond)
					s.press(t, digits)
					s.talk(200 * time.Millisecond)
				})
				sent += len(digits)
				lost += missing(t, digits, l.keys())
			}
			say(t, "%d of %d keys", sent-lost, sent)
			require.LessOrEqual(t, float64(lost), (1-c.share)*float64(sent))
		})
	}
}

// A source may begin anew at any moment of a press, which stays one.
func TestKeysWhileSourceChanges(t *testing.T) {
	for after := 20; after < 60; after++ {
		through(t, simnet.Conditions{NewSSRC: after}, func(s *sender, l *listener) {
			s.talk(100 * time.Millisecond)
			s.press(t, keypad)
			s.talk(200 * time.Millisecond)
			require.Equal(t, keypad, l.keys(), "change after %d packets", after)
		})
	}
}

// The same where the network mixes the last packets of the one source with the
// first of the other.
func TestKeysWhileSourcesMix(t *testing.T) {
	for after := 20; after < 60; after++ {
		mixed := simnet.Conditions{Seed: uint64(after), NewSSRC: after, Duplicate: .05, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond}
		through(t, mixed, func(s *sender, l *listener) {
			s.talk(100 * time.Millisecond)
			s.press(t, keypad)
			s.talk(400 * time.Millisecond)
			require.Equal(t, keypad, l.keys(), "change after %d packets", after)
		})
	}
}

// What a damaged packet says is not known, but it does no lasting harm.
func TestKeysAfterDamage(t *testing.T) {
	for seed := range uint64(seeds) {
		through(t, simnet.Conditions{Seed: seed, Corrupt: .3}, func(s *sender, l *listener) {
			s.press(t, strings.Repeat(keypad, 5))
			s.net = simnet.NewStream(simnet.Conditions{})
			s.talk(4 * time.Second)
			before := len(l.keys())
			s.press(t, keypad)
			s.talk(200 * time.Millisecond)
			require.Equal(t, keypad, l.keys()[before:])
			require.False(t, l.leg.Stats().Closed)
		})
	}
}

// A far end that moves to another port is heard again after a second.
func TestKeysAfterMove(t *testing.T) {
	through(t, simnet.Conditions{NewPort: 50}, func(s *sender, l *listener) {
		s.talk(packetTime * 49)
		before := l.leg.Stats().Received
		require.NotZero(t, before)
		s.talk(time.Second)
		s.press(t, keypad)
		s.talk(200 * time.Millisecond)
		require.Equal(t, keypad, l.keys())
		require.Equal(t, uint16(4100), l.leg.Stats().Remote.Port(), "it is answered there")
	})
}

// keyedIn takes entries that end with the pound key.
const keyedIn = `
blocks:
  start:
    - audio: PROMPT
    - goto: listen
  listen:
    - dtmf: {timeout: 30, delimiter: ["#"], max_digits: 60}
    - capture: {into: keyed, no_reply: {timeout: 3600, goto: listen}}
    - goto: listen
`

// The same through the program: what the agent is told is what was keyed in, and
// the sound goes on both ways.
func TestEntriesThroughBadNetworks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	b := serve(t, keyedIn)
	c := newCrowd(t, b, 40)
	c.warm(1)
	before := b.metrics()
	delayed := simnet.Conditions{Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond}
	networks := []struct {
		name      string
		out, back simnet.Conditions
	}{
		{name: "loss 1 %", out: simnet.Conditions{Loss: .01}, back: simnet.Conditions{Loss: .01}},
		{name: "loss 5 %", out: simnet.Conditions{Loss: .05}, back: simnet.Conditions{Loss: .05}},
		{name: "loss 10 %", out: simnet.Conditions{Loss: .1}, back: simnet.Conditions{Loss: .1}},
		{name: "loss 20 %", out: simnet.Conditions{Loss: .2}, back: simnet.Conditions{Loss: .2}},
		{name: "duplicates", out: simnet.Conditions{Duplicate: .05}},
		{name: "disorder", out: simnet.Conditions{Reorder: .1}},
		{name: "jitter", out: delayed, back: delayed},
		{name: "another source", out: simnet.Conditions{NewSSRC: 125}},
		{name: "another port", out: simnet.Conditions{NewPort: 60}},
	}
	const callsEach = 3
	errs := make(chan error, callsEach*len(networks))
	want := map[string]string{}
	var all sync.WaitGroup
	for i, n := range networks {
		for j := range callsEach {
			n.out.Seed, n.back.Seed = uint64(i*callsEach+j), uint64(1000+i*callsEach+j)
			entry := fmt.Sprintf("%02d%d31415926535897", i, j)
			want[entry] = n.name
			all.Go(func() { errs <- keyIn(c, n.out, n.back, entry) })
		}
	}
	all.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	told := map[string]int{}
	for _, r := range b.agent.Requests() {
		for entry := range want {
			if strings.Contains(string(r.Body), `"`+entry+`"`) {
				told[entry]++
			}
		}
	}
	for entry, name := range want {
		require.Equal(t, 1, told[entry], "entry %s over a network with %s", entry, name)
	}
	say(t, "%d entries of 17 keys over %d kinds of networks", len(want), len(networks))
	b.settled(before)
}

// keyIn places a call through a relay, waits for what the network has in store
// to happen, and keys in an entry.
func keyIn(c *crowd, out, back simnet.Conditions, entry string) error {
	relay, err := simnet.NewRelay(home, out, back)
	if err != nil {
		return err
	}
	defer relay.Close()
	l, err := c.dial(relay)
	if err != nil {
		return err
	}
	time.Sleep(2500 * time.Millisecond)
	if err := l.stream.press(entry + "#"); err != nil {
		return err
	}
	_, before := relay.Counts()
	time.Sleep(time.Second)
	if _, after := relay.Counts(); after.Sent-before.Sent < 25 {
		return fmt.Errorf("%d packets came in a second: the sound does not go on", after.Sent-before.Sent)
	}
	return l.hangUp()
}
