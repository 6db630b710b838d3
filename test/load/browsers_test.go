package load

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLoadBrowsers holds BROWSERS (200) calls of browsers for HOLD_BROWSERS (8)
// seconds, each with sound in both directions and an entry by telephone-event.
func TestLoadBrowsers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	n, hold := number(t, "BROWSERS", 200), time.Duration(number(t, "HOLD_BROWSERS", 8))*time.Second
	b := serveBrowsers(t, keyedIn)
	c := newCrowd(t, b, 1)
	k := c.book()
	k.empty(k.fill(n, 1)) // warm
	b.awaitCalls(0)
	before, drops := b.metrics(), dropped(b.rtc)
	pages := k.fill(0, n)
	c.wheel.reset()
	cpu, began := b.cpu(), time.Now()
	time.Sleep(hold)
	heard, took := c.wheel.reset(), time.Since(began)
	cpu = b.cpu() - cpu
	during := b.metrics()
	var posted, setUp spread
	for i, p := range pages {
		posted.add(p.posted)
		setUp.add(p.setUp)
		loud, of := p.tone(pitch)
		off, _ := p.tone(offPitch)
		require.Greater(t, of, 2*time.Second, "page %d hears the prompt", i)
		require.Greater(t, loud, 10*off+50, "page %d hears the prompt", i)
	}
	entries := k.keyIn(pages)
	sent := map[string]int64{}
	for _, p := range pages {
		sent[p.id] = p.sent.Load()
	}
	k.empty(pages)

	say(t, "%d calls of browsers for %s on %s", n, took.Round(time.Second), machine())
	say(t, "offer to answer: %s", posted.millis())
	say(t, "offer to running media: %s", setUp.millis())
	say(t, "distance of the interval between a call's packets from 20 ms: %s", heard.off.millis())
	say(t, "packets %d (%.2f per call and second), lost %d, out of order %d, dropped at the bridge's socket %d", heard.packets,
		float64(heard.packets)/float64(n)/took.Seconds(), heard.lost, heard.late, dropped(b.rtc)-drops)
	say(t, "CPU %.0f µs per second of a call, RSS %.0f kB per call", float64(cpu.Microseconds())/float64(n)/took.Seconds(),
		(during["process_resident_memory_bytes"]-before["process_resident_memory_bytes"])/1024/float64(n))

	require.InDelta(t, n, during["ivrbridge_rtc_peers"], 0)
	require.Less(t, float64(heard.lost), .001*float64(heard.packets), "packets lost on loopback")
	require.Greater(t, float64(heard.packets), .9*50*float64(n)*took.Seconds(), "packets that were never sent")
	b.awaitCalls(0)
	b.told(entries)
	b.compare(pages, sent)
	b.settled(before)
}

