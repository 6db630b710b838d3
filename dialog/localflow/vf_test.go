package localflow

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// vfTurn sends one action and returns the traces as JSON has them.
func vfTurn(t require.TestingT, s *Server, action any) []any {
	body, err := json.Marshal(map[string]any{"action": action, "config": map[string]any{"excludeTypes": []string{}, "stopTypes": []string{"dial"}}})
	require.NoError(t, err)
	req := httptest.NewRequest(http.MethodPost, "/state/user/u/interact?logs=info", strings.NewReader(string(body)))
	req.Header.Set("Authorization", "VF.DM.x.y")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	require.Equal(t, 200, w.Code, w.Body.String())
	var traces []any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &traces))
	return traces
}

// anonymous takes away times and ids.
func anonymous(traces []any) []any {
	for _, v := range traces {
		m := v.(map[string]any)
		delete(m, "time")
		p, _ := m["payload"].(map[string]any)
		switch m["type"] {
		case "block", "flow":
			delete(m, "payload")
		case "log":
			delete(p, "timestamp")
			if message, ok := p["message"].(map[string]any); ok {
				delete(message, "stepID")
				delete(message, "versionID")
			}
		}
	}
	return traces
}

// The project that designers import and the flow that everybody can call are one
// conversation.
func TestSampleProjectIsTheSampleFlow(t *testing.T) {
	project, err := Load("../../docs/guides/sample-project.vf")
	require.NoError(t, err)
	require.Empty(t, project.Remarks())
	flow, err := Load("../../docs/guides/sample-flow.yaml")
	require.NoError(t, err)
	require.Equal(t, flow.Name, project.Name)
	require.Equal(t, flow.variables, project.variables)
	press := func(name, intent string) any {
		return map[string]any{"type": "intent", "payload": map[string]any{
			"query": name, "label": name, "intent": map[string]any{"name": intent}, "entities": []any{},
		}}
	}
	text := func(words string) any { return map[string]any{"type": "text", "payload": words} }
	event := func(name string) any { return map[string]any{"type": name} }
	moves := []any{
		nil, event("launch"), event("no-reply"), event("no-reply"), text("order a pizza"), text("opening hours"), text("a human"), text("operator"),
		text("xyzzy"), text(""), press("Order", "order_intent"), press("Opening hours", "hours_intent"), press("Speak to a human", "human_intent"),
		press("?", "nothing_intent"), event("entered"), event("timeout"), event("success"), event("busy"), event("failed"), event("odd"), event("end"),
	}
	play := func(t require.TestingT, script []any) {
		a, b := New(project, Options{}), New(flow, Options{})
		for i, move := range script {
			require.Equal(t, anonymous(vfTurn(t, b, move)), anonymous(vfTurn(t, a, move)), "move %d: %v", i, move)
		}
	}
	for _, script := range [][]any{
		{event("launch"), text("order"), event("entered")},
		{event("launch"), text("order"), event("timeout"), text("hours"), event("no-reply"), event("no-reply"), event("no-reply")},
		{event("launch"), press("Speak to a human", "human_intent"), event("busy"), text("operator"), event("failed"), text("human"), event("success")},
		{event("launch"), text("xyzzy"), text("xyzzy"), event("odd")},
	} {
		play(t, script)
	}
	rapid.Check(t, func(t *rapid.T) {
		play(t, append([]any{event("launch")}, rapid.SliceOfN(rapid.SampledFrom(moves), 1, 20).Draw(t, "moves")...))
	})
}

// canvas makes a project of one diagram from the nodes given as JSON members, and
// of further members of the file.
func canvas(t *testing.T, nodes string, more ...string) *Flow {
	t.Helper()
	f, err := Parse([]byte(canvasFile(nodes, more...)))
	require.NoError(t, err)
	return f
}

