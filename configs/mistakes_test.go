package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestMistakesNameLinePathAndRemedy(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "sip: {max_cals: 3}", "line 1: sip.max_cals: unknown key, write max_calls"},
		{"far key", "sip: {colour: 3}", "line 1: sip.colour: unknown key, known here: external_ip, listen, max_calls, origins, stun, tls"},
		{"wrong type", "sip: {max_calls: many}", `line 1: sip.max_calls: "many" is no number`},
		{"fraction", "sip: {max_calls: 1.5}", `line 1: sip.max_calls: "1.5" does not fit, write a whole number`},
		{"too small", "sip: {max_calls: 0}", "line 1: sip.max_calls: 0 is too small, write at least 1"},
		{"list wanted", "sip: {listen: udp://0.0.0.0:5060}", `line 1: sip.listen: wants a list, this is the value "udp://0.0.0.0:5060": write it in [ ]`},
		{"block wanted", "sip: [1]", "line 1: sip: wants keys and values, this is a list"},
		{"transport", `sip: {listen: ["sctp://0.0.0.0:5060"]}`, `line 1: sip.listen[0]: unknown transport "sctp", write one of udp, tcp, tls, ws, wss`},
		{"no transport", `sip: {listen: ["0.0.0.0:5060"]}`, "line 1: sip.listen[0]: write transport://address:port, such as udp://0.0.0.0:5060"},
		{"no address", `sip: {listen: ["udp://eth0:5060"]}`, `line 1: sip.listen[0]: "eth0:5060" is no address and port, write an IP address, such as udp://0.0.0.0:5060`},
		{"overlap", "sip:\n  listen: [\"udp://0.0.0.0:5060\",\n    \"udp://127.0.0.1:5060\"]", "line 3: sip.listen[1]: udp://127.0.0.1:5060 uses the same port as udp://0.0.0.0:5060 in entry 0"},
		{"tcp and ws overlap", `sip: {listen: ["tcp://[::]:80", "ws://10.0.0.1:80"]}`, "line 1: sip.listen[1]: ws://10.0.0.1:80 uses the same port as tcp://[::]:80 in entry 0"},
		{"no certificate", `sip: {listen: ["tls://0.0.0.0:5061"]}`, "line 1: sip.tls: tls:// and wss:// need cert and key"},
		{"certificate is no file", `sip: {listen: ["tls://0.0.0.0:5061"], tls: {cert: /nowhere/a, key: /}}`, "line 1: sip.tls.cert: stat /nowhere/a: no such file or directory"},
		{"external address", "sip: {external_ip: bridge.example.com}", `line 1: sip.external_ip: "bridge.example.com" is no IP address, write one, auto, or nothing`},
		{"ports", "media: {rtp_ports: 3000}", `line 1: media.rtp_ports: "3000" is no range of ports, write lowest-highest, such as 20000-29999`},
		{"ports reversed", "media: {rtp_ports: 3000-2000}", "line 1: media.rtp_ports: the range 3000-2000 ends before it begins, write 2000-3000"},
		{"ports too few", "media: {rtp_ports: 3000-3099}", "line 1: warning: media.rtp_ports: 3000-3099 has room for 50 calls, sip.max_calls is 500: write a larger range or a smaller limit"},
		{"ports tight", "media: {rtp_ports: 3000-4009}", "line 1: warning: media.rtp_ports: 3000-4009 is tight: ports rest for 31 s after a call, and 500 calls want about 1232 ports"},
		{"no pair", "media: {rtp_ports: 3001-3002}", "line 1: media.rtp_ports: 3001-3002 has no even port with its odd successor, write a larger range"},
		{"sip port inside", "media: {rtp_ports: 5000-9999}", "media.rtp_ports 5000-9999"},
		{"codec", "media: {codecs: [PCMU, G729]}", `line 1: media.codecs[1]: "G729" is unknown, write one of PCMU, PCMA`},
		{"codec twice", "media: {codecs: [PCMU, PCMU]}", `line 1: media.codecs[1]: "PCMU" is there twice`},
		{"network", "media: {fetch: {allow_private: [10.0.0.0/40]}}", `line 1: media.fetch.allow_private[0]: "10.0.0.0/40" is no network, write an address or a CIDR block, such as 192.0.2.0/24`},
		{"trunk name", "trunks: [{peers: [192.0.2.1]}]", "line 1: trunks[0].name: is missing"},
		{"trunk twice", "trunks: [{name: a, peers: [192.0.2.1]}, {name: a, peers: [192.0.2.2]}]", `line 1: trunks[1].name: "a" is the name of entry 0 too, write another one`},
		{"everybody", "trunks: [{name: a, peers: [0.0.0.0/0]}]", "line 1: warning: trunks[0].peers[0]: 0.0.0.0/0 lets everybody call without a password, write your carrier's networks"},
		{"peer twice", "trunks: [{name: a, peers: [192.0.2.1]}, {name: b, peers: [192.0.2.1/32]}]", "line 1: warning: trunks[1].peers[0]: 192.0.2.1/32 is a peer of a too: its calls belong to that trunk"},
		{"users without networks", "trunks: [{name: a, users: [{username: u, password: p}]}]", "line 1: trunks[0].challenge: users are only asked for passwords in these networks, write at least one"},
		{"user without password", "trunks: [{name: a, challenge: [10.0.0.0/8], users: [{username: u}]}]", "line 1: trunks[0].users[0].password: is missing, write env:NAME or file:PATH"},
		{"challenge in peers", "trunks: [{name: a, peers: [10.0.0.0/8], challenge: [10.1.0.0/16], users: [{username: u, password: p}]}]", "line 1: warning: trunks[0].challenge[0]: 10.1.0.0/16 lies in the peers' 10.0.0.0/8, which is never challenged"},
		{"registrar", "trunks: [{name: a, auth: {username: u, password: p}, register: {registrar: sip.example.com}}]", `line 1: trunks[0].register.registrar: "sip.example.com" is no SIP URI, write such as sip:sip.example.com`},
		{"register without auth", "trunks: [{name: a, register: {registrar: \"sip:sip.example.com\"}}]", "line 1: trunks[0].auth.username: a registration needs it"},
		{"region", "trunks: [{name: a, peers: [192.0.2.1], region: UK}]", `line 1: trunks[0].region: "UK" is no country, write its ISO 3166-1 code, such as US or DE`},
		{"srtp", "trunks: [{name: a, peers: [192.0.2.1], srtp: maybe}]", `line 1: trunks[0].srtp: "maybe" is unknown, write one of off, offer, require`},
		{"transfer", "trunks: [{name: a, peers: [192.0.2.1], transfer: [fax]}]", `line 1: trunks[0].transfer[0]: "fax" is unknown, write one of refer, bridge`},
		{"secret", "trunks: [{name: a, peers: [192.0.2.1], auth: {username: u, password: env:EMPTY}}]", "line 1: trunks[0].auth.password: the environment variable EMPTY is empty: set it, or write file:PATH"},
		{"repeated key", "log: {level: info}\nlog: {level: warn}", "line 2: log: repeated, first written in line 1"},
		{"route", "routes: [{agent: piza}]", `line 1: routes[0].agent: there is no agent "piza", write pizza`},
		{"route to trunk", "routes: [{agent: pizza, trunk: locl}]", `line 1: routes[0].trunk: there is no trunk "locl", write local`},
		{"route without agent", "routes: [{to: 1}]", "line 1: routes[0].agent: is missing, write one of pizza"},
		{"route behind all", "routes: [{agent: pizza}, {to: 1, agent: pizza}]", "line 1: warning: routes[1]: is never reached: entry 0 takes every call"},
		{"http", "http: {listen: 8080}", `line 1: http.listen: "8080" is no host:port`},
		{"http open", "http: {listen: \":8080\"}", "line 1: warning: http.token: is missing: on :8080 only health and metrics are served, the API and the console are off"},
		{"store", "store: {dsn: mysql://x}", "line 1: store.dsn: is neither a file nor a database, write sqlite:ivrbridge.db or postgres://user:password@host/database"},
		{"log level", "log: {level: loud}", `line 1: log.level: "loud" is unknown, write one of debug, info, warn, error`},
		{"defaults' name", "defaults: {name: x}", "line 1: defaults.name: a name cannot be inherited, remove it"},
		{"syntax", "sip: {listen: [", "no YAML"},
		{"control character", "log: {level: \"in\\x1bfo\"}", "line 1: log.level: contains a control character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agents := least
			if strings.Contains(tt.text, "agents:") {
				agents = ""
			}
			_, problems := mistaken(t, tt.text+"\n"+agents)
			require.Contains(t, strings.Join(texts(problems), "\n"), tt.want)
		})
	}
}

