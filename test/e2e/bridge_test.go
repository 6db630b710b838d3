package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/record"
)

// key has the form of Voiceflow's keys; localflow takes any.
const key = "VF.DM.000000000000000000000000.test"

// pairs is how many calls a bridge has RTP ports for, resting ones included.
const pairs = 20

// A bridge is one running program.
type bridge struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	log  *journal
	sip  string  // host:port, UDP and TCP
	http string  // host:port
	idle float64 // goroutines without a call
	file string  // of call records
	over bool    // stop was asked for
}

// settings are what a test changes in the configuration.
type settings struct {
	agent *agent
	// conf is YAML beneath the agent; an asr of none and flite's voice are there
	// unless it names others.
	conf string
	// sip is YAML beneath sip, trunks a whole block; empty: the local trunk.
	sip, trunks string
	codecs      string
	http        string // YAML of a flow mapping, beside listen
}

// serve starts ivrbridge serve and waits until it takes calls.
func serve(t *testing.T, s settings) *bridge {
	t.Helper()
	need(t, "flite")
	b := &bridge{t: t, log: &journal{}}
	sip, web, rtp := freePorts(t, 2), freePorts(t, 4), freePorts(t, 2*pairs)
	b.sip, b.http = local(sip), local(web)
	var conf strings.Builder
	fmt.Fprintf(&conf, "sip:\n  listen: [\"udp://%s\", \"tcp://%s\"]\n%s", b.sip, b.sip, indent(2, s.sip))
	fmt.Fprintf(&conf, "media:\n  rtp_ports: %d-%d\n  fetch: {allow_private: [127.0.0.0/8]}\n", rtp, rtp+2*pairs-1)
	if s.codecs != "" {
		fmt.Fprintf(&conf, "  codecs: %s\n", s.codecs)
	}
	if s.trunks != "" {
		conf.WriteString("trunks:\n" + indent(2, s.trunks))
	}
	fmt.Fprintf(&conf, "agents:\n  - name: test\n    voiceflow: {url: %q, api_key: %s, environment: production}\n", s.agent.url, key)
	for k, v := range map[string]string{"asr": "{provider: none}", "tts": "{provider: flite}"} {
		if !strings.Contains("\n"+s.conf, "\n"+k+":") {
			fmt.Fprintf(&conf, "    %s: %s\n", k, v)
		}
	}
	conf.WriteString(indent(4, s.conf))
	fmt.Fprintf(&conf, "http: {listen: %q, %s}\nrtc: {listen: %q}\nlog: {level: debug, format: json}\n", b.http, s.http, local(web+2))
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(conf.String()), 0o600))
	b.start("serve", "--config", file)
	return b
}

// demo starts ivrbridge demo and waits until it takes calls.
func demo(t *testing.T, args ...string) *bridge {
	t.Helper()
	need(t, "flite")
	b := &bridge{t: t, log: &journal{}}
	sip, web, rtp := freePorts(t, 4), freePorts(t, 4), freePorts(t, 2*pairs)
	b.sip, b.http = local(sip), local(web)
	b.start(append([]string{
		"demo", "--sip", b.sip, "--http", b.http, "--rtp", fmt.Sprintf("%d-%d", rtp, rtp+2*pairs-1), "--rtc", local(web + 2),
		"--log-level", "debug", "--log-format", "json",
	}, args...)...)
	return b
}

func indent(n int, yaml string) string {
	if strings.TrimSpace(yaml) == "" {
		return ""
	}
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimSpace(yaml), "\n", "\n"+pad) + "\n"
}

