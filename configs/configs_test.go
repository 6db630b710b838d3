package configs

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// environ resolves every reference.
func environ(name string) string { return "value-of-" + name }

func read(t *testing.T, text string) (Config, Problems) {
	t.Helper()
	c, problems, _ := Read(strings.NewReader(text), Options{Getenv: environ})
	return c, problems
}

func TestExampleLoadsWithoutProblems(t *testing.T) {
	c, problems, err := Read(strings.NewReader(Example()), Options{Getenv: environ})
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, "value-of-TRUNK_PASSWORD", c.Trunks[0].Auth.Password.Reveal())
	require.Equal(t, "value-of-VOICEFLOW_API_KEY", c.Agents[0].Voiceflow.APIKey.Reveal())
}

func TestExampleShowsTheDefaults(t *testing.T) {
	c, _ := read(t, Example())
	want := Default()
	requireAdapter(t, want.Defaults.ASR, &c.Defaults.ASR)
	requireAdapter(t, want.Defaults.TTS, &c.Defaults.TTS)
	want.Defaults.ASR, want.Defaults.TTS = Adapter{}, Adapter{}
	require.Equal(t, want.Defaults, c.Defaults)
	require.Equal(t, want.SIP, c.SIP)
	require.Equal(t, want.Media, c.Media)
	require.Equal(t, want.HTTP, c.HTTP)
	require.Equal(t, want.RTC, c.RTC)
	require.Equal(t, want.Store, c.Store)
	require.Equal(t, want.Log, c.Log)

	trunk := c.Trunks[0]
	trunk.Name, trunk.Peers, trunk.Auth, trunk.Register.Registrar = "", nil, Auth{}, ""
	require.Equal(t, DefaultTrunk(), trunk)
}

// requireAdapter compares what two adapters say and clears the second.
func requireAdapter(t *testing.T, want Adapter, got *Adapter) {
	t.Helper()
	require.Equal(t, want.Provider, got.Provider)
	require.Equal(t, want.Settings(), got.Settings())
	require.Empty(t, got.Fallback)
	*got = Adapter{}
}