func TestMistakesOfAgents(t *testing.T) {
	tests := []struct{ text, want string }{
		{"no_reply: 10", "agents[0].no_reply: the duration 10 has no unit, write 10s or 10ms"},
		{"no_reply: soon", `agents[0].no_reply: "soon" is no duration, write a number and a unit, such as 10s, 1.5s or 300ms`},
		{"no_reply: -1s", "agents[0].no_reply: the duration -1s is negative"},
		{"no_reply: 1ms", "agents[0].no_reply: 1ms is not between 1s and 10m0s"},
		{"turn_timeout: 1s", "agents[0].thinking.after: 1.5s is not between 0 and turn_timeout 1s"},
		{"min_confidence: 1.5", "agents[0].min_confidence: 1.5 is not between 0 and 1"},
		{"min_confidence: .nan", "agents[0].min_confidence: NaN is not between 0 and 1"},
		{"language: english", `agents[0].language: "english" is no language, write such as en-US`},
		{"headers: [\"X A\"]", `agents[0].headers[0]: "X A" is no name of a SIP header`},
		{"barge_in: {mode: loud}", `agents[0].barge_in.mode: "loud" is unknown, write one of both, speech, dtmf, off`},
		{"barge_in: {skip: perhaps}", `agents[0].barge_in.skip: "perhaps" is neither true nor false`},
		{"dtmf: {delimiter: x}", `agents[0].dtmf.delimiter: "x" is no delimiter, write #, *, "*#" or ""`},
		{"dtmf: {max_digits: 0}", "agents[0].dtmf.max_digits: 0 is not between 1 and 128"},
		{"dtmf: {as: intent}", "warning: agents[0].keypad: is empty: dtmf.as intent sends every entry as text"},
		{"keypad: {x: order}", "agents[0].keypad.x: is no entry of keys"},
		{"intents: {order: []}", "agents[0].intents.order: has an empty phrase"},
		{"dial: {directory: {desk: nobody}}", `agents[0].dial.directory.desk: "nobody" cannot be called: it is neither a number nor a SIP URI, such as +14155550100 or sip:desk@pbx.example.com`},
		{"dial: {directory: {desk: \"1234\", Desk: \"1235\"}}", "warning: agents[0].dial.directory.desk: differs from Desk by case alone: agents that write it otherwise get Desk"},
		{"dial: {directory: {desk: \"1???\"}}", `agents[0].dial.directory.desk: "1???" is a pattern: the directory wants targets, patterns go to dial.allow`},
		{"dial: {allow: [\"sip:*@*\"]}", `agents[0].dial.allow[0]: "sip:*@*" is no pattern of a SIP URI: its host may be a name or *. and a name: anybody could be called otherwise`},
		{"dial: {countries: [USA]}", `agents[0].dial.countries[0]: "USA" is no country, write its ISO 3166-1 code, such as US or DE`},
		{"dial: {timeout: 1h}", "agents[0].dial.timeout: 1h0m0s is not between 1s and 5m0s"},
		{"fallback: suppor, dial: {directory: {support: \"+14155550111\"}}", `agents[0].fallback: "suppor" is not in dial.directory, write support`},
		{"fallback: nobody", `agents[0].fallback: "nobody" is neither in dial.directory nor a number nor a SIP URI`},
		{"prompts: {apology: {text: a, file: b}}", "agents[0].prompts.apology: has text and file, write one of them"},
		{"prompts: {apolgy: {text: a}}", "agents[0].prompts.apolgy: unknown key, write apology"},
		{"prompts: {apology: sorry}", `agents[0].prompts.apology: wants keys and values, this is the value "sorry"`},
		{"limits: {per_caller: 10/w}", `agents[0].limits.per_caller: unknown unit "w" of a rate, write s, m, h or d, such as 10/m`},
		{"limits: {per_caller: often}", `agents[0].limits.per_caller: "often" is no rate, write a number per s, m, h or d, such as 500/m, or nothing for no bound`},
		{"actions: {url: \"ftp://x\"}", `agents[0].actions.url: "ftp://x" is no address, write such as https://host`},
		{"actions: {url: \"http://hooks.example.com\"}", "warning: agents[0].actions.url: the key travels in clear, write https"},
		{"actions: {names: [crm]}", "warning: agents[0].actions: is not used without url: waiting actions take their default path"},
		{"asr: {fallback: [{url: x}]}", "agents[0].asr.fallback[0]: names no provider"},
		{"asr: {fallback: [{provider: a, fallback: [b]}]}", "agents[0].asr.fallback[0]: has a fallback of its own: write all of them in one list"},
		{"asr: {provider: \"\"}", "agents[0].asr.provider: is missing"},
		{"asr: [vosk]", "agents[0].asr: wants keys and values, this is a list"},
		{"tts: {provider: none}", ""},
		{"asr: {provider: none, url: x}", "warning: agents[0].asr: settings of provider none are not used"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			_, problems := mistaken(t, "agents:\n- {name: a, voiceflow: {api_key: x}, "+tt.text+"}\n")
			got := strings.Join(texts(problems), "\n")
			if tt.want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, "line 2: "+tt.want)
		})
	}
}

