package load

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media"
)

// TestCost prints what a call costs the bridge at the numbers of calls in LEVELS
// (1,100,200,400), with sound in both directions for SPAN (10) seconds each, and
// what a browser's costs at those in BROWSER_LEVELS (100,200). make bench runs it.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	span := time.Duration(number(t, "SPAN", 10)) * time.Second
	levels, browsers := numbers(t, "LEVELS", "1,100,200,400"), numbers(t, "BROWSER_LEVELS", "100,200")
	require.True(t, slices.IsSorted(levels) && slices.IsSorted(browsers), "the levels must rise")
	x := table{
		{"calls", "", "CPU", "CPU per call", "in bare", "interval off 20 ms", "", "", "packets per", "lost", "RSS per", "heap and stacks"},
		{"", "", "% of a core", "µs per s", "sockets", "p50 ms", "p99", "p99.9", "call and s", "", "call kB", "per call kB"},
	}
	telephone, browser := map[int]float64{}, map[int]float64{}

	b := serve(t, announcement)
	c := newCrowd(t, b, slices.Max(levels)+50)
	c.warm(20)
	// The ports and transactions of these calls are not what is looked for.
	eventually(t, 2*gone, "rest after the first calls", func() bool { return b.metrics()["ivrbridge_sip_transactions"] == 0 })
	before := b.metrics()
	var calls []*call
	for _, n := range levels {
		calls = append(calls, c.fill(n-len(calls), 50)...)
		telephone[n] = c.cost(&x, "telephones", n, span, before)
	}
	c.empty(calls)

	b = serveBrowsers(t, announcement)
	c = newCrowd(t, b, 1)
	k := c.book()
	k.empty(k.fill(slices.Max(browsers), 20))
	b.awaitCalls(0)
	before = b.metrics()
	var pages []*page
	for _, n := range browsers {
		pages = append(pages, k.fill(len(pages), n-len(pages))...)
		browser[n] = c.cost(&x, "browsers", n, span, before)
	}
	k.empty(pages)

	say(t, "cost of calls on %s; a bare socket that sends and receives 50 packets a second is 1", machine())
	x.print(t)
	for _, n := range browsers {
		if telephone[n] > 0 {
			say(t, "at %d calls a browser's costs %.1f times a telephone's", n, browser[n]/telephone[n])
		}
	}
	sealing := 50 * bareCipher(t)
	n := slices.Max(browsers)
	say(t, "AES-256-GCM alone, one packet sealed and one opened, 50 times a second: %.0f µs per s of a call, %.1f %% of a browser's at %d calls",
		sealing, 100*sealing/browser[n], n)
}

// cost measures n calls for a while, adds a row to a table and returns the CPU
// time of a call in µs per second.
func (c *crowd) cost(x *table, kind string, n int, span time.Duration, before map[string]float64) float64 {
	t, b := c.t, c.owner
	t.Helper()
	time.Sleep(time.Second)
	bare := bareSockets(t)
	c.wheel.reset()
	cpu, began := b.cpu(), time.Now()
	time.Sleep(span)
	cpu, took := b.cpu()-cpu, time.Since(began)
	heard := c.wheel.reset()
	now := b.metrics()
	grown := func(names ...string) float64 {
		sum := 0.0
		for _, name := range names {
			sum += now[name] - before[name]
		}
		return sum / 1024 / float64(n)
	}
	each := cpu.Seconds() * 1e6 / float64(n) / took.Seconds()
	x.row(n, kind, 100*cpu.Seconds()/took.Seconds(), each, each/(50*bare), ms(heard.off.at(.5)), ms(heard.off.at(.99)), ms(heard.off.at(.999)),
		fmt.Sprintf("%.2f", float64(heard.packets)/float64(n)/took.Seconds()), heard.lost,
		grown("process_resident_memory_bytes"), grown("go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"))
	return each
}

// bareCipher is what the cipher of SRTP takes for one packet out and one in, in
// µs: the least that encryption can cost on this machine at this moment.
func bareCipher(t *testing.T) float64 {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	require.NoError(t, err)
	seal, err := cipher.NewGCM(block)
	require.NoError(t, err)
	nonce, head, sound := make([]byte, seal.NonceSize()), make([]byte, 12), make([]byte, samples)
	out, back := make([]byte, 0, 256), make([]byte, 0, 256)
	const n = 20000
	began := time.Now()
	for range n {
		out = seal.Seal(out[:0], nonce, sound, head)
		back, err = seal.Open(back[:0], nonce, out, head)
		require.NoError(t, err)
	}
	return time.Since(began).Seconds() * 1e6 / n
}

// bareSockets is what one packet out and one in cost, in µs: the least that a
// call can cost on this machine at this moment.
func bareSockets(t *testing.T) float64 {
	t.Helper()
	ports := media.UDPPorts(home, 11000, 11098, 0)
	defer ports.Close()
	a, b, err := ports.Open()
	require.NoError(t, err)
	defer a.Close()
	defer b.Close()
	to := netip.AddrPortFrom(home, b.LocalPort())
	require.NoError(t, a.Connect(to))
	packet, buf := make([]byte, 172), make([]byte, 2048)
	const n = 20000
	began := time.Now()
	for range n {
		require.NoError(t, a.Send(packet, to))
		_, _, err := b.Recv(buf)
		require.NoError(t, err)
	}
	return time.Since(began).Seconds() * 1e6 / n
}

func numbers(t *testing.T, name, otherwise string) []int {
	t.Helper()
	var out []int
	for part := range strings.SplitSeq(setting(name, otherwise), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		require.NoError(t, err, name)
		out = append(out, n)
	}
	return out
}