func canvasFile(nodes string, more ...string) string {
	diagrams := `"main": {"name": "ROOT", "type": "TOPIC", "nodes": {
		"start": {"type": "start", "data": {"portsV2": {"builtIn": {"next": {"target": "a"}}}}},` + nodes + `}}`
	version := `{"_id": "v", "rootDiagramID": "main"}`
	rest := ""
	for _, m := range more {
		switch {
		case strings.HasPrefix(m, "version:"):
			version = `{"_id": "v", "rootDiagramID": "main",` + strings.TrimPrefix(m, "version:") + `}`
		case strings.HasPrefix(m, "diagram:"):
			diagrams += "," + strings.TrimPrefix(m, "diagram:")
		default:
			rest += "," + m
		}
	}
	return `{"_version": "1.2", "project": {"name": "P"}, "version": ` + version + `, "diagrams": {` + diagrams + `}` + rest + `}`
}

// vfStep is a node with portsV2; ports are name=target, a number for dynamic ones
// in order, and key:name=target for those by key.
func vfStep(id, typ, data string, ports ...string) string {
	var builtIn, keys, dynamic []string
	for _, p := range ports {
		name, target, _ := strings.Cut(p, "=")
		port := `{"target": null}`
		if target != "" {
			port = `{"target": "` + target + `"}`
		}
		key, byKey := strings.CutPrefix(name, "key:")
		switch {
		case byKey:
			keys = append(keys, `"`+key+`": `+port)
		case name == "":
			dynamic = append(dynamic, port)
		default:
			builtIn = append(builtIn, `"`+name+`": `+port)
		}
	}
	if data != "" {
		data += ","
	}
	return fmt.Sprintf(`%q: {"type": %q, "data": {%s "portsV2": {"builtIn": {%s}, "byKey": {%s}, "dynamic": [%s]}}}`,
		id, typ, data, strings.Join(builtIn, ","), strings.Join(keys, ","), strings.Join(dynamic, ","))
}

func vfSay(id, words, next string) string {
	return vfStep(id, "speak", `"dialogs": [{"voice": "x", "content": "`+words+`"}]`, "next="+next)
}

// hear plays moves, texts unless they are an action's type with an exclamation
// mark, and returns what is heard and what else is sent, in short.
func hear(t *testing.T, f *Flow, moves ...string) []string {
	t.Helper()
	s := New(f, Options{})
	s.pick = func(n int) int { return n - 1 }
	out := short(vfTurn(t, s, map[string]any{"type": "launch"}))
	for _, m := range moves {
		action := map[string]any{"type": "text", "payload": m}
		if typ, ok := strings.CutPrefix(m, "!"); ok {
			action = map[string]any{"type": typ}
		}
		out = append(out, short(vfTurn(t, s, action))...)
	}
	return out
}

func short(traces []any) []string {
	var out []string
	for _, v := range traces {
		m := v.(map[string]any)
		p, _ := m["payload"].(map[string]any)
		switch m["type"] {
		case "speak":
			if p["type"] == "audio" {
				out = append(out, "audio "+p["src"].(string))
				continue
			}
			out = append(out, p["message"].(string))
		case "text":
			out = append(out, "text "+p["message"].(string))
		case "choice":
			var names []string
			for _, b := range p["buttons"].([]any) {
				names = append(names, b.(map[string]any)["name"].(string))
			}
			out = append(out, "["+strings.Join(names, "|")+"]")
		case "no-reply":
			out = append(out, fmt.Sprint("wait ", p["timeout"]))
		case "block", "debug", "flow", "log", "path":
		default:
			line := m["type"].(string)
			if m["payload"] != nil {
				b, _ := json.Marshal(m["payload"])
				line += " " + string(b)
			}
			out = append(out, line)
		}
	}
	return out
}

