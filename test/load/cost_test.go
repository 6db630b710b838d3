package load

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media"
)

// TestCost prints what a call costs the bridge at the numbers of calls in LEVELS
// (1,100,400), with sound in both directions for SPAN (10) seconds each. make
// bench runs it.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	span := time.Duration(number(t, "SPAN", 10)) * time.Second
	levels := numbers(t, "LEVELS", "1,100,400")
	most := 0
	for _, n := range levels {
		most = max(most, n)
	}
	b := serve(t, announcement)
	c := newCrowd(t, b, most+50)
	c.warm(20)
	// The ports and transactions of these calls are not what is looked for.
	eventually(t, 2*gone, "rest after the first calls", func() bool { return b.metrics()["ivrbridge_sip_transactions"] == 0 })
	before := b.metrics()
	x := table{
		{"calls", "CPU", "CPU per call", "in bare", "interval off 20 ms", "", "", "packets per", "lost", "RSS per", "heap and stacks"},
		{"", "% of a core", "µs per s", "sockets", "p50 ms", "p99", "p99.9", "call and s", "", "call kB", "per call kB"},
	}
	var calls []*call
	for _, n := range levels {
		require.GreaterOrEqual(t, n, len(calls), "LEVELS must rise")
		calls = append(calls, c.fill(n-len(calls), 50)...)
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
		x.row(n, 100*cpu.Seconds()/took.Seconds(), each, each/(50*bare), ms(heard.off.at(.5)), ms(heard.off.at(.99)), ms(heard.off.at(.999)),
			fmt.Sprintf("%.2f", float64(heard.packets)/float64(n)/took.Seconds()), heard.lost,
			grown("process_resident_memory_bytes"), grown("go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"))
	}
	c.empty(calls)
	say(t, "cost of calls on %s; a bare socket that sends and receives 50 packets a second is 1", machine())
	x.print(t)
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
