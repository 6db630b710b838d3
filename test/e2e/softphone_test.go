package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// site serves pages of another origin than the bridge's.
func site(t *testing.T, files map[string]string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for path, file := range files {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, file)
		})
	}
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (c *chromium) string(script string) string {
	c.t.Helper()
	var s string
	require.NoError(c.t, json.Unmarshal(c.evaluate(script), &s))
	return s
}

// jssip serves a page with JsSIP in it.
func jssip(t *testing.T, c *chromium) *httptest.Server {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "jssip.js")
	c.do("bundle", map[string]any{"name": "jssip", "global": "JsSIP", "file": bundle})
	return site(t, map[string]string{"/": "browser/jssip.html", "/jssip.js": bundle, "/jssip-page.js": "browser/jssip-page.js"})
}

// telephones lets the softphone of a page register at a bridge and call it.
func (c *chromium) telephones(page *httptest.Server, b *bridge) {
	c.t.Helper()
	c.open(page.URL + "/")
	c.evaluate(fmt.Sprintf("softphone.register('ws://%s/sip', 'sip:page@%s')", b.http, b.sip))
	c.wait(15*time.Second, "softphone.registrations === 1")
	c.evaluate(fmt.Sprintf("softphone.call('sip:1000@%s')", b.sip))
	c.wait(20*time.Second, "softphone.state === 'confirmed'")
}

func TestSoftphoneTalksToTheDemo(t *testing.T) {
	needRecogniser(t)
	flow, err := os.ReadFile("../../dialog/localflow/flows/demo.yaml")
	require.NoError(t, err)
	c := browse(t, sight{Microphone: microphone(t, 4., "opening hours"), Viewport: desktop})
	page, desk, a := jssip(t, c), demo(t), newAgent(t, string(flow))
	b := serve(t, settings{
		agent: a, sip: fmt.Sprintf("origins: [%q]", page.URL),
		conf: fmt.Sprintf("%s\ndial: {directory: {human: [\"sip:anna@%[2]s\"], boss: [\"sip:boss@%[2]s\"]}}\n", listening, desk.desk()),
	})
	c.telephones(page, b)

	// Speech over the prompt stops it and is understood; silence is told; a key.
	require.Contains(t, a.await(t, 40*time.Second, "intent").payload, "hours_intent")
	require.GreaterOrEqual(t, b.metric("ivrbridge_conversation_events_total", `kind="barge_in"`), 1.)
	a.await(t, 60*time.Second, "no-reply")
	c.evaluate("softphone.obeys = false; softphone.session.sendDTMF('4', {transportType: 'RFC2833'})")
	a.await(t, 40*time.Second, "failed") // the page refuses the REFER
	require.Contains(t, c.string("softphone.referred"), "boss")
	c.evaluate("softphone.obeys = true; softphone.session.sendDTMF('3', {transportType: 'INFO'})")
	a.await(t, 60*time.Second, "success")
	c.wait(30*time.Second, "softphone.state.startsWith('ended') && softphone.next?.isEstablished()")
	c.evaluate("softphone.next.terminate()")
	c.quiet()
}

func TestSoftphoneInAPage(t *testing.T) {
	const hz = 700
	wav := toneFile(t, hz, 60)
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, wav) }))
	t.Cleanup(host.Close)
	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	page, desk := jssip(t, c), demo(t)
	a := newAgent(t, fmt.Sprintf(`
blocks:
  start:
    - audio: %s/tone.wav
    - capture: {into: said}
    - audio: %s/tone.wav
    - capture: {into: more}
    - action:
        name: dial
        stop: true
        body: {target: human}
        default: failed
        paths: [{name: success, steps: [end]}, {name: failed, steps: [end]}]
`, host.URL, host.URL))
	b := serve(t, settings{
		agent: a, sip: fmt.Sprintf("origins: [%q]", page.URL), conf: human(desk.desk(), ", timeout: 20s") + "\ndtmf: {interdigit_timeout: 2s}\n",
	})
	c.telephones(page, b)
	c.wait(20*time.Second, fmt.Sprintf("Math.abs(softphone.frequency() - %d) < 20", hz))

	// Hold and resume.
	c.evaluate("softphone.session.hold()")
	b.log.await(t, 10*time.Second, "caller holds")
	c.evaluate("softphone.session.unhold()")
	b.log.await(t, 10*time.Second, "caller resumes")
	c.wait(20*time.Second, fmt.Sprintf("Math.abs(softphone.frequency() - %d) < 20", hz))

	// A connection that breaks is opened again, and the call goes on over it.
	c.evaluate("softphone.ua._transport.socket._ws.close()")
	c.wait(30*time.Second, "softphone.registrations === 2")

	// Keys by telephone-event and by INFO.
	c.evaluate("softphone.session.sendDTMF('12', {transportType: 'RFC2833'})")
	require.JSONEq(t, `"12"`, a.await(t, 20*time.Second, "text").payload)
	c.wait(20*time.Second, fmt.Sprintf("Math.abs(softphone.frequency() - %d) < 20", hz))
	c.evaluate("softphone.session.sendDTMF('34', {transportType: 'INFO'})")
	await(t, 20*time.Second, "keys by INFO", func() bool { u := a.turns(); return len(u) > 2 && u[2].payload == `"34"` })

	// The agent refers the page to the desk, which answers.
	c.wait(30*time.Second, "softphone.referred !== ''")
	require.Contains(t, c.string("softphone.referred"), "anna")
	c.wait(30*time.Second, "softphone.state.startsWith('ended')")
	a.await(t, 20*time.Second, "success")
	c.wait(30*time.Second, "softphone.next?.isEstablished()")
	c.evaluate("softphone.next.terminate()")
	c.quiet()
}
