package configs

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMistakesOfBrowserAccess(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pem")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	tests := []struct{ name, text, want string }{
		{"https", "http: {https: 8443}", `line 1: http.https: "8443" is no host:port`},
		{"https is http", `http: {listen: "127.0.0.1:8080", https: ":8080"}`, "line 1: http.https: :8080 is the same port as http.listen, write another one, such as 0.0.0.0:8443"},
		{"https open", `http: {https: ":8443"}`, "line 1: warning: http.token: is missing: on :8443 only health and metrics are served, the API and the console are off"},
		{"cert alone", "http: {https: \":8443\",\n  tls: {cert: " + file + "}}", "line 2: http.tls: cert and key belong together, write both"},
		{"no file", "http: {tls: {cert: /nowhere/a, key: /}}", "line 1: http.tls.cert: stat /nowhere/a: no such file or directory"},
		{"folder", "http: {tls: {cert: /nowhere/a, key: /}}", "line 1: http.tls.key: / is a directory, write a file"},
		{"two certificates", `http: {https: ":8443", tls: {cert: ` + file + `, key: ` + file + `, acme: {domains: [a.example.com]}}}`, "http.tls.acme.domains: there is a certificate in http.tls.cert already, remove one of them"},
		{"tls without https", `http: {tls: {acme: {domains: [a.example.com]}}}`, "warning: http.tls: is not used: http.https is empty"},
		{"acme without domains", `http: {tls: {acme: {email: a@example.com}}}`, "warning: http.tls.acme: is not used without domains"},
		{"domain", `http: {https: ":8443", tls: {acme: {domains: [a.example.com, 192.0.2.1]}}}`, `http.tls.acme.domains[1]: "192.0.2.1" is no public name of a host, write such as phone.example.com`},
		{"wildcard", `http: {https: ":8443", tls: {acme: {domains: ["*.example.com"]}}}`, `http.tls.acme.domains[0]: "*.example.com" is no public name`},
		{"domain twice", `http: {https: ":8443", tls: {acme: {domains: [a.example.com, a.example.com]}}}`, `http.tls.acme.domains[1]: "a.example.com" is there twice`},
		{"mail", `http: {https: ":8443", tls: {acme: {domains: [a.example.com], email: me}}}`, `http.tls.acme.email: "me" is no mail address`},
		{"directory", `http: {https: ":8443", tls: {acme: {domains: [a.example.com], directory: "http://ca"}}}`, `http.tls.acme.directory: "http://ca" is no https address`},
		{"public url", `http: {public_url: phone.example.com}`, `line 1: http.public_url: "phone.example.com" is no site, write such as https://shop.example.com`},
		{"public path", `http: {public_url: "https://phone.example.com/x"}`, "is not as browsers write it, write https://phone.example.com"},
		{"public http", `http: {public_url: "http://phone.example.com"}`, "warning: http.public_url: browsers give the microphone to https alone, write https"},
		{"proxies", "http: {trusted_proxies: [proxy]}", `http.trusted_proxies[0]: "proxy" is no network`},
		{"all proxies", `http: {trusted_proxies: ["::/0"]}`, "warning: http.trusted_proxies[0]: ::/0 lets everybody say which address he has, write your proxies' networks"},
		{"rtc", "rtc: {listen: \"localhost:8189\"}", `line 1: rtc.listen: "localhost:8189" is no address and port, write an IP address, such as 0.0.0.0:8189`},
		{"rtc port", `rtc: {listen: "0.0.0.0:0"}`, "rtc.listen: port 0 cannot be advertised, write 0.0.0.0:8189"},
		{"rtc on sip", `rtc: {listen: "127.0.0.1:5060"}`, "rtc.listen: 127.0.0.1:5060 is the same port as udp://0.0.0.0:5060 in entry 0 of sip.listen, write another one"},
		{"rtc on http", `rtc: {listen: "0.0.0.0:8080"}`, "rtc.listen: 0.0.0.0:8080 is the same port as http.listen, write another one"},
		{"rtc in rtp", `rtc: {listen: "0.0.0.0:20000"}`, "warning: rtc.listen: port 20000 lies in media.rtp_ports 20000-29999, write one outside"},
		{"unfinished", `rtc: {max_unfinished: 0}`, "rtc.max_unfinished: 0 is too small, write at least 1"},
		{"ice without urls", `rtc: {ice_servers: [{username: u}]}`, "rtc.ice_servers[0].urls: is missing, write such as stun:stun.example.com"},
		{"ice scheme", `rtc: {ice_servers: [{urls: "https://stun.example.com"}]}`, `rtc.ice_servers[0].urls[0]: "https://stun.example.com" is no STUN or TURN server`},
		{"stun transport", `rtc: {ice_servers: [{urls: "stun:a?transport=udp"}]}`, `is no STUN or TURN server`},
		{"ice port", `rtc: {ice_servers: [{urls: ["stun:a:3478", "stun:a:70000"]}]}`, `rtc.ice_servers[0].urls[1]: "stun:a:70000" has no port from 1 to 65535`},
		{"turn user", `rtc: {ice_servers: [{urls: "turn:a"}]}`, "rtc.ice_servers[0].username: is missing: TURN servers want one"},
		{"turn password", `rtc: {ice_servers: [{urls: "turn:[::1]:3478?transport=tcp", username: u}]}`, "rtc.ice_servers[0].credential: is missing, write env:NAME or file:PATH"},
		{"rtc trunk", "rtc: {trunk: locall}", `rtc.trunk: there is no trunk "locall", write local`},
		{"language", "defaults: {web: {languages: [de-DE, german!]}}", `defaults.web.languages[1]: "german!" is no language, write such as de-DE`},
		{"language twice", "defaults: {web: {languages: [de-DE, de-DE]}}", `defaults.web.languages[1]: "de-DE" is there twice`},
		{"sip origin", "sip: {origins: [\"https://a.example.com/\"]}", "sip.origins[0]: \"https://a.example.com/\" is not as browsers write it, write https://a.example.com"},
		{"origin in the defaults", "defaults:\n  web:\n    origins: [\"*\"]", `line 3: defaults.web.origins[0]: "*" would let every site call`},
		{"origins unused", "rtc: {listen: \"\"}\ndefaults: {web: {origins: [\"https://a.example.com\"]}}", "line 2: warning: defaults.web.origins: is not used: rtc.listen is empty"},
		{"origin twice", `defaults: {web: {origins: ["https://a.example.com", "https://a.example.com"]}}`, `defaults.web.origins[1]: "https://a.example.com" is there twice`},
		{"plain origin", `defaults: {web: {origins: ["http://a.example.com"]}}`, "warning: defaults.web.origins[0]: browsers give the microphone to https alone, write https"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := mistaken(t, tt.text+"\n"+least)
			require.Contains(t, strings.Join(texts(problems), "\n"), tt.want)
		})
	}
}

