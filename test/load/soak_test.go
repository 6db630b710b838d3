package load

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/caller"
)

// Calls of the soak by what their callers do. The demo's flow says what they
// hear.
var habits = []struct {
	name   string
	share  int // of a hundred
	script string
	// cut is at most how long the caller stays, hanging up at any moment before; 0:
	// to the end of the script.
	cut time.Duration
}{
	{name: "keys in an order", share: 20, script: `
- hear: {within: 20s}
- press: "1"
- silence: {within: 30s}
- press: "1002#"
- hear: {within: 20s}
- silence: {within: 30s}
- hangup: true
`},
	{name: "interrupts by key", share: 15, script: `
- hear: {within: 20s}
- wait: 500ms
- press: "2"
- hear: {within: 20s}
- hangup: true
`},
	{name: "speaks", share: 15, script: `
- hear: {within: 20s}
- silence: {within: 30s}
- play: SPEECH
- hear: {within: 30s}
- hangup: true
`},
	{name: "holds", share: 10, script: `
- hear: {within: 20s}
- hold: true
- wait: 2s
- hold: false
- hear: {within: 30s}
- press: "2"
- hear: {within: 20s}
- hangup: true
`},
	{name: "wants a human", share: 15, script: `
- hear: {within: 20s}
- press: "3"
- event: {refer: true, within: 30s}
- wait: 3s
- hangup: true
`},
	{name: "gives up", share: 25, cut: 8 * time.Second},
}

const (
	lanes     = 10 // callers with a script at a time
	listeners = 10 // callers that only listen, besides
	lanePorts = 16
)

// TestSoak keeps all kinds of calls coming for SOAK (2m) and looks at what grows
// meanwhile. The human is busy for half of the time.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	span, err := time.ParseDuration(setting("SOAK", "2m"))
	require.NoError(t, err)
	b := demo(t)
	c := newCrowd(t, b, 2*listeners)
	speech := speechFile(t)
	c.warm(2)
	before := b.metrics()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	log := &outcomes{n: map[string]int{}, failed: map[string]int{}}
	var all sync.WaitGroup
	for i := range lanes {
		all.Go(func() {
			for ctx.Err() == nil {
				log.call(ctx, b, speech, i)
			}
		})
	}
	for range listeners {
		all.Go(func() {
			for ctx.Err() == nil {
				log.listen(c)
			}
		})
	}
	seen := b.watch(ctx)
	all.Wait()

	say(t, "%s of calls on %s", span, machine())
	log.print(t)
	seen.print(t)
	require.Empty(t, log.failed, "calls that did not go as they should: %v", log.errs)
	b.settled(before)
	end := b.metrics()
	for _, name := range []string{"ivrbridge_panics_total", "ivrbridge_rtp_leg_panics_total", "ivrbridge_rtp_events_dropped_total"} {
		require.Zero(t, end[name], name)
	}
}

// demo starts the program's demo: an agent and a human inside.
func demo(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{t: t, sip: freePort(t), http: freePort(t).String()}
	b.start("demo", "--sip", b.sip.String(), "--http", b.http, "--rtp", fmt.Sprintf("%d-%d", bridgePorts, bridgePorts+3999), "--log-format", "json")
	return b
}