func TestMistakesOfVoiceflow(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "agents[0].voiceflow.api_key: is missing, write env:VOICEFLOW_API_KEY"},
		{"api_key: x, api: v4", "agents[0].voiceflow.project: is missing: api v4 needs the project's id"},
		{"api_key: x, api: v5", `agents[0].voiceflow.api: "v5" is unknown, write one of dm, dm-stream, v4, v4-stream, v4-socket, stable`},
		{"api_key: x, url: voiceflow.com", `agents[0].voiceflow.url: "voiceflow.com" is no address, write such as https://host`},
		{"api_key: x, url: \"https://u:p@host\"", "agents[0].voiceflow.url: contains a user, keys have keys of their own"},
		{"api_key: x, version: development", "warning: agents[0].voiceflow.version: is the old name of environment"},
		{"api_key: x, version: a, environment: b", "agents[0].voiceflow.version: is the old name of environment, which is there too: remove one"},
		{"api_key: x, variables: {a b: c}", "agents[0].voiceflow.variables.a b: is no name of a variable: write letters, digits and _"},
		{"api_key: x, environment: \"\"", "agents[0].voiceflow.environment: is empty, write auto, production, development, staging, main or an id"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			_, problems := mistaken(t, "agents:\n- {name: a, voiceflow: {"+tt.text+"}}\n")
			require.Contains(t, strings.Join(texts(problems), "\n"), "line 2: "+tt.want)
		})
	}
	c, _ := read(t, "agents: [{name: a, voiceflow: {api_key: x, version: development}}]")
	require.Equal(t, "development", c.Agents[0].Voiceflow.Environment)
}

