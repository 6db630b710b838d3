package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// desktop and handset are what the page is looked at with.
var (
	desktop = map[string]int{"width": 1280, "height": 860}
	handset = map[string]int{"width": 390, "height": 844}
)

// call presses Call on the page of a bridge and waits until it is answered.
func (c *chromium) call(b *bridge) {
	c.t.Helper()
	c.open("http://" + b.http + "/")
	c.wait(20*time.Second, "document.querySelector('#agent')?.options.length > 0 && !document.querySelector('#call').disabled")
	c.click("#call")
	c.wait(30*time.Second, "['up', 'transferring', 'bridged', 'ended'].includes(document.documentElement.dataset.state)")
}

// loud waits until the page hears something.
func (c *chromium) loud(limit time.Duration) {
	c.t.Helper()
	c.wait(limit, c.probe+".remoteLevel() > -45")
}

func TestBrowserTalksToTheDemo(t *testing.T) {
	needRecogniser(t)
	b := demo(t)
	c := browse(t, sight{Microphone: microphone(t, 4., "opening hours"), Viewport: desktop})
	c.call(b)
	c.converses(controls{key: "[data-test='key-4']", choice: "#choices button:has-text('Speak to a human')"})
	c.wait(10*time.Second, "document.documentElement.dataset.state === 'bridged'")
	c.click("#hangup")
	c.wait(15*time.Second, "['ended', 'idle'].includes(document.documentElement.dataset.state)")
	c.quiet()

	rec := b.records(1)[0]
	require.Equal(t, "browser", rec.Trunk)
	require.Equal(t, "transferred", string(rec.Class))
	require.Len(t, rec.Transfers, 2)
	require.Equal(t, "busy", rec.Transfers[0].Outcome)
	require.Equal(t, "bridge", rec.Transfers[0].Mode)
	require.Equal(t, "connected", rec.Transfers[1].Outcome)
}

// controls are where a page is pressed: key 4, and the choice of a human.
type controls struct{ key, choice string }

// converses holds a whole conversation with the demo's flow, by a caller who says
// "opening hours" into the greeting: words, silence, a key, a choice that is
// clicked, a hand-over that fails and one that does not.
func (c *chromium) converses(at controls) {
	t := c.t
	t.Helper()
	c.event(10*time.Second, "agent", "e.text.includes('welcome')")
	c.loud(10 * time.Second)

	// Speech over the prompt stops it, is understood and answered.
	c.event(30*time.Second, "agent_end", "e.why === 'stopped'")
	c.event(30*time.Second, "caller", "e.final && e.text.toLowerCase().includes('opening hours')")
	c.event(30*time.Second, "agent", "e.text.includes('nine to five')")
	turn := c.event(30*time.Second, "turn", "e.n > 1 && e.first_packet !== null && e.speech_end !== null")
	order := []string{"speech_end", "transcript", "sent", "first_trace", "first_audio", "first_packet"}
	for i := range order[1:] {
		require.LessOrEqual(t, turn[order[i]], turn[order[i+1]], "%s before %s in %v", order[i], order[i+1], turn)
	}

	// Silence brings the flow's own words, when they are due.
	asked := c.event(30*time.Second, "listen", "e.open && e.no_reply > 5 && e.no_reply < 6.1")
	again := c.event(60*time.Second, "agent", "e.text.includes('Are you still there')")
	require.InDelta(t, asked["t"].(float64)+asked["no_reply"].(float64), again["t"], 3)

	// A key during the prompt; the boss is busy, and the caller is back.
	c.click(at.key)
	c.event(20*time.Second, "caller", "e.keyed && e.text === '4'")
	c.event(20*time.Second, "state", "e.state === 'transferring'")
	busy := c.event(30*time.Second, "transfer", "e.outcome === 'busy'")
	require.Equal(t, "486", busy["cause"])
	c.event(30*time.Second, "agent", "e.text.includes('another line')")
	c.event(30*time.Second, "listen", "e.open")

	// A choice that is clicked; the human answers and is heard.
	c.click(at.choice)
	c.event(30*time.Second, "transfer", "e.outcome === 'connected'")
	c.event(10*time.Second, "state", "e.state === 'bridged'")
	c.loud(15 * time.Second)
}

func TestBrowserHearsATone(t *testing.T) {
	const hz = 1000
	wav := toneFile(t, hz, 20)
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, wav) }))
	t.Cleanup(host.Close)
	b := serve(t, settings{agent: newAgent(t, fmt.Sprintf(`
blocks:
  start:
    - audio: %s/tone.wav
    - capture: {into: said}
    - end
`, host.URL))})
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.call(b)
	c.wait(20*time.Second, fmt.Sprintf("Math.abs(window.ivrbridge.remoteFrequency() - %d) < 20", hz))
	for range 5 {
		level, heard := c.number("window.ivrbridge.remoteLevel()"), c.number("window.ivrbridge.remoteFrequency()")
		require.InDelta(t, hz, heard, 20)
		require.InDelta(t, -19, level, 8, "dBFS of a prompt at -16 dBm0")
	}
	// Keys go as telephone-events.
	before := c.number("window.ivrbridge.events.filter((x) => x.kind === 'caller' && x.data.keyed).length")
	c.do("press", map[string]any{"key": "7"})
	c.event(20*time.Second, "caller", "e.keyed && e.text === '7'")
	require.InDelta(t, 0, before, 0)
	// A page that is closed hangs up.
	c.do("close", nil)
	await(t, 20*time.Second, "the call's end", func() bool { return b.metric("ivrbridge_calls_active") == 0 })
	rec := b.records(1)[0]
	require.Equal(t, "caller_hangup", string(rec.Class))
	c.quiet()
}