const orderIntents = `"intents": [{"id": "i1", "name": "pizza", "entityOrder": []}, {"id": "i2", "name": "help"}],
	"utterances": [{"intentID": "i1", "text": ["a ", {"entityID": "e1"}, " pizza"]}, {"intentID": "i1", "text": [{"text": ["a pizza"]}]}, {"intentID": "i2", "text": ["help"]}],
	"entities": [{"id": "e1", "name": "size", "classifier": "Custom"}, {"id": "e2", "name": "count", "classifier": "VF.NUMBER"}],
	"entityVariants": [{"entityID": "e1", "value": "small", "synonyms": ["little"]}, {"entityID": "e1", "value": "large", "synonyms": []}],
	"requiredEntities": [{"id": "r1", "intentID": "i1", "entityID": "e1", "repromptID": "ask"}],
	"responses": [{"id": "ask"}, {"id": "hi"}],
	"responseDiscriminators": [{"id": "d1", "responseID": "ask", "variantOrder": []}, {"id": "d2", "responseID": "hi", "variantOrder": ["m2", "m1"]}],
	"responseVariants": [{"id": "v1", "discriminatorID": "d1", "text": ["What size?"]}],
	"responseMessages": [{"id": "m1", "discriminatorID": "d2", "text": ["Hello ", {"variableID": "x1"}, "."], "delay": 500}],
	"variables": [{"id": "x1", "name": "caller", "datatype": "text", "defaultValue": "you", "isSystem": false}, {"id": "x2", "name": "n", "datatype": "number", "defaultValue": "3"},
		{"id": "sessions", "name": "sessions", "isSystem": true}]`