// speechFile is what the callers say, "" without a voice.
func speechFile(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("flite"); err != nil {
		say(t, "flite is not installed: nobody speaks")
		return ""
	}
	path := filepath.Join(t.TempDir(), "speech.wav")
	out, err := exec.Command("flite", "-voice", "kal16", "-t", "opening hours", "-o", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// outcomes is what became of the calls, by kind.
type outcomes struct {
	mu     sync.Mutex
	n      map[string]int
	failed map[string]int
	errs   []string
}

func (o *outcomes) note(kind string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n[kind]++
	if err != nil {
		o.failed[kind]++
		if len(o.errs) < 10 {
			o.errs = append(o.errs, kind+": "+err.Error())
		}
	}
}

func (o *outcomes) print(t *testing.T) {
	t.Helper()
	x := table{{"a caller who", "calls", "not as they should"}}
	for _, kind := range slices.Sorted(maps.Keys(o.n)) {
		x.row(kind, o.n[kind], o.failed[kind])
	}
	x.print(t)
}

// call is one call of a lane.
func (o *outcomes) call(ctx context.Context, b *bridge, speech string, lane int) {
	pick := rand.IntN(100)
	h := habits[0]
	for _, h = range habits {
		if pick -= h.share; pick < 0 {
			break
		}
	}
	if strings.Contains(h.script, "SPEECH") && speech == "" {
		return
	}
	first := uint16(callerPorts + 1000 + lane*lanePorts)
	conf := caller.Config{
		Target: fmt.Sprintf("sip:demo@%s", b.sip), From: "sip:+14155550123@127.0.0.1", Log: zap.NewNop(),
		Ports: [2]uint16{first, first + lanePorts - 1},
	}
	// Calls under way at the end of the soak go on to their own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
	defer cancel()
	if h.cut > 0 {
		ctx, cancel = context.WithTimeout(ctx, rand.N(h.cut))
		defer cancel()
		_, _ = caller.Run(ctx, conf)
		o.note(h.name, nil)
		return
	}
	script, err := caller.Parse([]byte(strings.ReplaceAll(h.script, "SPEECH", speech)))
	if err == nil {
		conf.Script = script
		_, err = caller.Run(ctx, conf)
	}
	if err != nil && strings.Contains(err.Error(), "open socket") {
		return // someone else was quicker to take the port
	}
	o.note(h.name, err)
}

// listen is one call of a caller that listens for a while.
func (o *outcomes) listen(c *crowd) {
	l, err := c.dial(nil)
	if err == nil {
		time.Sleep(rand.N(10 * time.Second))
		err = l.hangUp()
	}
	o.note("listens", err)
}

// A watch is how the program's state went.
type watch struct {
	minutes []float64
	values  map[string][]float64
}

var watched = []string{
	"process_resident_memory_bytes", "go_memstats_heap_inuse_bytes", "go_goroutines", "process_open_fds", "ivrbridge_rtp_ports_used",
	"ivrbridge_sip_transactions", "ivrbridge_calls_active",
}

// watch follows the program's state until ctx ends and makes the human busy
// and free meanwhile.
func (b *bridge) watch(ctx context.Context) *watch {
	w := &watch{values: map[string][]float64{}}
	began := time.Now()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for busy := false; ; {
		select {
		case <-ctx.Done():
			return w
		case <-tick.C:
		}
		now := b.metrics()
		w.minutes = append(w.minutes, time.Since(began).Minutes())
		for _, name := range watched {
			w.values[name] = append(w.values[name], now[name])
		}
		if want := len(w.minutes)/10%2 == 1; want != busy {
			if r, err := client.PostForm("http://"+b.http+"/demo/human", url.Values{"busy": {strconv.FormatBool(want)}}); err == nil {
				_ = r.Body.Close()
				if r.StatusCode < http.StatusBadRequest {
					busy = want
				}
			}
		}
	}
}

// print tells where the values went after the first minute or quarter: until
// then ports and transactions of ended calls fill up.
func (w *watch) print(t *testing.T) {
	t.Helper()
	if len(w.minutes) < 8 {
		return
	}
	end := w.minutes[len(w.minutes)-1]
	from, _ := slices.BinarySearch(w.minutes, max(min(1, end/2), end/4))
	x := table{{"state", "least", "mean", "most", "slope per minute", "% per 10 min"}}
	for _, name := range watched {
		v := w.values[name][from:]
		sum := 0.0
		for _, y := range v {
			sum += y
		}
		mean, rise := sum/float64(len(v)), slope(w.minutes[from:], v)
		unit := 1.0
		if strings.HasSuffix(name, "_bytes") {
			unit = 1e6
		}
		percent := 0.0
		if mean > 0 {
			percent = 1000 * rise / mean
		}
		x.row(name, slices.Min(v)/unit, mean/unit, slices.Max(v)/unit, fmt.Sprintf("%+.3f", rise/unit), fmt.Sprintf("%+.1f", percent))
	}
	say(t, "from minute %.1f to %.1f, bytes in MB", w.minutes[from], end)
	x.print(t)
}
