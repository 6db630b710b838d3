package load

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// Ports lie below those that the kernel gives to clients. What is in use there
// is left out.
const (
	bridgePorts = 12000
	callerPorts = 26000
	mostPairs   = 6900 // of the bridge
	callerPairs = 2900
)

const testKey = "VF.DM.000000000000000000000000.load"

// A bridge is the program under test with an agent for it.
type bridge struct {
	t     *testing.T
	cmd   *exec.Cmd
	agent *localflow.Server
	host  *httptest.Server // of the agent; nil: the program's own
	sip   netip.AddrPort
	rtc   netip.AddrPort // of browsers' media; zero: none
	http  string
	log   string // file
	// records is the file that tells of ended calls.
	records string
	done    chan struct{}
}

// announcement plays the prompt and listens to the caller for the rest of the
// call. The prompt is a minute of something like speech.
const announcement = `
blocks:
  start:
    - audio: PROMPT
    - goto: listen
  listen:
    - dtmf: {timeout: 4, delimiter: ["#"], max_digits: 60}
    - capture: {into: keyed, no_reply: {timeout: 3600, goto: listen}}
    - goto: listen
`

// serve starts the program with a flow in which PROMPT stands for the URL of
// the prompt.
func serve(t *testing.T, flow string) *bridge {
	t.Helper()
	return serveAt(t, flow, netip.AddrPort{})
}

// serveBrowsers starts the program with a port for browsers as well.
func serveBrowsers(t *testing.T, flow string) *bridge {
	t.Helper()
	return serveAt(t, flow, freePort(t))
}

func serveAt(t *testing.T, flow string, rtc netip.AddrPort) *bridge {
	t.Helper()
	web := http.NewServeMux()
	host := httptest.NewServer(web)
	t.Cleanup(host.Close)
	wav := prompt(t)
	web.HandleFunc("/prompt.wav", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wav))
	})
	f, err := localflow.Parse([]byte(strings.ReplaceAll(flow, "PROMPT", host.URL+"/prompt.wav")))
	require.NoError(t, err)
	b := &bridge{t: t, agent: localflow.New(f, localflow.Options{}), host: host, rtc: rtc}
	t.Cleanup(func() { _ = b.agent.Close() })
	web.Handle("/", b.agent)
	b.sip = freePort(t)
	b.http = freePort(t).String()
	browsers := ""
	if rtc.IsValid() {
		browsers = rtc.String()
	}
	conf := fmt.Sprintf(`
sip: {listen: ["udp://%[1]s", "tcp://%[1]s"], max_calls: 5000}
media: {rtp_ports: %[2]d-%[3]d, fetch: {allow_private: [127.0.0.0/8]}}
agents:
  - name: load
    voiceflow: {url: %[4]q, api_key: %[5]s, environment: production, rate: ""}
    asr: {provider: none}
    tts: {provider: recorded}
http: {listen: %[6]q}
rtc: {listen: %[7]q}
log: {level: info, format: json}
`, b.sip, bridgePorts, bridgePorts+2*mostPairs-1, host.URL, testKey, b.http, browsers)
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	b.start("serve", "--config", file)
	return b
}

// program is the path of the program under test.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("IVRBRIDGE_BIN")
	if path == "" {
		t.Skip("IVRBRIDGE_BIN names no program: run make load")
	}
	return path
}

