package dialog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func traceOf(t require.TestingT, s string) Trace {
	var tr Trace
	require.NoError(t, json.Unmarshal([]byte(s), &tr), s)
	return tr
}

func TestInterpret(t *testing.T) {
	tests := []struct {
		name, in string
		want     Step
	}{
		{
			"speak", `{"type":"speak","payload":{"type":"message","message":"Hi <break/>","voice":"Ivy"}}`,
			Step{Kind: KindSpeak, Text: "Hi <break/>", SSML: true, Voice: "Ivy"},
		},
		{
			"speak in a voice", `{"type":"speak","payload":{"type":"message","message":"<voice name=\"Ivy\">Hi</voice>"}}`,
			Step{Kind: KindSpeak, Text: `<voice name="Ivy">Hi</voice>`, SSML: true, Voice: "Ivy"},
		},
		{"no type but paths", `{"paths":[{"event":{"type":"x"}}]}`, Step{Kind: KindIgnore}},
		{
			"speak with src null", `{"type":"speak","payload":{"type":"message","message":"Hi","src":null}}`,
			Step{Kind: KindSpeak, Text: "Hi", SSML: true},
		},
		{
			"speak in Voiceflow's voice", `{"type":"speak","payload":{"type":"message","message":"Hi","src":"data:audio/mpeg;base64,SUQz"}}`,
			Step{Kind: KindSpeak, Text: "Hi", SSML: true, Src: "data:audio/mpeg;base64,SUQz"},
		},
		{
			"speak as prompt", `{"type":"speak","payload":{"type":"message","message":"Size?","isPrompt":true}}`,
			Step{Kind: KindSpeak, Text: "Size?", SSML: true, Prompt: true},
		},
		{"speak of a bare string", `{"type":"speak","payload":"Hi"}`, Step{Kind: KindSpeak, Text: "Hi", SSML: true}},
		{"speak of nothing", `{"type":"speak","payload":{"type":"message","message":"  "}}`, Step{Kind: KindIgnore, SSML: true}},
		{"speak without payload", `{"type":"speak"}`, Step{Kind: KindIgnore, SSML: true}},
		{"speak of wrong types", `{"type":"speak","payload":{"message":7,"src":{}}}`, Step{Kind: KindIgnore, SSML: true}},
		{
			"audio step", `{"type":"speak","payload":{"type":"audio","message":"","src":"https://c.example/a.mp3"}}`,
			Step{Kind: KindAudio, SSML: true, Src: "https://c.example/a.mp3"},
		},
		{
			"audio step with its tag", `{"type":"speak","payload":{"type":"audio","message":"<audio src=\"https://c.example/a.mp3\"/>","src":"https://c.example/a.mp3"}}`,
			Step{Kind: KindAudio, SSML: true, Src: "https://c.example/a.mp3"},
		},
		{
			"audio step with src null", `{"type":"speak","payload":{"type":"audio","message":"<audio src='https://c.example/a.mp3?x=1&amp;y=2'/> and words","src":null}}`,
			Step{Kind: KindAudio, SSML: true, Src: "https://c.example/a.mp3?x=1&y=2", Text: " and words"},
		},
		{
			"audio step of another world", `{"type":"speak","payload":{"type":"audio","message":"<audio src=\"soundbank://x\"/>","src":"soundbank://x"}}`,
			Step{Kind: KindIgnore, SSML: true},
		},
		{
			"audio step with words alone", `{"type":"speak","payload":{"type":"audio","message":"words","src":"relative.mp3"}}`,
			Step{Kind: KindSpeak, SSML: true, Text: "words"},
		},
		{
			"speak with audio alone inside", `{"type":"speak","payload":{"type":"message","src":"https://c.example/a.mp3"}}`,
			Step{Kind: KindAudio, SSML: true, Src: "https://c.example/a.mp3"},
		},
		{"text", `{"type":"text","payload":{"message":"**Hi**","delay":1000,"slate":{}}}`, Step{Kind: KindSpeak, Text: "**Hi**"}},
		{
			"text of a slate", `{"type":"text","payload":{"slate":{"content":[{"children":[{"text":"a "},{"text":"b","bold":true}]},{"children":[{"children":[{"text":"c"}]}]},{"children":[{"text":""}]}]}}}`,
			Step{Kind: KindSpeak, Text: "a b\nc"},
		},
		{
			"text with audio", `{"type":"text","payload":{"message":"Hi","audio":{"src":"https://c.example/a.mp3"}}}`,
			Step{Kind: KindSpeak, Text: "Hi", Src: "https://c.example/a.mp3"},
		},
		{"text of a bare string", `{"type":"text","payload":"Hi"}`, Step{Kind: KindSpeak, Text: "Hi"}},
		{"audio with src", `{"type":"audio","payload":{"src":"HTTPS://c.example/a.mp3"}}`, Step{Kind: KindAudio, Src: "HTTPS://c.example/a.mp3"}},
		{
			"audio content", `{"type":"audio","payload":{"state":"content","content":"QUJD","encoding":"audio/x-mulaw"}}`,
			Step{Kind: KindChunk, State: "content", Src: "data:audio/x-mulaw;base64,QUJD"},
		},
		{"audio end", `{"type":"audio","payload":{"state":"end"}}`, Step{Kind: KindChunk, State: "end"}},
		{"audio of nothing", `{"type":"audio","payload":null}`, Step{Kind: KindIgnore}},
		{
			"choice", `{"type":"choice","payload":{"buttons":[{"name":"A","request":{"type":"path-1","payload":{"label":"A"}}},{"request":{"type":"text","payload":{"label":" B "}}},{"name":"C"},{"name":""},7,{"name":"D","request":{"payload":1}}]}}`,
			Step{Kind: KindChoice, Buttons: []Button{
				{"A", json.RawMessage(`{"type":"path-1","payload":{"label":"A"}}`)},
				{"B", json.RawMessage(`{"type":"text","payload":{"label":" B "}}`)},
				{"C", json.RawMessage(`{"type":"text","payload":"C"}`)},
				{"D", json.RawMessage(`{"type":"text","payload":"D"}`)},
			}},
		},
		{
			"choice as documented", `{"type":"choice","payload":{"choices":[{"name":"A","intent":"a_intent"},{"name":"B","intent":{"name":"b_intent"}}]}}`,
			Step{Kind: KindChoice, Buttons: []Button{
				{"A", json.RawMessage(`{"type":"intent","payload":{"query":"A","intent":{"name":"a_intent"},"entities":[]}}`)},
				{"B", json.RawMessage(`{"type":"intent","payload":{"query":"B","intent":{"name":"b_intent"},"entities":[]}}`)},
			}},
		},
		{"choice without buttons", `{"type":"choice","payload":[]}`, Step{Kind: KindChoice}},
		{"no-reply", `{"type":"no-reply","payload":{"timeout":2.5}}`, Step{Kind: KindNoReply, Timeout: 2500 * time.Millisecond}},
		{"no-reply in words", `{"type":"no-reply","payload":{"timeout":"7"}}`, Step{Kind: KindNoReply, Timeout: 7 * time.Second}},
		{"no-reply of nonsense", `{"type":"no-reply","payload":{"timeout":-1}}`, Step{Kind: KindNoReply}},
		{"no-reply for ever", `{"type":"no-reply","payload":{"timeout":1e300}}`, Step{Kind: KindNoReply, Timeout: 24 * time.Hour}},
		{
			"dtmf", `{"type":"dtmf","payload":{"enabled":true,"timeoutInSeconds":0.5,"delimiter":["*","#"],"maxDigits":4}}`,
			Step{Kind: KindDTMF, DTMF: DTMFSettings{Enabled: true, Timeout: 500 * time.Millisecond, Delimiter: "#*", MaxDigits: 4}},
		},
		{"dtmf off", `{"type":"dtmf","payload":{"enabled":false,"delimiter":"x"}}`, Step{Kind: KindDTMF}},
		{"dtmf of nothing", `{"type":"dtmf"}`, Step{Kind: KindIgnore}},
		{
			"call-forward", `{"type":"call-forward","payload":{"addressType":"phone","address":"+15551230000","extension":"w12","callerIDPassthrough":true}}`,
			Step{Kind: KindForward, Forward: Forward{Address: "+15551230000", Extension: "w12", CallerID: true}},
		},
		{
			"call-forward to SIP", `{"type":"call-forward","payload":{"addressType":"sip","address":"sip:a@b"}}`,
			Step{Kind: KindForward, Forward: Forward{SIP: true, Address: "sip:a@b"}},
		},
		{
			"handoff", `{"type":"live-agent-handoff","payload":{"event":"chat_started","message":"One moment"}}`,
			Step{Kind: KindHandoff, State: "chat_started", Text: "One moment"},
		},
		{
			"stream", `{"type":"stream","payload":{"src":"https://c.example/h.mp3","action":"LOOP"}}`,
			Step{Kind: KindStream, State: "LOOP", Loop: true, Src: "https://c.example/h.mp3"},
		},
		{"stream end", `{"type":"stream","payload":{"action":"END"}}`, Step{Kind: KindStream, State: "END"}},
		{"entity", `{"type":"entity-filling","payload":{"entityToFill":"size","intent":{}}}`, Step{Kind: KindEntity, Name: "size"}},
		{"completion", `{"type":"completion","payload":{"state":"content","content":"wor"}}`, Step{Kind: KindCompletion, State: "content", Text: "wor"}},
		{"old completion", `{"type":"completion-start","payload":{"type":"speak","completion":"He"}}`, Step{Kind: KindCompletion, State: "start", Text: "He", SSML: true}},
		{"debug", `{"type":"debug","payload":{"message":"ERROR: turn timeout"}}`, Step{Kind: KindDebug, Text: "ERROR: turn timeout"}},
		{"end", `{"type":"end","payload":null}`, Step{Kind: KindEnd}},
		{"end without payload", `{"type":"end"}`, Step{Kind: KindEnd}},
		{"path", `{"type":"path","payload":{"path":"choice:1"}}`, Step{Kind: KindIgnore}},
		{"visual", `{"type":"visual","payload":{"image":"x"}}`, Step{Kind: KindIgnore}},
		{"reasoning", `{"type":"reasoning","payload":{"message":"secret thoughts"}}`, Step{Kind: KindIgnore}},
		{"no type", `{"payload":{"message":"x"}}`, Step{Kind: KindIgnore}},
		{
			"card", `{"type":"cardV2","payload":{"title":"A card","description":{"text":"All about it!"},"buttons":[{"name":"Pick","request":{"type":"path-1"}}]}}`,
			Step{Kind: KindCard, Text: "A card. All about it!", Buttons: []Button{{"Pick", json.RawMessage(`{"type":"path-1"}`)}}},
		},
		{
			"carousel", `{"type":"carousel","payload":{"cards":[{"title":"One","buttons":[{"name":"P","request":{"type":"a"}}]},{"title":"Two","description":"second"},5]}}`,
			Step{Kind: KindCard, Text: "One. Two. second.", Buttons: []Button{{"P", json.RawMessage(`{"type":"a"}`)}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Interpret(traceOf(t, tt.in))
			tt.want.Type, tt.want.DefaultPath = got.Type, -1
			require.Equal(t, tt.want, got)
			require.NotEqual(t, "unknown", got.Kind.String())
		})
	}
}

func TestInterpretActions(t *testing.T) {
	s := Interpret(traceOf(t, `{"type":"dial","payload":"{\"number\":\"+1\"}","defaultPath":1,"paths":[{"label":"ok","event":{"type":"success"}},{"event":{"type":"failed","x":1}}]}`))
	require.Equal(t, KindAction, s.Kind)
	require.Equal(t, "dial", s.Name)
	require.Equal(t, 1, s.DefaultPath)
	require.Equal(t, "success", s.Paths[0].Event.Type)
	require.Equal(t, "failed", s.Paths[1].Event.Type)

	s = Interpret(traceOf(t, `{"type":"notify","payload":null}`))
	require.Equal(t, KindAction, s.Kind)
	require.Equal(t, -1, s.DefaultPath)
	require.JSONEq(t, "null", string(s.Payload))

	for _, taken := range []string{"log", "dtmf", "stream", "visual", "audio"} {
		s = Interpret(traceOf(t, `{"type":"`+taken+`","payload":{},"defaultPath":7,"paths":[{"event":{"type":"x"}},5]}`))
		require.Equal(t, KindAction, s.Kind, "a custom action may be called %s", taken)
		require.Equal(t, -1, s.DefaultPath)
		require.Len(t, s.Paths, 2, "indices stay")
	}
	require.Equal(t, KindEnd, Interpret(traceOf(t, `{"type":"end","paths":[{"event":{"type":"x"}}]}`)).Kind)
	bad := 9
	require.Equal(t, -1, Interpret(Trace{Type: "x", DefaultPath: &bad}).DefaultPath)
}

func TestSplit(t *testing.T) {
	parts := func(in string) (out []string) {
		for _, s := range Interpret(traceOf(t, in)).Split() {
			out = append(out, fmt.Sprintf("%s %q %s", s.Kind, s.Text, s.Src))
		}
		return out
	}
	tests := []struct {
		in   string
		want []string
	}{
		{
			`{"type":"speak","payload":{"type":"message","message":"Say it. <audio src=\"https://c/t.wav\"/> Visit 1."}}`,
			[]string{`speak "Say it. " `, `audio "" https://c/t.wav`, `speak " Visit 1." `},
		},
		{
			`{"type":"speak","payload":{"type":"audio","message":"<audio src='https://c/t.wav'></audio>Hello<audio src=https://c/u.wav>","src":"https://c/t.wav"}}`,
			[]string{`audio "" https://c/t.wav`, `speak "Hello" `, `audio "" https://c/u.wav`},
		},
		{
			`{"type":"speak","payload":{"type":"message","message":"a<audio src=\"soundbank://x\">fallback</audio>b"}}`,
			[]string{`speak "a" `, `speak "b" `},
		},
		{
			`{"type":"speak","payload":{"type":"message","message":"<voice name=\"Ivy\"><audio src=\"https://c/t.wav\"/></voice>"}}`,
			[]string{`audio "" https://c/t.wav`},
		},
		{`{"type":"speak","payload":{"type":"message","message":"Hi","src":"https://c/t.wav"}}`, []string{`speak "Hi" https://c/t.wav`}},
		{`{"type":"text","payload":{"message":"use <audio src=\"https://c/t.wav\"/>"}}`, []string{`speak "use <audio src=\"https://c/t.wav\"/>" `}},
		{`{"type":"end"}`, []string{`end "" `}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, parts(tt.in), tt.in)
	}
}

func TestObject(t *testing.T) {
	tests := []struct {
		in   string
		want string // empty: none
	}{
		{`{"number":"+1","n":15551230000}`, `{"number":"+1","n":15551230000}`},
		{`"{\"number\":\"+1\",\"timeout\":20}"`, `{"number":"+1","timeout":20}`},
		{`"{ 'amount': 25 }"`, `{"amount":25}`},
		{`"{'name': 'O'Brien', 'say': 'he said \"hi\"', 'x': 'it\\'s'}"`, `{"name":"O'Brien","say":"he said \"hi\"","x":"it's"}`},
		{`"  {\"a\":\n1}  "`, `{"a":1}`},
		{`"{\"a\":\"line\nbreak\"}"`, `{"a":"line break"}`},
		{`"{\"a\":\"line\\nbreak\"}"`, `{"a":"line\nbreak"}`},
		{`"plain"`, ``},
		{`"{broken"`, ``},
		{`"{}"`, `{}`},
		{`{}`, `{}`},
		{`{} {}`, ``},
		{`null`, ``},
		{``, ``},
		{`[1]`, ``},
		{`5`, ``},
		{`"'{'"`, ``},
	}
	for _, tt := range tests {
		got, ok := Object(json.RawMessage(tt.in))
		require.Equal(t, tt.want != "", ok, tt.in)
		if ok {
			b, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, tt.want, string(b), tt.in)
		}
	}
	got, _ := Object(json.RawMessage(`{"n":15551230000}`))
	require.Equal(t, "15551230000", fmt.Sprint(got["n"]))
}