func toneFile(t *testing.T, hz, seconds int) string {
	t.Helper()
	need(t, "sox")
	file := filepath.Join(t.TempDir(), "tone.wav")
	run(t, "sox", "-q", "-n", "-r", "8000", "-c", "1", "-b", "16", file, "synth", strconv.Itoa(seconds), "sine", strconv.Itoa(hz), "vol", "0.3")
	return file
}

func TestBrowserShowsTextAsText(t *testing.T) {
	const attack = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`
	b := serve(t, settings{agent: newAgent(t, `
blocks:
  start:
    - text: '`+attack+`'
    - choice:
        options:
          - {button: '`+attack+`', goto: start}
`)})
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.call(b)
	c.event(20*time.Second, "listen", "e.choices.length === 1")
	c.do("fill", map[string]any{"selector": "#say-text", "text": attack})
	c.do("press", map[string]any{"key": "Enter"})
	c.wait(20*time.Second, "document.querySelector('#log').innerText.includes('onerror')")
	require.JSONEq(t, "true", string(c.evaluate("window.pwned === undefined && !document.querySelector('#desk img[onerror]')")))
	c.click("#hangup")
	c.quiet()
}

func TestBrowserWithoutAMicrophoneIsToldWhatToDo(t *testing.T) {
	b := serve(t, settings{agent: newAgent(t, "blocks:\n  start:\n    - speak: Hello.\n    - end\n")})
	c := browse(t, sight{Viewport: handset})
	c.open("http://" + b.http + "/")
	c.wait(20*time.Second, "!document.querySelector('#call').disabled")
	c.click("#call")
	c.wait(20*time.Second, "!document.querySelector('#trouble').hidden")
	var said string
	require.NoError(t, json.Unmarshal(c.do("text", map[string]any{"selector": "#trouble"}), &said))
	require.Contains(t, strings.ToLower(said), "microphone")
	require.InDelta(t, 0, b.metric("ivrbridge_calls_total"), 0, "no call was made")
}

func TestBrowserThatVanishesIsMissed(t *testing.T) {
	b := serve(t, settings{agent: newAgent(t, waiting)})
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.call(b)
	c.event(20*time.Second, "listen", "e.open")
	began := time.Now()
	c.do("crash", nil)
	await(t, 30*time.Second, "the call's end", func() bool { return b.metric("ivrbridge_calls_active") == 0 })
	t.Logf("noticed after %s", time.Since(began).Round(100*time.Millisecond))
	rec := b.records(1)[0]
	require.Equal(t, "media_timeout", string(rec.Class), rec.Why)
}

// TestBrowserHearsOfTheBridgesEnd ends the bridge under a call by a second
// SIGTERM.
func TestBrowserHearsOfTheBridgesEnd(t *testing.T) {
	b := serve(t, settings{agent: newAgent(t, waiting)})
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.call(b)
	c.event(20*time.Second, "listen", "e.open")
	b.signal(syscall.SIGTERM)
	b.log.await(t, 10*time.Second, "draining")
	b.signal(syscall.SIGTERM)
	b.exits(8 * time.Second)
	c.event(10*time.Second, "state", "e.state === 'ended' && e.why === 'the bridge was shut down'")
	require.Equal(t, "server_error", string(b.records(1)[0].Class))
}

// waiting asks and waits for a long time.
const waiting = `
blocks:
  start:
    - speak: What is it?
    - capture: {into: said, no_reply: {timeout: 600, goto: start}}
    - goto: start
`

func TestBrowserSignsInOverHTTPS(t *testing.T) {
	const token = "a token of sixteen letters and more"
	https := local(freePorts(t, 2))
	b := serve(t, settings{
		agent: newAgent(t, "blocks:\n  start:\n    - speak: Good day.\n    - end\n"),
		http:  fmt.Sprintf("token: %q, https: %q, tls: {cache: %q}", token, https, t.TempDir()),
	})
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.open("https://" + https + "/")
	c.wait(20*time.Second, "!document.querySelector('#signin').hidden")
	c.do("fill", map[string]any{"selector": "#signin-token", "text": "something else"})
	c.do("press", map[string]any{"key": "Enter"})
	c.wait(20*time.Second, "document.querySelector('#signin-error').innerText !== ''")
	c.do("fill", map[string]any{"selector": "#signin-token", "text": token})
	c.do("press", map[string]any{"key": "Enter"})
	c.wait(20*time.Second, "!document.querySelector('#desk').hidden && !document.querySelector('#call').disabled")
	c.click("#call")
	// The agent ends the call, and the page says so.
	c.event(30*time.Second, "agent", "e.text.includes('Good day')")
	ended := c.event(30*time.Second, "state", "e.state === 'ended'")
	require.Equal(t, "completed", ended["class"])
	c.wait(10*time.Second, "['ended', 'idle'].includes(document.documentElement.dataset.state)")
	require.NotContains(t, b.log.String(), token)
}

// A page of another host over plain http gets no microphone: it says where to go.
func TestBrowserWithoutHTTPSIsToldWhereToGo(t *testing.T) {
	https := freePorts(t, 2)
	b := serve(t, settings{
		agent: newAgent(t, waiting),
		http:  fmt.Sprintf("token: a-token-of-sixteen-letters, https: %q, tls: {cache: %q}", local(https), t.TempDir()),
	})
	_, port, ok := strings.Cut(b.http, ":")
	require.True(t, ok)
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: handset})
	c.open("http://phone.test:" + port + "/")
	want := fmt.Sprintf("https://phone.test:%d", https)
	c.wait(20*time.Second, fmt.Sprintf("document.querySelector('#trouble-link').href.startsWith(%q) && !document.querySelector('#trouble').hidden", want))
}

func TestBrowserIsHandedOverAndBack(t *testing.T) {
	desk := demo(t)
	b := serve(t, settings{agent: newAgent(t, `
blocks:
  start:
    - action:
        name: dial
        stop: true
        body: {target: human}
        default: failed
        paths: [{name: success, steps: [end]}, {name: failed, steps: [end]}]
`), conf: human(desk.sip, "")}) // the demo's agent is the human here
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.call(b)
	c.event(20*time.Second, "transfer", "e.status === 180 || e.outcome === 'connected'")
	c.wait(20*time.Second, "document.documentElement.dataset.state === 'bridged'")
	c.loud(20 * time.Second)
	require.InDelta(t, 1, desk.metric("ivrbridge_calls_active"), 0)

	// Keys of the page reach the human.
	c.do("press", map[string]any{"key": "2"})
	await(t, 20*time.Second, "a key at the human's", func() bool { return desk.metric("ivrbridge_dtmf_digits_total") > 0 })

	// An operator ends the call of both.
	list := struct {
		Calls []struct{ ID, Trunk string } `json:"calls"`
	}{}
	b.get("/api/v1/calls", &list)
	require.Len(t, list.Calls, 1)
	require.Equal(t, "browser", list.Calls[0].Trunk)
	b.post("/api/v1/calls/"+list.Calls[0].ID+"/hangup", `{"why":"the test is over"}`)
	c.event(20*time.Second, "state", "e.state === 'ended'")
	await(t, 20*time.Second, "the human's call to end", func() bool { return desk.metric("ivrbridge_calls_active") == 0 })

	// The other way round: the human hangs up.
	c.click("#call")
	c.wait(30*time.Second, "document.documentElement.dataset.state === 'bridged'")
	desk.get("/api/v1/calls", &list)
	require.Len(t, list.Calls, 1)
	desk.post("/api/v1/calls/"+list.Calls[0].ID+"/hangup", `{}`)
	c.event(40*time.Second, "state", "e.state === 'ended' && e.class === 'transferred'")
	c.quiet()
}

// TestBrowserPictures makes the pictures of the documentation: SHOTS names the folder.
func TestBrowserPictures(t *testing.T) {
	dir := os.Getenv("SHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	b := demo(t)
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	shoot := func(state string) {
		for scheme, size := range map[string]map[string]int{"light": desktop, "dark": desktop, "phone-light": handset, "phone-dark": handset} {
			c.do("viewport", size)
			c.do("scheme", map[string]any{"colorScheme": scheme[strings.LastIndexByte(scheme, '-')+1:]})
			c.evaluate("document.querySelector('#newest').click(); new Promise((done) => setTimeout(done, 400))")
			file := filepath.Join(dir, "phone-"+state+"-"+scheme+".png")
			c.do("shot", map[string]any{"file": file})
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.Greater(t, info.Size(), int64(8<<10), "%s is nearly empty", file)
		}
	}
	c.open("http://" + b.http + "/")
	c.wait(20*time.Second, "!document.querySelector('#call').disabled")
	shoot("ready")
	c.click("#call")
	c.event(30*time.Second, "listen", "e.choices.length > 0")
	c.do("press", map[string]any{"key": "4"})
	c.event(30*time.Second, "transfer", "e.outcome === 'busy'")
	c.event(30*time.Second, "listen", "e.open")
	shoot("talking")
	c.do("press", map[string]any{"key": "3"})
	c.wait(40*time.Second, "document.documentElement.dataset.state === 'bridged'")
	shoot("handed-over")
	c.do("viewport", desktop)
	c.click("#hangup")
	c.wait(20*time.Second, "['ended', 'idle'].includes(document.documentElement.dataset.state)")
	shoot("ended")
	c.quiet()
}