func TestProjectSteps(t *testing.T) {
	tests := []struct {
		name  string
		nodes []string
		more  []string
		moves []string
		want  []string
	}{
		{"blocks lead on by their order, ports go first", []string{
			`"a": {"type": "block", "data": {"name": "B", "steps": ["s1", "s2", "s3"]}}`,
			vfSay("s1", "One.", ""), vfSay("s2", "Two.", "s4"), vfSay("s3", "Never.", ""), vfSay("s4", "Four.", ""),
		}, nil, nil, []string{"One.", "Two.", "Four.", "end"}},
		{"variants are picked at random, others are said in a row", []string{
			vfStep("a", "speak", `"randomize": true, "dialogs": [{"content": "A"}, {"content": "B"}]`, "next=b"),
			vfStep("b", "speak", `"randomize": false, "dialogs": [{"content": "C"}, {"content": "  "}, {"content": "D"}]`, "next="),
		}, nil, nil, []string{"B", "C D", "end"}},
		{
			"sounds",
			[]string{vfStep("a", "speak", `"dialogs": [{"voice": "audio", "content": "https://example.com/a\"b.mp3"}]`, "next=")},
			nil, nil,
			[]string{"audio https://example.com/a%22b.mp3", "end"},
		},
		{
			"rich text",
			[]string{vfStep("a", "text", `"texts": [{"content": [{"children": [{"text": "Dear "}, {"type": "variable", "id": "x1", "name": "old"}, {"text": ", see "},
			{"type": "link", "url": "u", "children": [{"text": "us"}]}]}, {"children": [{"text": "{{[n].x2}} times"}]}]}]`, "next=")},
			[]string{orderIntents},
			nil,
			[]string{"text Dear you, see us\n3 times", "end"},
		},
		{
			"messages",
			[]string{vfStep("a", "message", `"messageID": "hi"`, "key:next=b"), vfStep("b", "exit", "")},
			[]string{orderIntents},
			nil,
			[]string{"text Hello you.", "end"},
		},
		{"buttons with re-prompts", []string{
			vfStep("a", "buttons", `"buttons": [{"id": "1", "name": "Yes"}, {"id": "2", "name": "No {{[n].x2}}"}], "noReply": {"types": ["reprompt", "path"], "timeout": 4, "reprompts": [{"content": "Hm?"}]},
				"noMatch": {"types": ["reprompt"], "reprompts": [{"content": [{"children": [{"text": "What?"}]}]}]}`, "=y", "=", "no-reply=q", "else="),
			vfSay("y", "Fine.", "a"), vfSay("q", "Bye.", ""),
		}, []string{orderIntents}, []string{"yes", "what", "!no-reply", "!no-reply"}, []string{
			"[Yes|No 3]", "wait 4", "Fine.", "[Yes|No 3]", "wait 4", "What?", "[Yes|No 3]", "wait 4", "Hm?", "[Yes|No 3]", "wait 4", "Bye.", "end",
		}},
		{"a button connected to nothing ends the flow", []string{vfStep("a", "buttons", `"buttons": [{"name": "Yes"}]`, "=")}, nil, []string{"yes"}, []string{"[Yes]", "end"}},
		{
			"newer buttons",
			[]string{vfStep("a", "buttons-v2", `"items": [{"id": "k", "label": ["Hi ", {"variableID": "x1"}]}], "noReply": {"repromptID": "ask", "inactivityTime": 7, "path": true}`,
				"key:k=b", "key:no-reply=b"), vfSay("b", "Done.", "")},
			[]string{orderIntents},
			[]string{"!no-reply", "hi you"},
			[]string{"[Hi you]", "wait 7", "What size?", "[Hi you]", "wait 7", "Done.", "end"},
		},
		{"choices and required entities", []string{
			vfStep("a", "interaction", `"choices": [{"intent": "i1", "mappings": [{"slot": "e1", "variable": "x1"}]}]`, "=b", "else="), vfSay("b", "{{[size].e1}} for {{[caller].x1}}", ""),
		}, []string{orderIntents}, []string{"a pizza", "little"}, []string{"What size?", `entity-filling {"entityToFill":"size","intent":{"payload":{"entities":[],"intent":{"name":"pizza"},"query":"a pizza"},"type":"intent"}}`, "small for small", "end"}},
		{
			"newer choices",
			[]string{vfStep("a", "choice-v2", `"items": [{"id": "k", "intentID": "i1", "button": {"label": ["Pizza"]}}]`, "key:k=b", "key:else="), vfSay("b", "{size}", "")},
			[]string{orderIntents},
			[]string{"a large pizza"},
			[]string{"[Pizza]", "large", "end"},
		},
		{
			"quick replies",
			[]string{vfStep("a", "interaction", `"choices": [{"intent": "i2"}], "buttons": [{"name": "Help"}]`, "=b"), vfSay("b", "OK.", "")},
			[]string{orderIntents},
			[]string{"help"},
			[]string{"[Help]", "OK.", "end"},
		},
		{"built-in intents", []string{vfStep("a", "interaction", `"choices": [{"intent": "VF.YES"}]`, "=b"), vfSay("b", "OK.", "")}, nil, []string{"yes"}, []string{"OK.", "end"}},
		{
			"captures of a reply",
			[]string{
				vfStep("a", "captureV2", `"capture": {"type": "query", "variable": "x1"}`, "next=b"), vfSay("b", "Hi {caller}.", "c"),
				vfStep("c", "capture-v3", `"capture": {"type": "user-reply", "variableID": "x1"}`, "key:next=d"), vfSay("d", "Hi {caller}.", ""),
			},
			[]string{orderIntents},
			[]string{"Ann", "Bob"},
			[]string{"Hi Ann.", "Hi Bob.", "end"},
		},
		{
			"captures of entities",
			[]string{vfStep("a", "captureV2", `"capture": {"type": "intent", "intent": {"slots": [{"id": "e1", "dialog": {"prompt": [{"content": "How large?"}]}},
			{"id": "e2", "dialog": {"prompt": []}}]}}, "noMatch": {"types": ["reprompt"], "reprompts": [{"content": "Pardon?"}]}`, "next=b"), vfSay("b", "{count} {size}", "")},
			[]string{orderIntents},
			[]string{"hello", "number 12", "large"},
			[]string{
				"Pardon?", "How large?",
				`entity-filling {"entityToFill":"size","intent":{"payload":{"entities":[{"name":"count","value":"12"}],"intent":{"name":"capture a"},"query":"number 12"},"type":"intent"}}`, "12 large", "end",
			},
		},
		{
			"newest captures",
			[]string{vfStep("a", "capture-v3", `"capture": {"type": "entity", "items": [{"entityID": "e2", "variableID": "x2"}]}`, "key:next=b"), vfSay("b", "{n}", "")},
			[]string{orderIntents},
			[]string{"seven"},
			[]string{"7", "end"},
		},
		{"custom actions", []string{
			vfStep("a", "trace", `"payload": {"name": "note", "body": "plain {{[caller].x1}}"}, "paths": [{"label": "x"}, {"label": "y", "isDefault": true}]`, "=", "=b"),
			vfStep("b", "trace", `"payload": {"name": "call-forward", "bodyType": "json", "isBlocking": true, "body": "{\"addressType\": \"phone\", \"address\": \"+1{{[n].x2}}\", \"n\": {n}}"}, "paths": [], "defaultPath": -1`),
		}, []string{orderIntents}, nil, []string{`note "plain you"`, `call-forward {"address":"+13","addressType":"phone","n":3}`}},
		{"old custom actions name their paths at the port", []string{
			`"a": {"type": "trace", "data": {"payload": {"name": "pay", "isBlocking": true}, "ports": [{"target": "b", "data": {"event": {"type": "paid"}}}]}}`, vfSay("b", "Paid.", ""),
		}, nil, []string{"!paid"}, []string{"pay", "Paid.", "end"}},
		{"sets and conditions", []string{
			vfStep("a", "setV2", `"sets": [{"type": "value", "variable": "x1", "expression": "{{[n].x2}} wise"}, {"type": "advance", "variable": "x2", "expression": "{{[n].x2}} * 2 + 1;"}]`, "next=b"),
			vfStep("b", "ifV2", `"expressions": [{"type": null, "value": [{"type": "greater", "value": [{"type": "variable", "value": "x2"}, {"type": "value", "value": "7"}]}]},
				{"type": "and", "value": [{"type": "equals", "value": [{"type": "variable", "value": "x2"}, {"type": "value", "value": "7"}]}, {"type": "or", "value": [
				{"type": "starts_with", "value": [{"type": "variable", "value": "x1"}, {"type": "value", "value": "3 W"}]}, {"type": "is_empty", "value": [{"type": "variable", "value": "x1"}]}]}]}]`, "=", "=c", "else="),
			vfSay("c", "{caller}", "d"), vfStep("d", "ifV2", `"expressions": [{"value": [{"type": "advance", "value": "{{[n].x2}} === 8"}]}]`, "=", "else=e"), vfSay("e", "Else.", ""),
		}, []string{orderIntents}, nil, []string{"3 wise", "Else.", "end"}},
		{"the old set and condition", []string{
			`"a": {"type": "set", "data": {"sets": [{"variable": "k", "expression": {"type": "plus", "value": [{"type": "value", "value": "2"}, {"type": "value", "value": "3"}]}}], "ports": [{"target": "b"}]}}`,
			`"b": {"type": "if", "data": {"expressions": [{"type": "not", "value": {"type": "less", "value": [{"type": "variable", "value": "k"}, {"type": "value", "value": "5"}]}}], "ports": [{"target": null}, {"target": "c"}]}}`,
			`"c": {"type": "speak", "data": {"dialogs": [{"content": "{k}"}], "ports": [{"target": null}]}}`,
		}, []string{`version:"variables": ["k"]`}, nil, []string{"5", "end"}},
		{"random paths", []string{vfStep("a", "randomV2", `"namedPaths": [{}, {}]`, "=", "=b"), vfSay("b", "Second.", "")}, nil, nil, []string{"Second.", "end"}},
		{"actions go to blocks, links open nothing", []string{
			vfSay("a", "Hi.", "acts"), `"acts": {"type": "actions", "data": {"steps": ["u", "g"]}}`, vfStep("u", "url", `"url": "x"`, "next="),
			vfStep("g", "goToNode", `"nodeID": "blk", "diagramID": "main"`), `"blk": {"type": "block", "data": {"steps": ["m", "z"]}}`,
			`"m": {"type": "markup_text", "data": {}}`, vfStep("z", "exit", ""),
		}, nil, nil, []string{"Hi.", "end"}},
		{
			"components come back and get variables",
			[]string{
				vfStep("a", "component", `"diagramID": "f1", "variableMap": {"inputs": [["x1", "inside"]], "outputs": [["inside", "x2"]]}`, "next=b"), vfSay("b", "Back with {n}.", ""),
			},
			[]string{orderIntents, `"flows": [{"id": "f1", "name": "F", "diagramID": "comp"}]`, `diagram:"comp": {"name": "F", "type": "COMPONENT", "nodes": {
			"start": {"type": "start", "data": {"portsV2": {"builtIn": {"next": {"target": "s"}}}}}, ` + vfSay("s", "Inside {inside}.", "") + `}}`},
			nil,
			[]string{"Inside you.", "Back with you.", "end"},
		},
		{"intents lead from everywhere, and by go-to", []string{
			vfSay("a", "Hi.", "l"), vfStep("l", "captureV2", `"capture": {"type": "query", "variable": "x1"}`, "next=go"), vfStep("go", "goTo", `"intent": "i2", "diagramID": "main"`),
			vfStep("t", "trigger", `"items": [{"type": "intent", "resourceID": "i2", "settings": {"local": false}}]`, "key:next=h"), vfSay("h", "Help.", "l"),
		}, []string{orderIntents}, []string{"help", "words"}, []string{"Hi.", "Help.", "Help."}},
		{"a step may listen to its own intents alone", []string{
			vfStep("a", "captureV2", `"intentScope": "NODE", "capture": {"type": "query", "variable": "x1"}`, "next=b"), vfSay("b", "Hi {caller}.", ""),
			vfStep("i", "intent", `"intent": "i2"`, "next=h"), vfSay("h", "Help.", ""),
		}, []string{orderIntents}, []string{"help"}, []string{"Hi help.", "end"}},
		{"cards with ways wait, others do not", []string{
			vfStep("a", "cardV2", `"title": "T", "description": [{"children": [{"text": "D"}]}], "buttons": [{"id": "k", "name": "Go"}]`, "next=b"),
			vfStep("b", "cardV2", `"title": "U", "buttons": [{"id": "k", "name": "Go"}]`, "key:k=c"), vfSay("c", "Gone.", ""),
		}, nil, []string{"go"}, []string{
			`cardV2 {"buttons":[],"description":{"text":"D"},"imageUrl":"","title":"T"}`,
			`cardV2 {"buttons":[{"name":"Go","request":{"payload":{"label":"Go"},"type":"path-b1"}}],"description":{"text":""},"imageUrl":"","title":"U"}`, "Gone.", "end",
		}},
		{"what is not understood is passed over", []string{
			vfStep("a", "api", `"name": "Prices"`, "next=b", "fail="), vfStep("b", "agent-v9", "", "key:default=c"), vfSay("c", "On.", "d"), vfStep("d", "function", "", "key:other=c"),
		}, nil, nil, []string{"On.", "end"}},
		{"circles end in time", []string{vfStep("a", "goToNode", `"nodeID": "b"`), `"b": {"type": "block", "data": {"steps": ["c"]}}`, vfStep("c", "url", "", "next=a")}, nil, nil, nil},
		{"everybody's prompts", []string{vfStep("a", "buttons", `"buttons": [{"name": "Yes"}]`, "=")}, []string{
			`version:"platformData": {"settings": {"globalNoReply": {"delay": 5, "prompt": {"content": "Still there?"}}, "globalNoMatch": {"type": "static", "prompt": {"content": "Sorry?"}}}}`,
		}, []string{"!no-reply", "hm"}, []string{"[Yes]", "wait 5", "Still there?", "[Yes]", "wait 5", "Sorry?", "[Yes]", "wait 5"}},
		{
			"older intents",
			[]string{
				vfStep("a", "prompt", `"noMatches": {"reprompts": [{"content": "Hm?"}]}`), `"i": {"type": "intent", "data": {"intent": "k", "ports": [{"target": "b"}]}}`, vfSay("b", "{{[size].s}} one", ""),
			},
			[]string{`version:"platformData": {"slots": [{"key": "s", "name": "size", "type": {"value": "Custom"}, "inputs": ["big,huge"]}],
			"intents": [{"key": "k", "name": "order", "inputs": [{"text": "a {{[size].s}} order", "slots": ["s"]}], "slots": [{"id": "s", "required": true, "dialog": {"prompt": [{"text": "Which?"}]}}]}]}`},
			[]string{"eh", "a huge order"},
			[]string{"Hm?", "big one", "end"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := canvas(t, strings.Join(tt.nodes, ","), tt.more...)
			require.Equal(t, tt.want, hear(t, f, tt.moves...))
		})
	}
}