// mistaken reads a document with an environment that has no EMPTY.
func mistaken(t *testing.T, text string) (Config, Problems) {
	t.Helper()
	c, problems, err := Read(strings.NewReader(text), Options{Getenv: func(name string) string {
		if name == "EMPTY" {
			return ""
		}
		return "v"
	}})
	require.Equal(t, len(problems.Errors()) > 0, err != nil)
	return c, problems
}

func TestAllMistakesAtOnceByLine(t *testing.T) {
	_, problems := mistaken(t, `
sip: {max_cals: 3}
media: {codecs: [G729]}
agents:
  - name: a
    voiceflow: {api_key: env:EMPTY, url: x}
    no_reply: 3
  - name: a
    voiceflow: 5
routes: [{agent: b}]
`)
	require.Equal(t, []string{
		"line 2: sip.max_cals: unknown key, write max_calls",
		`line 3: media.codecs[0]: "G729" is unknown, write one of PCMU, PCMA`,
		"line 6: agents[0].voiceflow.api_key: the environment variable EMPTY is empty: set it, or write file:PATH",
		`line 6: agents[0].voiceflow.url: "x" is no address, write such as https://host`,
		"line 7: agents[0].no_reply: the duration 3 has no unit, write 3s or 3ms",
		`line 8: agents[1].name: "a" is the name of entry 0 too, write another one`,
		`line 9: agents[1].voiceflow: wants keys and values, this is the value "5"`,
		`line 10: routes[0].agent: there is no agent "b", write a`,
	}, texts(problems))
}

