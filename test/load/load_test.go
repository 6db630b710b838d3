package load

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gone is within what time of its end a call must have left nothing behind: its
// RTP ports rest for half a minute.
const gone = 35 * time.Second

// TestLoadAtOnce holds CALLS_AT_ONCE (100) calls for HOLD (20) seconds, each with
// sound in both directions, and looks at how evenly the bridge sends.
func TestLoadAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	n, hold := number(t, "CALLS_AT_ONCE", 100), time.Duration(number(t, "HOLD", 20))*time.Second
	b := serve(t, announcement)
	c := newCrowd(t, b, n)
	c.warm(1)
	before := b.metrics()
	calls := c.fill(n, 50)
	c.wheel.reset()
	cpu, began := b.cpu(), time.Now()
	time.Sleep(hold)
	heard, took := c.wheel.reset(), time.Since(began)
	cpu = b.cpu() - cpu
	during := b.metrics()
	c.empty(calls)

	say(t, "%d calls for %s on %s", n, took.Round(time.Second), machine())
	say(t, "distance of the interval between a call's packets from 20 ms: %s", heard.off.millis())
	say(t, "packets %d (%.2f per call and second), lost %d, out of order %d", heard.packets,
		float64(heard.packets)/float64(n)/took.Seconds(), heard.lost, heard.late)
	say(t, "CPU %.0f µs per second of a call, RSS %.0f kB per call", float64(cpu.Microseconds())/float64(n)/took.Seconds(),
		(during["process_resident_memory_bytes"]-before["process_resident_memory_bytes"])/1024/float64(n))

	require.Less(t, float64(heard.lost), .001*float64(heard.packets), "packets lost on loopback")
	require.Greater(t, float64(heard.packets), .9*50*float64(n)*took.Seconds(), "packets that were never sent")
	b.settled(before)
}

// TestLoadSetUp places CALLS (1,000) calls at RATE (100) a second that last for
// a second each, and compares what the bridge holds half way and at the end.
func TestLoadSetUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	n, perSecond := number(t, "CALLS", 1000), number(t, "RATE", 100)
	b := serve(t, announcement)
	c := newCrowd(t, b, min(callerPairs, 4*perSecond+100))
	c.warm(20)
	before := b.metrics()
	first := c.churn(n/2, perSecond, time.Second)
	half := b.metrics()
	second := c.churn(n-n/2, perSecond, time.Second)
	after := b.metrics()

	x := table{{"calls", "answered", "INVITE to 100 or 180", "", "INVITE to 200", "", "200 to first RTP", "", "sent again", "repeated", "SIP drops"}}
	x.row("", "", "p50 ms", "p99", "p50", "p99", "p50", "p99", "by caller", "by bridge", "at socket")
	for _, r := range []*churned{first, second} {
		x.row(r.calls, r.answered, ms(r.ringing.at(.5)), ms(r.ringing.at(.99)), ms(r.setUp.at(.5)), ms(r.setUp.at(.99)),
			ms(r.first.at(.5)), ms(r.first.at(.99)), r.resent, r.repeated, r.drops)
	}
	say(t, "%d calls a second on %s", perSecond, machine())
	x.print(t)
	memory := table{{"MB", "before", "half way", "at the end"}}
	for _, name := range []string{"process_resident_memory_bytes", "go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes", "go_memstats_next_gc_bytes"} {
		memory.row(name, before[name]/1e6, half[name]/1e6, after[name]/1e6)
	}
	memory.print(t)
	for _, r := range []*churned{first, second} {
		require.Equal(t, r.calls, r.answered, "calls answered: %v", r.errs)
		require.Zero(t, r.failed, "calls that did not end in order")
	}
	// Collections come when they come, and a call that is over is still known for
	// 32 s, to answer what was sent again. Beyond that it must take nothing.
	known := after["ivrbridge_sip_transactions"] - half["ivrbridge_sip_transactions"]
	allowed := 1.02*half["process_resident_memory_bytes"] + 16e6 + 16e3*max(0, known)
	require.LessOrEqual(t, after["process_resident_memory_bytes"], allowed, "resident memory grows with calls")
	b.settled(before)
	end := b.metrics()
	require.InDelta(t, before["ivrbridge_calls_total"]+float64(n), end["ivrbridge_calls_total"], 0)
}

// warm makes calls that let the bridge fetch and render what it keeps.
func (c *crowd) warm(n int) {
	c.t.Helper()
	r := c.churn(n, 20, time.Second)
	require.Equal(c.t, n, r.answered, "%v", r.errs)
}

// fill places n calls at so many a second.
func (c *crowd) fill(n, perSecond int) []*call {
	c.t.Helper()
	calls, errs := make([]*call, n), make([]error, n)
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		time.Sleep(time.Duration(i)*time.Second/time.Duration(perSecond) - time.Since(began))
		all.Go(func() { calls[i], errs[i] = c.dial(nil) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.empty(slices.DeleteFunc(calls, func(l *call) bool { return l == nil }))
		require.NoError(c.t, err)
	}
	return calls
}

// empty hangs up all calls.
func (c *crowd) empty(calls []*call) {
	c.t.Helper()
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, l := range calls {
		all.Go(func() { errs[i] = l.hangUp() })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(c.t, err)
	}
}

// churned is what became of many short calls.
type churned struct {
	calls, answered, failed int
	errs                    map[string]int
	ringing, setUp, first   spread
	resent, repeated        int64
	drops                   int
}

// churn places n calls at so many a second and hangs each up after a while.
func (c *crowd) churn(n, perSecond int, hold time.Duration) *churned {
	r := &churned{calls: n, errs: map[string]int{}, resent: -c.resent.Load(), repeated: -c.repeated.Load(), drops: -c.owner.drops()}
	c.wheel.reset()
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		time.Sleep(time.Duration(i)*time.Second/time.Duration(perSecond) - time.Since(began))
		all.Go(func() {
			l, err := c.dial(nil)
			if err == nil {
				time.Sleep(hold)
				mu.Lock()
				r.answered++
				r.ringing.add(l.ringing())
				r.setUp.add(l.setUp)
				mu.Unlock()
				err = l.hangUp()
			}
			if err != nil {
				mu.Lock()
				r.failed++
				r.errs[err.Error()]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.first = c.wheel.reset().first
	r.resent += c.resent.Load()
	r.repeated += c.repeated.Load()
	r.drops += c.owner.drops()
	return r
}

// TestLoadBurst places BURST (300) calls in the same moment, as after a trunk's
// fail-over, and hangs them up in the same moment.
func TestLoadBurst(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	n := number(t, "BURST", 300)
	b := serve(t, announcement)
	c := newCrowd(t, b, n)
	c.warm(1)
	before := b.metrics()
	resent, repeated, drops, began := c.resent.Load(), c.repeated.Load(), b.drops(), time.Now()
	calls := c.fill(n, int(time.Second))
	took := time.Since(began)
	var setUp spread
	for _, l := range calls {
		setUp.add(l.setUp)
	}
	say(t, "%d calls at once on %s, all answered after %s ms", n, machine(), ms(took))
	say(t, "INVITE to 200: %s; sent again by callers %d, by the bridge %d; lost at its SIP socket %d", setUp.millis(),
		c.resent.Load()-resent, c.repeated.Load()-repeated, b.drops()-drops)
	c.empty(calls)
	b.settled(before)
}
