package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A chromium is one browser with one page, driven by browser/driver.mjs.
type chromium struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	n   int
	// probe is the object in the page that shows the call.
	probe string
}

// sight is how a page is looked at.
type sight struct {
	Microphone string         `json:"microphone,omitempty"` // WAV file; empty: permission is refused
	Viewport   map[string]int `json:"viewport,omitempty"`
	Scheme     string         `json:"colorScheme,omitempty"`
}

// browse starts Chromium. Tests with a browser do not run beside others: it
// takes what cores there are.
func browse(t *testing.T, s sight) *chromium {
	t.Helper()
	need(t, "node", "chromium", "flite", "sox")
	if _, err := os.Stat("browser/node_modules/.package-lock.json"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("browser/node_modules is missing: run make e2e")
		}
		t.Skip("browser/node_modules is missing: run make e2e")
	}
	c := &chromium{t: t, probe: "window.ivrbridge", cmd: exec.Command("node", "browser/driver.mjs")}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	c.in, c.out = in, bufio.NewScanner(out)
	c.out.Buffer(nil, 16<<20)
	t.Cleanup(c.quit)
	c.do("launch", s)
	return c
}

func (c *chromium) quit() {
	_ = c.in.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait()
}

// do gives a command and returns its result as JSON.
func (c *chromium) do(command string, options any) json.RawMessage {
	c.t.Helper()
	value, err := c.try(command, options)
	require.NoError(c.t, err)
	return value
}

func (c *chromium) try(command string, options any) (json.RawMessage, error) {
	c.t.Helper()
	c.n++
	all := map[string]any{}
	if options != nil {
		b, err := json.Marshal(options)
		require.NoError(c.t, err)
		require.NoError(c.t, json.Unmarshal(b, &all))
	}
	all["id"], all["command"] = c.n, command
	b, err := json.Marshal(all)
	require.NoError(c.t, err)
	_, err = c.in.Write(append(b, '\n'))
	require.NoError(c.t, err)
	require.True(c.t, c.out.Scan(), "the browser's driver ended")
	var answer struct {
		ID    int             `json:"id"`
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}
	require.NoError(c.t, json.Unmarshal(c.out.Bytes(), &answer))
	require.Equal(c.t, c.n, answer.ID)
	if answer.Error != "" {
		return nil, fmt.Errorf("%s", answer.Error)
	}
	return answer.Value, nil
}

func (c *chromium) open(url string) { c.t.Helper(); c.do("open", map[string]any{"url": url}) }

func (c *chromium) click(selector string) {
	c.t.Helper()
	c.do("click", map[string]any{"selector": selector})
}

// wait returns the value of an expression of the page when it has become true.
func (c *chromium) wait(limit time.Duration, script string) json.RawMessage {
	c.t.Helper()
	value, err := c.try("wait", map[string]any{"script": script, "timeout": limit.Milliseconds()})
	if err != nil {
		state, _ := c.try("evaluate", map[string]any{"script": "JSON.stringify({state: document.documentElement.dataset, events: (" + c.probe + "?.events ?? []).filter((x) => x.kind !== 'stats').slice(-40).map((x) => x.kind + ' ' + JSON.stringify(x.data).slice(0, 160))})"})
		c.t.Fatalf("not within %s: %s\n%v\n%s", limit, script, err, state)
	}
	return value
}

func (c *chromium) evaluate(script string) json.RawMessage {
	c.t.Helper()
	return c.do("evaluate", map[string]any{"script": script})
}

func (c *chromium) number(script string) float64 {
	c.t.Helper()
	var n float64
	require.NoError(c.t, json.Unmarshal(c.evaluate(script), &n))
	return n
}

// event waits for an event of the call that the script's condition holds for; e
// is the event's data.
func (c *chromium) event(limit time.Duration, kind, condition string) map[string]any {
	c.t.Helper()
	found := c.wait(limit, fmt.Sprintf(
		"(() => { const found = %s.events.findLast((x) => x.kind === %q && ((e) => %s)(x.data)); return found ? found.data : null; })()", c.probe, kind, condition))
	var data map[string]any
	require.NoError(c.t, json.Unmarshal(found, &data))
	return data
}

// quiet asserts that the page complained about nothing.
func (c *chromium) quiet() {
	c.t.Helper()
	var noise []string
	require.NoError(c.t, json.Unmarshal(c.do("noise", nil), &noise))
	require.Empty(c.t, noise)
}

// microphone makes a microphone's file: words, each after so many seconds of silence,
// and a long silence behind them.
func microphone(t *testing.T, parts ...any) string {
	t.Helper()
	need(t, "flite", "sox")
	dir := t.TempDir()
	files := []string{}
	for i, p := range parts {
		file := filepath.Join(dir, fmt.Sprintf("%d.wav", i))
		switch p := p.(type) {
		case float64:
			run(t, "sox", "-q", "-n", "-r", "48000", "-c", "1", "-b", "16", file, "trim", "0", fmt.Sprint(p))
		case string:
			said := filepath.Join(dir, "said.wav")
			run(t, "flite", "-voice", "rms", "-t", p, "-o", said)
			run(t, "sox", "-q", said, "-r", "48000", "-c", "1", "-b", "16", file, "norm", "-6")
		}
		files = append(files, file)
	}
	all := filepath.Join(dir, "microphone.wav")
	run(t, "sox", append(append([]string{"-q"}, files...), all, "pad", "0", "120")...)
	return all
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
}