func TestValuesOfTheDefaultsAreReportedThere(t *testing.T) {
	_, problems, _ := Read(strings.NewReader(`
defaults:
  language: english
  asr:
    provider: mine
    urll: x
  voiceflow: {api_key: x}
agents: [{name: a}, {name: b}]
routes: [{agent: a}]
`), Options{Check: func(kind, _ string, d registry.Decode) error {
		if kind == KindTTS {
			return nil
		}
		var e engine
		return d(&e)
	}})
	require.Equal(t, []string{
		`line 3: defaults.language: "english" is no language, write such as en-US`,
		"line 6: defaults.asr.urll: unknown key, write url",
	}, texts(problems))
}

func TestDocumentsThatAreNone(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	bomb.WriteString("agents: [{name: a, voiceflow: {api_key: x}, asr: {provider: p, x: *a11}}]\n")
	maps := &strings.Builder{}
	maps.WriteString("a0: &a0 {x: 1}\n")
	for i := 1; i < 36; i++ {
		fmt.Fprintf(maps, "a%d: &a%d {p: *a%d, q: *a%d}\n", i, i, i-1, i-1)
	}
	maps.WriteString("defaults: *a35\nagents: [*a35]\n")
	for name, text := range map[string]string{
		"two":      least + "---\n" + least,
		"binary":   "\x00\x01\x02",
		"scalar":   "hello",
		"list":     "[1, 2]",
		"cycle":    "agents: &a [*a]",
		"deep":     "agents: " + deep,
		"large":    "# " + strings.Repeat("x", maxBytes),
		"bad key":  "{[1, 2]: 3}",
		"bad tag":  "sip: {max_calls: !!int hello}",
		"bad utf8": "sip: \xff\xfe",
		"merge":    "<<: 5",
		"bomb":     bomb.String(),
		"maps":     maps.String(),
	} {
		t.Run(name, func(t *testing.T) {
			_, problems, err := Read(strings.NewReader(text), Options{Check: func(_, _ string, d registry.Decode) error {
				var into struct{ X any }
				return d(&into)
			}})
			require.Error(t, err)
			require.NotEmpty(t, problems.Errors())
		})
	}
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ivrbridge.yaml")
	_, _, err := Load(path, Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(least+"log: {level: loud}\n"), 0o600))
	_, problems, err := Load(path, Options{})
	require.Len(t, problems, 1)
	invalid, ok := errors.AsType[*InvalidError](err)
	require.True(t, ok)
	require.Equal(t, problems, invalid.Problems)
	require.EqualError(t, err, `line 2: log.level: "loud" is unknown, write one of debug, info, warn, error`)
}

type engine struct {
	URL      string        `yaml:"url"`
	Key      secret.Secret `json:"api_key"`
	Timeout  time.Duration
	Words    []string
	Rate     *int           `yaml:"rate"`
	Extra    map[string]any `yaml:"extra"`
	internal int
}