// start runs the program; the test's end stops it and looks for what is left.
func (b *bridge) start(args ...string) {
	b.t.Helper()
	b.file = filepath.Join(b.t.TempDir(), "records.jsonl")
	b.cmd = exec.Command(program(b.t), append(args, "--records", b.file)...)
	b.cmd.Dir = b.t.TempDir()
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	b.done = make(chan struct{})
	require.NoError(b.t, b.cmd.Start())
	go func() {
		defer close(b.done)
		_ = b.cmd.Wait()
	}()
	b.t.Cleanup(func() {
		if !b.over && !b.t.Failed() {
			b.clean()
			b.stop()
		}
		b.signal(syscall.SIGKILL)
		<-b.done
		if b.t.Failed() {
			b.t.Logf("log of %s:\n%s", strings.Join(args[:1], " "), tail(b.log.String(), 16000))
		}
	})
	await(b.t, 30*time.Second, "ready", func() bool { return b.gone() || b.status("/readyz") == http.StatusOK })
	require.False(b.t, b.gone(), "the program ended: %s", b.log)
	b.idle = b.metric("go_goroutines")
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (b *bridge) gone() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

func (b *bridge) signal(s os.Signal) {
	if !b.gone() {
		_ = b.cmd.Process.Signal(s)
	}
}

// stop asks the program to end by SIGTERM: it must do so with code 0, and must
// not have met a fault.
func (b *bridge) stop() {
	b.t.Helper()
	b.signal(syscall.SIGTERM)
	b.exits(20 * time.Second)
}

// exits waits for the end that was asked for.
func (b *bridge) exits(within time.Duration) {
	b.t.Helper()
	b.over = true
	await(b.t, within, "exit", b.gone)
	require.Equal(b.t, 0, b.cmd.ProcessState.ExitCode(), "exit code")
	log := b.log.String()
	for _, word := range []string{"panic", "goroutine ", "DATA RACE", "fatal error", `"stack"`} {
		require.NotContains(b.t, log, word, "a fault in the log")
	}
}

// clean looks for what calls leave behind.
func (b *bridge) clean() {
	b.t.Helper()
	await(b.t, 20*time.Second, "no call left", func() bool {
		return b.metric("ivrbridge_calls_active") == 0 && b.metric("ivrbridge_sip_calls") == 0
	})
	// Idle connections of HTTP, of SIP over TCP and to a recogniser may stay.
	if !eventually(b.t, 20*time.Second, func() bool { return b.metric("go_goroutines") <= b.idle+16 }) {
		require.FailNow(b.t, "goroutines left", "%v of %v at start", b.metric("go_goroutines"), b.idle)
	}
}

var plainHTTP = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (b *bridge) status(path string) int {
	r, err := plainHTTP.Get("http://" + b.http + path)
	if err != nil {
		return 0
	}
	_ = r.Body.Close()
	return r.StatusCode
}

// metric adds up all series of a name that have all the labels, written
// key="value".
func (b *bridge) metric(name string, labels ...string) float64 {
	r, err := plainHTTP.Get("http://" + b.http + "/metrics")
	if err != nil {
		return -1
	}
	defer r.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(r.Body)
scan:
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue scan
			}
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sum += v
		}
	}
	return sum
}

// ended waits for the first call's end and returns its line in the log.
func (b *bridge) ended(within time.Duration) entry {
	b.t.Helper()
	return b.log.await(b.t, within, "call ended")
}

// records returns what was written about the calls that ended, at least n.
func (b *bridge) records(n int) []record.Record {
	b.t.Helper()
	var all []record.Record
	await(b.t, 15*time.Second, "call record", func() bool {
		all = nil
		text, err := os.ReadFile(b.file)
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(text)) {
			var r record.Record
			if json.Unmarshal([]byte(line), &r) == nil && r.Class != "" {
				all = append(all, r)
			}
		}
		return len(all) >= n
	})
	return all
}

// heard is all that the caller of the first call was told.
func (b *bridge) heard() string {
	b.t.Helper()
	var all []string
	for _, u := range b.records(1)[0].Turns {
		all = append(all, u.Heard)
	}
	return strings.Join(all, " | ")
}

// desk is the address of a demo's human: the next port but one.
func (b *bridge) desk() string {
	b.t.Helper()
	at, err := netip.ParseAddrPort(b.sip)
	require.NoError(b.t, err)
	return local(int(at.Port()) + 2)
}

// get reads JSON of the API.
func (b *bridge) get(path string, into any) {
	b.t.Helper()
	r, err := http.Get("http://" + b.http + path)
	require.NoError(b.t, err)
	defer func() { _ = r.Body.Close() }()
	require.Equal(b.t, http.StatusOK, r.StatusCode)
	require.NoError(b.t, json.NewDecoder(r.Body).Decode(into))
}

// post sends JSON to the API, which takes it.
func (b *bridge) post(path, body string) {
	b.t.Helper()
	r, err := http.Post("http://"+b.http+path, "application/json", strings.NewReader(body))
	require.NoError(b.t, err)
	_ = r.Body.Close()
	require.Less(b.t, r.StatusCode, 300)
}