func TestProjectTellsAllThatItDoesNotDo(t *testing.T) {
	f := canvas(t, strings.Join([]string{
		`"a": {"type": "block", "data": {"name": "Prices", "steps": ["b", "c", "d"]}}`,
		vfStep("b", "api", `"name": "Get price"`, "next="), vfStep("c", "setV2", `"sets": [{"variable": "n", "type": "advance", "expression": "a.length"}]`, "next="),
		vfStep("d", "agent-v9", "", "next=gone"), vfStep("e", "interaction", `"choices": [{"intent": "i9"}]`, "="),
	}, ","), `"intents": [{"id": "x", "name": "lost"}]`)
	var got []string
	for _, r := range f.Remarks() {
		got = append(got, r.String())
	}
	require.Equal(t, []string{
		`the intent "lost" has no utterances: only buttons lead to it`,
		"Home / Prices / Get price / api: no request is made; the flow goes on after it",
		`Home / Prices / setV2: the variable "n" is not set: the expression "a.length" cannot be read from ".length" on`,
		"Home / Prices / agent-v9: a step of this type is not known; the flow goes on after it",
		`Home / Prices / agent-v9: a path leads to "gone", which is not in the diagram`,
		`Home / interaction: the intent "i9" is not in the file`,
	}, got)
}

