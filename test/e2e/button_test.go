package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestButtonOnAnotherSite(t *testing.T) {
	const hz = 900
	tone := site(t, map[string]string{"/tone.wav": toneFile(t, hz, 30)})
	a := newAgent(t, fmt.Sprintf(`
variables: {page: ""}
blocks:
  start:
    - audio: %s/tone.wav
    - capture: {into: said, no_reply: {timeout: 60, goto: start}}
    - end
`, tone.URL))
	dir := t.TempDir()
	shop := filepath.Join(dir, "shop.html")
	// The site's policy names the bridge, whose port is not known before it runs.
	policy := "default-src 'none'; script-src %[1]s; connect-src %[1]s; style-src 'none'"
	var page string
	b := serve(t, settings{agent: a, conf: func() string {
		s := site(t, map[string]string{"/": shop})
		page = s.URL
		return fmt.Sprintf("web: {origins: [%q]}\n", page)
	}()})
	bridge := "http://" + b.http
	require.NoError(t, os.WriteFile(shop, []byte(fmt.Sprintf(`<!doctype html><html><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="`+policy+`"><title>A shop</title></head>
<body><h1>A shop</h1><script src="%[1]s/button.js" data-agent="test" data-label="Call the shop" data-variables='{"page":"basket"}'></script></body></html>`, bridge)), 0o600))

	c := browse(t, sight{Microphone: microphone(t, 1.), Viewport: desktop})
	c.open(page + "/")
	c.wait(20*time.Second, "document.querySelector('ivrbridge-button')?.shadowRoot?.querySelector('[data-test=launch]')")
	// Nothing but the script is loaded before the button is pressed.
	require.JSONEq(t, fmt.Sprintf(`["%s/button.js"]`, bridge), string(c.evaluate(
		"performance.getEntriesByType('resource').map((x) => x.name).filter((x) => !x.endsWith('favicon.ico'))")))
	c.click("ivrbridge-button [data-test=launch]")
	c.wait(30*time.Second, "document.querySelector('ivrbridge-button').state === 'up'")
	c.wait(20*time.Second, fmt.Sprintf("Math.abs(document.querySelector('ivrbridge-button').probe.remoteFrequency() - %d) < 20", hz))
	require.Contains(t, string(a.turns()[0].Body), "basket")
	c.click("ivrbridge-button [data-test=hangup]")
	await(t, 20*time.Second, "the call's end", func() bool { return b.metric("ivrbridge_calls_active") == 0 })
	c.quiet()

	// A site that is not listed gets no call.
	other := site(t, map[string]string{"/": shop})
	c.open(other.URL + "/")
	c.wait(20*time.Second, "document.querySelector('ivrbridge-button')?.shadowRoot?.querySelector('[data-test=launch]')")
	c.click("ivrbridge-button [data-test=launch]")
	c.wait(30*time.Second, "document.querySelector('ivrbridge-button').state === 'failed'")
	require.InDelta(t, 1, b.metric("ivrbridge_calls_total"), 0)
}