func TestScalar(t *testing.T) {
	for in, want := range map[string]string{
		`" +1555 "`: "+1555", `15551230000`: "15551230000", `-1.5`: "-1.5",
		`""`: "", `null`: "", `true`: "", `{}`: "", ``: "", `1x`: "1x",
	} {
		got, ok := Scalar(json.RawMessage(in))
		require.Equal(t, want, got, in)
		require.Equal(t, want != "" && in != "1x", ok, in)
	}
}

func TestMatch(t *testing.T) {
	menu := func(names ...string) (b []Button) {
		for _, n := range names {
			b = append(b, Button{Name: n})
		}
		return b
	}
	shop := menu("Order status", "Opening hours", "Speak to a human")
	options := menu("Option 1", "Option 2", "Option 21", "Route 66", "The 3rd floor", "24/7 support", "Option A", "Option B")
	tests := []struct {
		buttons []Button
		said    string
		want    int // -1: none
	}{
		{shop, "order status", 0},
		{shop, "ORDER  STATUS!", 0},
		{shop, "the order status, please", 0},
		{shop, "um, I'd like the opening hours", 1},
		{shop, "speak to human", 2},
		{shop, "Could you speak to a human please, thank you", 2},
		{shop, "order", -1},
		{shop, "my order status", -1},
		{shop, "", -1},
		{shop, "...", -1},
		{shop, "please", -1},
		{options, "option one", 0},
		{options, "option two", 1},
		{options, "Option 2.", 1},
		{options, "option twenty one", 2},
		{options, "option twenty-one", 2},
		{options, "route sixty six", 3},
		{options, "third floor", 4},
		{options, "twenty four seven support", 5},
		{options, "option a", 6},
		{options, "option a please", 6},
		{options, "option", -1},
		{menu("1. Billing", "2) Sales"), "billing", 0},
		{menu("1. Billing", "2) Sales"), "sales please", 1},
		{menu("Please hold", "Hold"), "please hold", 0},
		{menu("Please hold", "Hold"), "hold", 1},
		{menu("Yes", "No"), "yes please", 0},
		{menu("Yes", "No"), "no thanks", 1},
		{menu("Café crème"), "cafe creme", 0},
		{menu("R&D"), "r and d", 0},
		{menu("What's new"), "whats new", 0},
		{menu("Drei Pizzen"), "3 pizzen", 0},
		{menu("🎉 Party!"), "party", 0},
		{menu("", "🎉"), "party", -1},
		{menu("123"), "one two three", 0},
		{nil, "x", -1},
	}
	for _, tt := range tests {
		i, ok := Match(tt.buttons, tt.said)
		require.Equal(t, tt.want >= 0, ok, tt.said)
		if ok {
			require.Equal(t, tt.want, i, tt.said)
		}
	}
}

func TestEveryNameMatchesItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		if len(words(name)) == 0 {
			return
		}
		_, ok := Match([]Button{{Name: name}}, name)
		require.True(t, ok)
	})
}

func TestActionsAsJSON(t *testing.T) {
	tests := []struct {
		a    Action
		want string
	}{
		{Launch(nil), `{"type":"launch"}`},
		{Launch(map[string]any{"callType": "inbound"}), `{"type":"launch","payload":{"callType":"inbound"}}`},
		{Text("x"), `{"type":"text","payload":"x"}`},
		{NoReply(), `{"type":"no-reply"}`},
		{Keys("12"), `{"type":"dtmf","payload":"12"}`},
		{Event("DTMF 1"), `{"type":"event","payload":{"event":{"name":"DTMF 1"}}}`},
		{Outcome("busy", nil), `{"type":"busy"}`},
		{Intent("a", "q", nil, 0), `{"type":"intent","payload":{"query":"q","intent":{"name":"a"},"entities":[]}}`},
		{Press(Button{Request: json.RawMessage(`{"type":"path-1","payload":{"label":"A","actions":[]}}`)}), `{"type":"path-1","payload":{"label":"A","actions":[]}}`},
	}
	for _, tt := range tests {
		b, err := json.Marshal(tt.a)
		require.NoError(t, err)
		require.JSONEq(t, tt.want, string(b))
	}
	require.Equal(t, "path-1", Press(Button{Request: json.RawMessage(`{"type":"path-1"}`)}).Type)
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`[{"type":"speak","payload":{"type":"audio","message":"<audio src='https://x/'/>y","src":null}},{"type":"choice","payload":{"buttons":[{"name":"A","request":{"type":"a"}}]}}]`))
	f.Add([]byte(`{"trace":[{"type":"dial","payload":"{'a':'b'}","paths":[{"event":{"type":"x"}}],"defaultPath":0},{"type":"cardV2","payload":{"title":"t","description":{"text":"d"}}}]}`))
	f.Add([]byte("[{\"type\":\"text\",\"payload\":{\"slate\":{\"content\":[{\"children\":[{\"text\":\"\x01\"}]}]}}},{\"type\":\"no-reply\",\"payload\":{\"timeout\":1e9}}]"))
	f.Add([]byte(`[{"type":"dtmf","payload":{"delimiter":["#"],"timeoutInSeconds":"3"}},{"type":"carousel","payload":{"cards":[null]}},{"type":"call-forward","payload":"sip:a@b"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		_ = readTraces(bytes.NewReader(body), func(tr Trace) error {
			n++
			s := Interpret(tr)
			require.GreaterOrEqual(t, s.Timeout, time.Duration(0))
			require.Less(t, s.DefaultPath, max(len(s.Paths), 1))
			for _, p := range s.Split() {
				require.NotNil(t, p)
			}
			for _, b := range s.Buttons {
				out, err := json.Marshal(Press(b))
				require.NoError(t, err)
				require.True(t, json.Valid(out))
			}
			_, _ = Object(s.Payload)
			_, _ = Scalar(s.Payload)
			_, _ = Match(s.Buttons, s.Text)
			return nil
		})
		require.LessOrEqual(t, n, maxTraces)
		require.True(t, utf8.ValidString(errorText(body)))
	})
}