func (b *bridge) start(args ...string) {
	t := b.t
	t.Helper()
	dir := t.TempDir()
	b.log, b.records = filepath.Join(dir, "log"), filepath.Join(dir, "records.jsonl")
	out, err := os.Create(b.log)
	require.NoError(t, err)
	b.cmd = exec.Command(program(t), append(args, "--records", b.records)...)
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = dir, out, out
	require.NoError(t, b.cmd.Start())
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		_ = b.cmd.Wait()
		_ = out.Close()
	}()
	t.Cleanup(b.stop)
	eventually(t, time.Minute, "ready", func() bool {
		r, err := client.Get("http://" + b.http + "/readyz")
		if err != nil {
			return b.gone()
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	require.False(t, b.gone(), "the program ended")
}

func (b *bridge) gone() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// stop ends the program, which must not have met a fault.
func (b *bridge) stop() {
	fell := b.gone()
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-time.After(20 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.done
		b.t.Error("the program did not end within 20 s of SIGTERM")
	}
	log, err := os.ReadFile(b.log)
	if err != nil {
		b.t.Error(err)
	}
	if fell || b.cmd.ProcessState.ExitCode() != 0 {
		b.t.Errorf("the program ended with %s", b.cmd.ProcessState)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "panic") || strings.Contains(line, "fatal error") || strings.Contains(line, "DATA RACE") {
			b.t.Errorf("a fault in the log: %s", line)
		}
	}
	if b.t.Failed() {
		b.t.Logf("end of the log:\n%s", log[max(0, len(log)-8000):])
	}
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// metrics reads all metrics, added up over their labels.
func (b *bridge) metrics() map[string]float64 {
	b.t.Helper()
	r, err := client.Get("http://" + b.http + "/metrics")
	require.NoError(b.t, err)
	defer r.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if i := strings.IndexByte(name, '{'); i >= 0 {
			name, value = name[:i], lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			all[name] += v
		}
	}
	return all
}

// What calls use, and what must be back where it was some time after them.
var state = []string{
	"ivrbridge_calls_active", "ivrbridge_rtc_peers", "ivrbridge_sip_calls", "ivrbridge_sip_dialogs", "ivrbridge_sip_transactions", "ivrbridge_rtp_ports_used",
	"go_goroutines", "process_open_fds",
}

// allowance is for what begins and ends at any time: collections, a look at the
// metrics.
var allowance = map[string]float64{"go_goroutines": 10, "process_open_fds": 5}

// settled waits until all state of calls is gone, and says how long that took.
func (b *bridge) settled(before map[string]float64) {
	b.t.Helper()
	if b.host != nil {
		b.host.CloseClientConnections() // which HTTP keeps for a while
	}
	began, left := time.Now(), map[string]bool{}
	for _, name := range state {
		left[name] = true
	}
	took := table{{"state", "before", "after the calls", "gone after s"}}
	at := b.metrics()
	for now := at; ; now = b.metrics() {
		for name := range left {
			if now[name] <= before[name]+allowance[name] {
				took.row(name, before[name], at[name], time.Since(began).Seconds())
				delete(left, name)
			}
		}
		if len(left) == 0 {
			break
		}
		if time.Since(began) > gone {
			for _, name := range slices.Sorted(maps.Keys(left)) {
				took.row(name, before[name], now[name], "never")
			}
			took.print(b.t)
			require.FailNow(b.t, "state of calls remains", "%s after they ended: %v", gone, slices.Sorted(maps.Keys(left)))
		}
		time.Sleep(250 * time.Millisecond)
	}
	took.print(b.t)
}

// drops is how many datagrams found the socket for SIP full.
func (b *bridge) drops() int { return dropped(b.sip) }

// dropped is how many datagrams found a UDP socket of this host full.
func dropped(at netip.AddrPort) int {
	text, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0
	}
	a := at.Addr().As4()
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], at.Port())
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 12 && f[1] == local {
			n, _ := strconv.Atoi(f[12])
			return n
		}
	}
	return 0
}

// cpu is the time that the program has computed.
func (b *bridge) cpu() time.Duration {
	b.t.Helper()
	// The scheduler's clock has nanoseconds; /proc/PID/stat only has ticks of
	// 10 ms.
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", b.cmd.Process.Pid))
	require.NoError(b.t, err)
	var sum time.Duration
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			first, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(n)
		}
	}
	if sum > 0 {
		return sum
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	require.NoError(b.t, err)
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')'):]))
	user, _ := strconv.Atoi(f[12])
	system, _ := strconv.Atoi(f[13])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func eventually(t *testing.T, within time.Duration, what string, met func() bool) {
	t.Helper()
	for limit := time.Now().Add(within); !met(); time.Sleep(50 * time.Millisecond) {
		require.Less(t, time.Now().UnixNano(), limit.UnixNano(), "did not happen within %s: %s", within, what)
	}
}

// freePort returns a port of this host that neither UDP nor TCP uses.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenPacket("udp", at.String())
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return at
		}
	}
	require.FailNow(t, "no free port")
	return netip.AddrPort{}
}

// prompt is a minute of sound with the ups and downs of speech, as WAV.
func prompt(t *testing.T) []byte {
	t.Helper()
	sound := make([]int16, 60*pcm.Rate)
	for i := range sound {
		x := float64(i) / pcm.Rate
		loud := max(0, math.Sin(2*math.Pi*3.5*x)) * (1 + math.Sin(2*math.Pi*.4*x)) / 2
		for h := 1.0; h < 12; h++ {
			sound[i] += int16(2500 * loud / h * math.Sin(2*math.Pi*130*h*x))
		}
	}
	var b bytes.Buffer
	require.NoError(t, pcm.WriteWAV(&b, pcm.Rate, 1, sound))
	return b.Bytes()
}
