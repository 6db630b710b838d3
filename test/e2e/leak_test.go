package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/caller"
	"github.com/ivrbridge/ivrbridge/sip"
)

// descriptors counts the files and sockets that the program has open.
func (b *bridge) descriptors() int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	return len(all)
}

// Half a minute after the calls nothing of them is left: no dialog, transaction,
// goroutine, RTP port or descriptor.
func TestNothingIsLeftOfCalls(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	before := b.descriptors()
	w := b.wire(t)
	e := newEarpiece(t, false)
	var phones []*telephone
	for i := range 4 {
		phones = append(phones, b.dial(keysOnly, func(c *caller.Config) {
			c.LateOffer = i%2 == 0
			if i > 1 {
				c.Transport = sip.TCP
			}
		}))
	}
	for i := range 4 {
		call := fmt.Sprintf("left-%d", i)
		w.up(call, e)()
	}
	for i := range 4 { // refused
		call := fmt.Sprintf("refused-%d", i)
		w.send(request{method: "INVITE", call: call, branch: call, cseq: 1, more: "Content-Type: application/sdp\r\n", body: "v=0\r\n"})
		final := w.final(call, "INVITE")
		w.send(request{method: "ACK", call: call, branch: call, toTag: tag(final), cseq: 1})
	}
	for _, p := range phones {
		p.finish()
	}
	e.say(func(time.Time) []byte { return nil }) // a port that something still comes to is not given away
	for _, gauge := range []string{
		"ivrbridge_calls_active", "ivrbridge_sip_calls", "ivrbridge_sip_dialogs", "ivrbridge_rtp_ports_used", "ivrbridge_sip_transactions",
	} {
		await(t, 75*time.Second, gauge+" is 0", func() bool { return b.metric(gauge) == 0 })
	}
	await(t, 30*time.Second, "goroutines gone", func() bool { return b.metric("go_goroutines") <= b.idle+6 })
	await(t, 30*time.Second, "descriptors closed", func() bool { return b.descriptors() <= before+4 })
}