func TestAllMistakesOfBrowserAccessAtOnce(t *testing.T) {
	_, problems := read(t, `http:
  https: x
  public_url: y
  tls: {cert: a, acme: {email: z, domains: [q]}}
rtc:
  listen: w
  max_unfinished: -1
`+least)
	require.Len(t, problems.Errors(), 9, problems.String())
}

func TestBrowserAccess(t *testing.T) {
	c, problems := read(t, `http:
  https: 127.0.0.1:8443
  public_url: https://phone.example.com/
  trusted_proxies: [10.0.0.0/8, "::1"]
  tls: {cache: /var/cache/x, acme: {domains: [phone.example.com], email: a@example.com, directory: "https://localhost:14000/dir"}}
rtc:
  listen: "[::]:9000"
  ice_servers:
    - {urls: "stun:stun.example.com"}
    - {urls: ["turns:turn.example.com:443?transport=tcp", "turn:192.0.2.1"], username: u, credential: env:TURN}
agents:
  - name: shop
    voiceflow: {api_key: k}
    web: {origins: ["https://shop.example.com", "http://localhost:3000", "http://[::1]:3000", "http://a.localhost"]}
`)
	require.Empty(t, problems)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, c.HTTP.TrustedProxies)
	require.Equal(t, "phone.example.com", c.HTTP.TLS.ACME.Domains[0])
	require.Equal(t, "value-of-TURN", c.RTC.ICEServers[1].Credential.Reveal())
	require.Equal(t, Strings{"stun:stun.example.com"}, c.RTC.ICEServers[0].URLs)
	require.Equal(t, 200, c.RTC.MaxUnfinished)
	require.Len(t, c.Agents[0].Web.Origins, 4)
}

func TestAgentsInheritOrigins(t *testing.T) {
	c, problems := read(t, `defaults: {web: {origins: ["https://a.example.com"]}}
agents:
  - {name: a, voiceflow: {api_key: k}}
  - {name: b, voiceflow: {api_key: k}, web: {origins: []}}
routes: [{agent: a}]
`)
	require.Empty(t, problems)
	require.Equal(t, []string{"https://a.example.com"}, c.Agents[0].Web.Origins)
	require.Empty(t, c.Agents[1].Web.Origins)
}

func TestOrigins(t *testing.T) {
	for origin, ok := range map[string]bool{
		"https://shop.example.com":          true,
		"https://shop.example.com:8443":     true,
		"http://127.0.0.1:3000":             true,
		"http://[2001:db8::1]":              true,
		"https://xn--bcher-kva.example":     true,
		"https://shop.example.com/":         false,
		"https://shop.example.com:443":      false,
		"http://shop.example.com:80":        false,
		"HTTPS://shop.example.com":          false,
		"https://Shop.example.com":          false,
		"https://shop.example.com?":         false,
		"https://shop.example.com#":         false,
		"https://shop.example.com/a":        false,
		"https://u@shop.example.com":        false,
		"https://*.example.com":             false,
		"https://bücher.example":            false,
		"https://:8443":                     false,
		"https://a:0":                       false,
		"https://a:99999":                   false,
		"http://[2001:db8:0::1]":            false,
		"ftp://shop.example.com":            false,
		"chrome-extension://abc":            false,
		"shop.example.com":                  false,
		"https:shop.example.com":            false,
		"null":                              false,
		"*":                                 false,
		"":                                  false,
		"https://shop.example.com, https:/": false,
	} {
		require.Equal(t, ok, CheckOrigin(origin) == nil, "%s: %v", origin, CheckOrigin(origin))
	}
}

func TestCheckOriginTakesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`https?://[a-z0-9:.\[\]%@/-]*`)).Draw(t, "origin")
		_ = CheckOrigin(s)
	})
}

func TestLoopback(t *testing.T) {
	for _, tt := range []struct {
		h    HTTP
		want bool
	}{
		{HTTP{Listen: "127.0.0.1:8080"}, true},
		{HTTP{Listen: "localhost:8080", HTTPS: "0.0.0.0:8443"}, true},
		{HTTP{Listen: "[::1]:8080"}, true},
		{HTTP{Listen: ":8080", HTTPS: "127.0.0.1:8443"}, false},
		{HTTP{HTTPS: "127.0.0.1:8443"}, true},
		{HTTP{HTTPS: ":8443"}, false},
		{HTTP{}, false},
	} {
		require.Equal(t, tt.want, tt.h.Loopback(), tt.h.Listen+" "+tt.h.HTTPS)
	}
}