func TestProjectsThatAreNone(t *testing.T) {
	for says, document := range map[string]string{
		"no diagrams":              `{"version": {"rootDiagramID": "x"}, "programs": {}}`,
		"not in the file":          `{"version": {"rootDiagramID": "x"}, "diagrams": {"y": {"nodes": {}}}}`,
		"has no start":             `{"version": {"rootDiagramID": "x"}, "diagrams": {"x": {"nodes": {}}}}`,
		"unexpected end":           `{"diagrams": {`,
		"invalid character":        `{"diagrams": {}} x`,
		"larger than":              `{"diagrams": "` + strings.Repeat("x", maxProject) + `"}`,
		"did you mean \"version\"": `{"versions": 1}`,
	} {
		_, err := Parse([]byte(document))
		require.ErrorContains(t, err, says)
	}
	_, err := Parse([]byte(`{"diagrams": ` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000) + `}`))
	require.ErrorContains(t, err, "depth")
}

// The table of the documentation and the loader name the same steps.
func TestProjectStepsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/localflow.md")
	require.NoError(t, err)
	named := func(heading string) []string {
		_, part, ok := strings.Cut(string(text), "\n### "+heading+"\n")
		require.True(t, ok, "no heading %s", heading)
		part, _, _ = strings.Cut(part, "\n#")
		var out []string
		for _, row := range regexp.MustCompile(`(?m)^\| [^|]+ \| ([^|]+) \|`).FindAllStringSubmatch(part, -1) {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
				out = append(out, m[1])
			}
		}
		return out
	}
	var understood, refused []string
	for typ := range vfSteps {
		understood = append(understood, typ)
	}
	for typ := range vfContainers {
		understood = append(understood, typ)
	}
	for typ := range vfNotes {
		understood = append(understood, typ)
	}
	for typ := range vfRefused {
		refused = append(refused, typ)
	}
	require.ElementsMatch(t, understood, named("Understood"))
	require.ElementsMatch(t, refused, named("Not understood"))
}