func TestExampleDocumentsEveryKey(t *testing.T) {
	c, _ := read(t, Example())
	var walk func(rt reflect.Type, path string)
	walk = func(rt reflect.Type, path string) {
		for _, f := range orderedFields(rt) {
			at := join(path, f.name)
			if at == "defaults.name" {
				continue
			}
			require.Contains(t, c.lines, at, "the example does not show it")
			require.NotEmpty(t, f.doc, "%s has no doc tag", at)
			ft := rt.FieldByIndex(f.index).Type
			if ft.Kind() == reflect.Struct && ft.PkgPath() == rt.PkgPath() && !isText(ft) && ft != reflect.TypeFor[Adapter]() {
				walk(ft, at)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	walk(reflect.TypeFor[Trunk](), "trunks[0]")
	walk(reflect.TypeFor[Route](), "routes[0]")
}

func TestEmptyFileWantsAnAgent(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}", "---\n"} {
		_, problems, err := Read(strings.NewReader(text), Options{Getenv: environ})
		require.Error(t, err)
		require.Len(t, problems.Errors(), 1, text)
		require.Equal(t, "agents", problems[0].Path)
	}
}

const least = "agents: [{name: pizza, voiceflow: {api_key: VF.DM.x}}]\n"

func TestLeastFile(t *testing.T) {
	c, problems := read(t, least)
	require.Empty(t, problems)
	require.Equal(t, []Trunk{LocalTrunk()}, c.Trunks)
	require.True(t, c.Trunks[0].Local)
	require.Equal(t, []Route{{Agent: "pizza"}}, c.Routes)
	want := DefaultAgent()
	require.Equal(t, want.NoReply, c.Agents[0].NoReply)
	require.Equal(t, want.ASR.Settings(), c.Agents[0].ASR.Settings())
}

func TestAgentsInheritFieldByField(t *testing.T) {
	c, problems := read(t, `
defaults:
  language: de-DE
  no_reply: 7s
  voiceflow: {api_key: VF.DM.x, project: p1}
  barge_in: {mode: speech, protect: 1s}
  dial: {directory: {desk: "+4930123456", night: "+4930123457"}, allow: ["1???"]}
  headers: [X-A, X-B]
  asr: {provider: vosk, url: "ws://vosk:2700", fallback: [none]}
agents:
  - name: a
    barge_in: {protect: 0s}
    dial: {directory: {desk: "sip:1@pbx.example.com"}, allow: []}
    headers: [X-C]
    asr: {provider: deepgram, model: nova-3}
    no_reply: ~
  - name: b
    voiceflow: {project: p2}
    asr: {words: true}
routes: [{to: "+49*", agent: a}, {agent: b}]
`)
	require.Empty(t, problems)
	a, b := c.Agents[0], c.Agents[1]
	require.Equal(t, "de-DE", a.Language)
	require.Equal(t, BargeIn{Mode: "speech", MinSpeech: 200 * time.Millisecond, FalseBargeIn: 1500 * time.Millisecond}, a.BargeIn)
	require.Equal(t, map[string]Strings{"desk": {"sip:1@pbx.example.com"}, "night": {"+4930123457"}}, a.Dial.Directory)
	require.Empty(t, a.Dial.Allow)
	require.Equal(t, []string{"X-C"}, a.Headers)
	require.Equal(t, "deepgram", a.ASR.Provider)
	require.Equal(t, map[string]any{"model": "nova-3"}, a.ASR.Settings(), "settings of another provider are not inherited")
	require.Equal(t, 10*time.Second, a.NoReply, "null is the built-in default")

	require.Equal(t, "p2", b.Voiceflow.Project)
	require.Equal(t, "VF.DM.x", b.Voiceflow.APIKey.Reveal())
	require.Equal(t, []string{"1???"}, b.Dial.Allow)
	require.Equal(t, map[string]any{"url": "ws://vosk:2700", "words": true}, b.ASR.Settings())
	require.Equal(t, "none", b.ASR.Fallback[0].Provider)
	require.Equal(t, 7*time.Second, b.NoReply)
	require.Equal(t, map[string]Strings{"desk": {"+4930123456"}, "night": {"+4930123457"}}, c.Defaults.Dial.Directory)
}

func TestMistakeInDefaultsIsReportedOnce(t *testing.T) {
	_, problems := read(t, `
defaults:
  no_reply: 7
  thinkin: {after: 1s}
agents: [{name: a, voiceflow: {api_key: x}}, {name: b, voiceflow: {api_key: x}}]
routes: [{agent: a}]
`)
	require.Equal(t, []string{
		"line 3: defaults.no_reply: the duration 7 has no unit, write 7s or 7ms",
		"line 4: defaults.thinkin: unknown key, write thinking",
	}, texts(problems))
}

func TestProfilesAreOverlaid(t *testing.T) {
	c, problems := read(t, least+`
trunks:
  - {name: t, profile: twilio, media: []}
  - {name: u, profile: twilo}
`)
	require.Equal(t, []string{
		`line 5: warning: trunks[1]: nobody can call in: there are neither peers nor users nor a registration`,
		`line 5: trunks[1].profile: "twilo" is unknown, write one of asterisk, generic, register, telnyx, twilio`,
	}, texts(problems))
	require.Contains(t, c.Trunks[0].Peers, netip.MustParsePrefix("54.172.60.0/30"))
	require.Empty(t, c.Trunks[0].Media)
	require.Equal(t, []string{"refer", "bridge"}, c.Trunks[0].Transfer)
}

func TestEveryProfileIsAPartOfATrunk(t *testing.T) {
	require.Contains(t, Profiles(), "generic")
	for _, name := range Profiles() {
		_, problems := read(t, least+"trunks: [{name: t, peers: [192.0.2.1], profile: "+name+"}]\n")
		require.Empty(t, problems, name)
	}
	_, ok := Profile("../ivrbridge.example")
	require.False(t, ok)
}

func TestAliasesAndMergeKeys(t *testing.T) {
	c, problems := read(t, `
agents:
  - &base
    name: a
    voiceflow: &vf {api_key: x, environment: staging}
  - <<: *base
    name: b
    voiceflow: {<<: *vf, environment: main}
routes: [{agent: b}]
`)
	require.Empty(t, problems)
	require.Equal(t, "x", c.Agents[1].Voiceflow.APIKey.Reveal())
	require.Equal(t, "main", c.Agents[1].Voiceflow.Environment)
}

func TestRoute(t *testing.T) {
	c := Config{Routes: []Route{
		{To: "+1415555????", From: "+49*", Agent: "a"},
		{To: "+14155550100", Trunk: "x", Agent: "b"},
		{To: "100", Agent: "c"},
	}}
	tests := []struct{ trunk, to, from, want string }{
		{"x", "+14155550100", "+4930123456", "a"},
		{"x", "+14155550100", "+12125550100", "b"},
		{"y", "+14155550100", "", ""},
		{"y", "100", "", "c"},
		{"y", "1001", "", ""},
	}
	for _, tt := range tests {
		r, _, ok := c.Route(tt.trunk, tt.to, tt.from)
		require.Equal(t, tt.want, r.Agent, tt)
		require.Equal(t, tt.want != "", ok)
	}
}

func texts(p Problems) []string {
	out := make([]string, len(p))
	for i := range p {
		out[i] = p[i].String()
	}
	return out
}