// keyIn lets each page key in another entry, and returns the entries.
func (k *book) keyIn(pages []*page) (entries []string) {
	t := k.crowd.t
	t.Helper()
	errs := make([]error, len(pages))
	var all sync.WaitGroup
	for i, p := range pages {
		entry := fmt.Sprintf("7%04d", i)
		entries = append(entries, entry)
		all.Go(func() { errs[i] = p.stream.press(entry + "#") })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	time.Sleep(500 * time.Millisecond)
	return entries
}

// told looks whether the agent was told each entry once.
func (b *bridge) told(entries []string) {
	b.t.Helper()
	told := map[string]int{}
	for _, r := range b.agent.Requests() {
		for _, entry := range entries {
			if strings.Contains(string(r.Body), `"`+entry+`"`) {
				told[entry]++
			}
		}
	}
	for _, entry := range entries {
		require.Equal(b.t, 1, told[entry], "entry %s", entry)
	}
}

// compare looks whether the bridge has got what the pages had sent when they were
// about to hang up, by its records.
func (b *bridge) compare(pages []*page, sent map[string]int64) {
	b.t.Helper()
	eventually(b.t, 10*time.Second, "records of all calls", func() bool {
		all := b.written()
		for _, p := range pages {
			if _, ok := all[p.id]; !ok {
				return false
			}
		}
		return true
	})
	all := b.written()
	var got, lost, other float64
	most := 0.0
	for _, p := range pages {
		m := all[p.id].Media
		got, lost, other = got+float64(m.Received), lost+float64(m.Lost), other+float64(m.Rejected+m.Late)
		most += float64(sent[p.id])
		// What is under way at the end is neither got nor lost.
		require.GreaterOrEqual(b.t, float64(m.Received), .999*float64(sent[p.id])-25, "packets of a page that the bridge has got")
		require.LessOrEqual(b.t, m.Received, uint64(p.sent.Load()), "packets of a page that the bridge has got")
	}
	say(b.t, "packets of the pages until they hung up %.0f, got by the bridge %.0f, lost %.0f, late or of another source %.0f", most, got, lost, other)
	require.Less(b.t, lost, .001*got, "packets lost on loopback")
}

// awaitCalls waits until so many calls are left.
func (b *bridge) awaitCalls(n int) {
	b.t.Helper()
	eventually(b.t, 20*time.Second, fmt.Sprintf("%d calls are left", n), func() bool {
		now := b.metrics()
		return now["ivrbridge_calls_active"] <= float64(n) && now["ivrbridge_rtc_peers"] <= float64(n)
	})
}

// TestLoadHalfOpen lets 1,000 pages offer and never connect, twice, while others
// talk: those notice nothing, and nothing of these remains.
func TestLoadHalfOpen(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const offers, most, talking, each = 1000, 200, 10, 10
	b := serveBrowsers(t, announcement)
	c := newCrowd(t, b, 1)
	k := c.book()
	pages := k.fill(0, talking)
	deaf, err := net.ListenPacket("udp4", "127.0.0.1:0") // which takes what ICE tries, and says nothing
	require.NoError(t, err)
	defer deaf.Close()
	sdp := k.deafOffer(deaf.LocalAddr().(*net.UDPAddr))
	drops := dropped(b.rtc)
	x := table{{"", "offers", "in s", "answered", "refused", "all gone after s", "live heap MB", "RSS MB", "goroutines", "descriptors"}}
	var at [3]map[string]float64 // before, and after each round
	at[0] = b.collected()
	x.row("before", "", "", "", "", "", at[0][live]/1e6, at[0][resident]/1e6, at[0]["go_goroutines"], at[0]["process_open_fds"])
	c.wheel.reset()
	for round := 1; round < len(at); round++ {
		began := time.Now()
		answered, refused := k.offers(sdp, 1000+round*offers/each, offers, each)
		posted, began := time.Since(began), time.Now()
		b.awaitCalls(talking)
		took := time.Since(began)
		now := b.collected()
		x.row(fmt.Sprintf("round %d", round), offers, posted.Seconds(), answered, refused, took.Seconds(),
			now[live]/1e6, now[resident]/1e6, now["go_goroutines"], now["process_open_fds"])
		require.GreaterOrEqual(t, answered, most)
		require.Positive(t, refused, "offers beyond rtc.max_unfinished")
		require.Less(t, took, 15*time.Second, "until half-open calls are gone")
		at[round] = now
	}
	heard := c.wheel.reset()
	for _, p := range pages {
		loud, of := p.tone(pitch)
		off, _ := p.tone(offPitch)
		require.Greater(t, of, 2*time.Second)
		require.Greater(t, loud, 10*off+50, "the sound of those who talk goes on")
	}
	k.empty(pages)
	say(t, "offers that never connect, beside %d calls of browsers, on %s", talking, machine())
	x.print(t)
	say(t, "those who talk: packets %d, lost %d (%d at the bridge's socket, %.0f between its parts); distance of the interval from 20 ms: %s",
		heard.packets, heard.lost, dropped(b.rtc)-drops, at[2]["ivrbridge_rtc_dropped_packets_total"]-at[0]["ivrbridge_rtc_dropped_packets_total"], heard.off.millis())
	require.Less(t, float64(heard.lost), .001*float64(heard.packets), "calls that ran noticed")
	for _, now := range at[1:] {
		for _, name := range []string{"go_goroutines", "process_open_fds", "ivrbridge_rtp_ports_used"} {
			require.LessOrEqual(t, now[name], at[0][name]+allowance[name], name)
		}
		require.LessOrEqual(t, now[live], 1.05*at[0][live]+6e6, "memory that half-open calls leave")
	}
	// Resident memory grows once, to twice what the first round had on the heap.
	require.LessOrEqual(t, at[2][resident], 1.1*at[1][resident]+24e6, "resident memory grows with half-open calls")
	b.awaitCalls(0)
}

const (
	live     = "live"
	resident = "process_resident_memory_bytes"
)

// collected waits for two collections of the program's garbage, of which asking
// for its metrics makes some, and returns the metrics with what is left on the
// heap as "live".
func (b *bridge) collected() map[string]float64 {
	b.t.Helper()
	for range 2 {
		before := b.metrics()["go_memstats_last_gc_time_seconds"]
		for limit := time.Now().Add(patience); b.metrics()["go_memstats_last_gc_time_seconds"] == before; {
			require.True(b.t, time.Now().Before(limit), "no collection")
		}
	}
	now := b.metrics()
	// With GOGC at 100 the next collection is due at twice what the last one left.
	now[live] = now["go_memstats_next_gc_bytes"] / 2
	return now
}

// deafOffer is what a page offers whose only candidate is a socket that never
// answers.
func (k *book) deafOffer(at *net.UDPAddr) string {
	t := k.crowd.t
	t.Helper()
	p, err := k.open(home)
	require.NoError(t, err)
	defer p.leave()
	text, err := p.offer()
	require.NoError(t, err)
	own := p.sock.LocalAddr().(*net.UDPAddr)
	require.Contains(t, text, fmt.Sprintf(" %d typ host", own.Port))
	return strings.ReplaceAll(text, fmt.Sprintf(" %d typ host", own.Port), fmt.Sprintf(" %d typ host", at.Port))
}

// offers posts an offer n times, from addresses of their own for so many each,
// and counts what is answered and what is refused for the moment.
func (k *book) offers(sdp string, first, n, each int) (answered, refused int) {
	t := k.crowd.t
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	status := map[int]int{}
	for i := range n / each {
		all.Go(func() {
			from := http.Client{Timeout: patience, Transport: dialFrom(address(first + i))}
			defer from.CloseIdleConnections()
			for range each {
				_, code, err := k.post(&from, sdp)
				mu.Lock()
				if err != nil {
					code = -1
				}
				status[code]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	answered, refused = status[http.StatusCreated], status[http.StatusTooManyRequests]
	require.Equal(t, n, answered+refused, "statuses of the answers: %v", status)
	return answered, refused
}
