package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shop is a page of another site with the button on it, under a policy that
// allows nothing but the bridge.
func shop(t *testing.T, b *bridge, file string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `<!doctype html><html><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src http://%[1]s; connect-src http://%[1]s; style-src 'none'"><title>A shop</title></head>
<body><h1>A shop</h1><script src="http://%[1]s/button.js" data-agent="test" data-label="Call the shop" data-variables='{"page":"basket"}'></script></body></html>`, b.http), 0o600))
}

// pressButton presses the button of a shop and waits for the call.
func (c *chromium) pressButton() {
	c.t.Helper()
	c.wait(20*time.Second, "document.querySelector('ivrbridge-button')?.shadowRoot?.querySelector('[data-test=launch]')")
	c.click("ivrbridge-button [data-test=launch]")
}

func TestButtonOnAnotherSite(t *testing.T) {
	needRecogniser(t)
	flow, err := os.ReadFile("../../dialog/localflow/flows/demo.yaml")
	require.NoError(t, err)
	desk := demo(t)
	file := filepath.Join(t.TempDir(), "shop.html")
	page, other := site(t, map[string]string{"/": file}), site(t, map[string]string{"/": file})
	a := newAgent(t, string(flow))
	b := serve(t, settings{agent: a, conf: fmt.Sprintf("web: {origins: [%q]}\n%s\ndial: {directory: {human: [\"sip:anna@%[3]s\"], boss: [\"sip:boss@%[3]s\"]}}\n", page.URL, listening, desk.desk())})
	shop(t, b, file)
	c := browse(t, sight{Microphone: microphone(t, 4., "opening hours"), Viewport: desktop})
	c.probe = "document.querySelector('ivrbridge-button').probe"
	c.open(page.URL + "/")
	c.wait(20*time.Second, "document.querySelector('ivrbridge-button')")
	// Nothing but the script is loaded before the button is pressed.
	require.JSONEq(t, fmt.Sprintf(`["http://%s/button.js"]`, b.http), string(c.evaluate(
		"performance.getEntriesByType('resource').map((x) => x.name).filter((x) => !x.endsWith('favicon.ico'))")))
	c.pressButton()
	c.wait(30*time.Second, "document.querySelector('ivrbridge-button').state === 'up'")
	require.Contains(t, string(a.await(t, 20*time.Second, "launch").Body), "basket")
	c.click("ivrbridge-button [data-test=keys]")
	c.converses(controls{key: "ivrbridge-button [data-test=key-4]", choice: "ivrbridge-button [data-test=choice-3]"})
	c.click("ivrbridge-button [data-test=hangup]")
	await(t, 20*time.Second, "the call's end", func() bool { return b.metric("ivrbridge_calls_active") == 0 })
	c.quiet()

	// A site that is not listed gets no call.
	c.open(other.URL + "/")
	c.pressButton()
	c.wait(30*time.Second, "document.querySelector('ivrbridge-button').state === 'failed'")
	require.InDelta(t, 1, b.metric("ivrbridge_calls_total"), 0)
}