// FuzzProject plays whatever loads: nothing that a file says may crash the
// server.
func FuzzProject(f *testing.F) {
	sample, err := os.ReadFile("../../docs/guides/sample-project.vf")
	require.NoError(f, err)
	f.Add(sample)
	f.Add([]byte(canvasFile(vfStep("a", "component", `"diagramID": "main"`, "next=a"))))
	f.Add([]byte(canvasFile(vfStep("a", "captureV2", `"capture": {"type": "intent", "intent": {"slots": [{"id": "e1"}]}}`, "next=a"), orderIntents)))
	f.Add([]byte(canvasFile(`"a": {"type": "block", "data": {"steps": ["a", "b", "b"]}}, "b": {"type": "block", "data": {"steps": ["a"]}}`)))
	f.Add([]byte(canvasFile(`"a": {"type": "block", "data": {"steps": ["b", "c", "c", "b"]}}, "b": {"type": "x"}, "c": {"type": "block"}`)))
	f.Add([]byte(canvasFile(vfStep("a", "trace", `"payload": {"name": "x", "body": "{\"a\": {b}}", "bodyType": "json"}, "defaultPath": 1e300`, "=a", "=b"))))
	f.Add([]byte(canvasFile(vfStep("a", "ifV2", `"expressions": [null, {"value": [null]}, {"type": "not", "value": 1}]`, "=a", "else=a"))))
	f.Fuzz(func(t *testing.T, document []byte) {
		if !isProject(document) || len(document) > 64<<10 {
			return
		}
		flow, err := Parse(document)
		if err != nil {
			return
		}
		s := New(flow, Options{})
		for _, typ := range []string{"launch", "text", "no-reply", "text", "odd", "text"} {
			vfTurn(t, s, map[string]any{"type": typ, "payload": "a small pizza"})
		}
	})
}

func TestRemarksAreBounded(t *testing.T) {
	var nodes []string
	for i := range 2 * maxRemarks {
		nodes = append(nodes, vfStep(fmt.Sprint("n", i), "api", fmt.Sprintf(`"name": "%d"`, i)))
	}
	f := canvas(t, strings.Join(append(nodes, vfSay("a", "Hi.", "")), ","))
	require.Len(t, f.Remarks(), maxRemarks)
	r := f.Remarks()
	slices.Reverse(r)
	require.NotEqual(t, r, f.Remarks(), "a copy")
}

// A press of a button reaches the project as it does a real agent.
func TestProjectThroughTheClient(t *testing.T) {
	f, err := Load("../../docs/guides/sample-project.vf")
	require.NoError(t, err)
	k := converse(t, New(f, Options{}))
	require.Contains(t, k.send(dialog.Launch(nil)), "Welcome to the pizzeria")
	require.Len(t, k.buttons, 3)
	require.Contains(t, k.send(dialog.Press(k.buttons[2])), "One moment")
	require.Equal(t, "dial", k.step(dialog.KindAction).Name)
	require.Contains(t, k.send(dialog.Outcome("busy", nil)), "Everybody is busy")
}