func TestAdaptersDecodeWithLinesAndPaths(t *testing.T) {
	const text = `
agents:
  - name: a
    voiceflow: {api_key: x}
    asr:
      provider: mine
      url: ws://host
      api_key: env:KEY
      timeout: 2s
      rate: 5
      extra: {a: [1, two, {b: true}]}
      fallback:
        - {provider: other, urll: x}
        - mine
    tts: {provider: mine, timeout: 3, api_key: env:NONE}
`
	var asked []string
	c, problems, err := Read(strings.NewReader(text), Options{
		Getenv: func(name string) string { return map[string]string{"KEY": "k"}[name] },
		Check: func(kind, provider string, d registry.Decode) error {
			asked = append(asked, kind+" "+provider)
			e := engine{internal: 1}
			if err := d(&e); err != nil {
				return fmt.Errorf("%s: %w", provider, err)
			}
			if e.URL == "" {
				return errors.New("url is missing")
			}
			return nil
		},
	})
	require.Error(t, err)
	require.Equal(t, []string{"voiceflow dm", "asr mine", "asr other", "asr mine", "tts mine"}, asked)
	require.Equal(t, []string{
		"line 13: agents[0].asr.fallback[0].urll: unknown key, write url",
		"line 14: agents[0].asr.fallback[1]: url is missing",
		"line 15: agents[0].tts.api_key: the environment variable NONE is empty: set it, or write file:PATH",
		"line 15: agents[0].tts.timeout: the duration 3 has no unit, write 3s or 3ms",
	}, texts(problems))
	e := engine{Words: []string{"kept"}}
	require.NoError(t, c.Agents[0].ASR.Decode()(&e))
	require.Equal(t, "k", e.Key.Reveal())
	require.Equal(t, 2*time.Second, e.Timeout)
	require.Equal(t, 5, *e.Rate)
	require.Equal(t, []string{"kept"}, e.Words)
	require.Equal(t, map[string]any{"a": []any{1, "two", map[string]any{"b": true}}}, e.Extra)
	require.Equal(t, "env:KEY", c.Agents[0].ASR.Settings()["api_key"], "settings show references")
	require.Error(t, c.Agents[0].ASR.Decode()(engine{}))
}

func TestDistance(t *testing.T) {
	require.Equal(t, 0, distance("", ""))
	require.Equal(t, 3, distance("", "abc"))
	require.Equal(t, 1, distance("listen", "lsiten"))
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-z_]{0,10}`)
		a, b := s.Draw(t, "a"), s.Draw(t, "b")
		require.Equal(t, distance(a, b), distance(b, a))
		require.Equal(t, a == b, distance(a, b) == 0)
	})
}

func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Uint16Range(1, 65000).Draw(t, "low")
		p := PortRange{Low: low, High: rapid.Uint16Range(low, 65535).Draw(t, "high")}
		var q PortRange
		require.NoError(t, q.UnmarshalText([]byte(p.String())))
		require.Equal(t, p, q)
		r := Rate{Count: rapid.IntRange(1, 1<<30).Draw(t, "count"), Per: rapid.SampledFrom(rateUnits).Draw(t, "unit").per}
		var s Rate
		require.NoError(t, s.UnmarshalText([]byte(r.String())))
		require.Equal(t, r, s)
	})
	for text, want := range map[string]string{
		"udp://:5060": "udp://0.0.0.0:5060", "tls://[::]": "tls://[::]:5061", "ws://10.0.0.1": "ws://10.0.0.1:80",
		"tcp://[2001:db8::1]:5070": "tcp://[2001:db8::1]:5070",
	} {
		var l Listen
		require.NoError(t, l.UnmarshalText([]byte(text)))
		require.Equal(t, want, l.String())
	}
	require.Equal(t, 5, PortRange{Low: 3001, High: 3011}.Pairs())
	require.Equal(t, 5, PortRange{Low: 3000, High: 3009}.Pairs())
	require.InDelta(t, 500.0/60, Rate{Count: 500, Per: time.Minute}.PerSecond(), 1e-9)
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		Example(), least, "a: &a [*a]", "{<<: [{a: 1}, *b]}", "agents: [{asr: {provider: x, fallback: [y]}}]",
		"trunks: [{profile: twilio}]\nagents: {}", "sip: {listen: ['udp://[::]']}", "? [a]\n: b", "!!binary x", "- - - -",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, problems, err := Read(strings.NewReader(text), Options{Getenv: environ, Check: func(_, _ string, d registry.Decode) error {
			var e engine
			return d(&e)
		}})
		if (err != nil) != (len(problems.Errors()) > 0) {
			t.Fatalf("error %v, problems %v", err, problems)
		}
	})
}
