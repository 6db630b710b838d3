package localflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func parse(t *testing.T, document string) *Flow {
	t.Helper()
	f, err := Parse([]byte(document))
	require.NoError(t, err)
	return f
}

// echo repeats what it hears.
const echo = `
blocks:
  start:
    - speak: Hello
    - goto: ask
  ask:
    - capture: {into: said, no_reply: {timeout: 2.5, prompts: ['Still there?'], goto: ask}}
    - speak: "You said {said}"
    - goto: ask
`

func clientOf(t *testing.T, url string, rt http.RoundTripper) dialog.Session {
	t.Helper()
	c := dialog.DefaultConfig()
	c.URL, c.APIKey, c.Environment = url, secret.New("VF.DM.a.b"), "production"
	c.HTTP = &http.Client{Transport: rt}
	client, err := dialog.New(c)
	require.NoError(t, err)
	s, err := client.Open(context.Background(), dialog.Caller{ID: "a/b"})
	require.NoError(t, err)
	return s
}

func interact(s dialog.Session, a dialog.Action) (types []string, te *dialog.TurnError) {
	_, err := s.Interact(context.Background(), dialog.Turn{Action: a}, func(tr dialog.Trace) error {
		types = append(types, tr.Type)
		return nil
	})
	if err != nil {
		te, _ = errors.AsType[*dialog.TurnError](err)
	}
	return types, te
}

func TestFaults(t *testing.T) {
	body := func(s string) *string { return &s }
	cut := func(n int) *int { return &n }
	tests := []struct {
		name     string
		fault    Fault
		status   int // of the error; -1: none
		executed dialog.Executed
		traces   int
		took     time.Duration
		advanced bool
	}{
		{"none", Fault{Turn: 7}, -1, 0, 3, 0, true},
		{"slow", Fault{Turn: 2, Delay: 3 * time.Second}, -1, 0, 3, 3 * time.Second, true},
		{"500", Fault{Turn: 2, Status: 500}, 500, dialog.ExecutedMaybe, 0, 0, false},
		{"500 after it ran", Fault{Turn: 2, Status: 500, Executed: true}, 500, dialog.ExecutedMaybe, 0, 0, true},
		{"429", Fault{Turn: 2, Status: 429, RetryAfter: time.Minute}, 429, dialog.ExecutedNo, 0, 0, false},
		{"garbage", Fault{Turn: 2, Body: body(`<html>`)}, 200, dialog.ExecutedMaybe, 0, 0, false},
		{"cut before the first trace", Fault{Turn: 2, Cut: cut(10)}, 200, dialog.ExecutedMaybe, 0, 0, true},
		{"cut within", Fault{Turn: 2, Cut: cut(75)}, 200, dialog.ExecutedMaybe, 1, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := New(parse(t, echo), Options{})
				server.SetFaults(tt.fault)
				s := clientOf(t, "http://127.0.0.1", server.Transport())
				_, te := interact(s, dialog.Launch(nil))
				require.Nil(t, te)
				before, err := s.State(t.Context())
				require.NoError(t, err)
				began := time.Now()
				types, te := interact(s, dialog.Text("x"))
				require.Equal(t, tt.took, time.Since(began))
				require.Len(t, types, tt.traces)
				if tt.status < 0 {
					require.Nil(t, te)
				} else {
					require.Equal(t, tt.status, te.Status)
					require.Equal(t, tt.executed, te.Executed)
				}
				time.Sleep(time.Second) // another second of the clock that states carry
				after, err := s.State(t.Context())
				require.NoError(t, err)
				require.Equal(t, tt.advanced, !reflect.DeepEqual(before, after))
			})
		})
	}
}

func TestFaultsOverARealConnection(t *testing.T) {
	server := New(parse(t, echo), Options{})
	cut := 30
	server.SetFaults(Fault{Turn: 2, Cut: &cut, Times: 1})
	srv := httptest.NewServer(server)
	defer srv.Close()
	s := clientOf(t, srv.URL, http.DefaultTransport)
	types, te := interact(s, dialog.Launch(nil))
	require.Nil(t, te)
	require.Equal(t, []string{"speak", "no-reply"}, types)
	_, te = interact(s, dialog.Text("x"))
	require.NotNil(t, te)
	require.Equal(t, dialog.ExecutedMaybe, te.Executed)
	types, te = interact(s, dialog.NoReply())
	require.Nil(t, te)
	require.Equal(t, []string{"path", "speak", "no-reply"}, types)
}

func TestFaultsAskedForByTheRequest(t *testing.T) {
	server := New(parse(t, echo), Options{})
	post := func(header, variable string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, "/state/user/u/interact",
			strings.NewReader(fmt.Sprintf(`{"action":{"type":"launch"},"state":{"variables":{"localflow_fault":%q}}}`, variable)))
		req.Header.Set("Authorization", "VF.DM.a.b")
		req.Header.Set(FaultHeader, header)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		return w
	}
	require.Equal(t, 503, post("status=503 retry_after=1500ms body=not now", "").Code)
	w := post("status=503 retry_after=1500ms body=not now", "")
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.Equal(t, "not now", w.Body.String())
	require.Equal(t, 418, post("", "status=418").Code)
	require.Equal(t, 200, post("turn=1 status=418", "").Code)
	require.Equal(t, 200, post("nonsense", "").Code)
	for _, bad := range []string{"x=1", "turn=a", "status=9", "delay=-1s", "cut=z", "executed=perhaps", "retry_after=q"} {
		_, err := ParseFault(bad)
		require.Error(t, err, bad)
	}
	f, err := ParseFault("turn=3 times=2 delay=2.5 cut=12 executed=true user=x")
	require.Error(t, err)
	require.Zero(t, f)
}

// TestNoActionUpsetsAConversation sends whatever a client may at whatever moment.
func TestNoActionUpsetsAConversation(t *testing.T) {
	shop, err := Demo()
	require.NoError(t, err)
	menu := acme(t)
	menu.keys = nil
	actions := []dialog.Action{
		dialog.Launch(nil), dialog.NoReply(), dialog.Text("billing"), dialog.Text("agent"), dialog.Text("card"), dialog.Text("music"),
		dialog.Text("opening hours"), dialog.Text("help"), dialog.Text("notify"), dialog.Text("a pizza"), dialog.Text("large"), dialog.Text(""),
		dialog.Text("1001"), dialog.Text("order status"), dialog.Text("goodbye"), dialog.Outcome("success", nil), dialog.Outcome("busy", nil),
		dialog.Outcome("nope", map[string]any{"a": 1}), dialog.Event("x"), dialog.Keys("12"),
		{Type: "action"},
		{Type: "end"},
		{Type: "intent"},
		{Type: "path-menu3"},
		{Verbatim: json.RawMessage("null")},
		dialog.Intent("pizza_intent", "a pizza", nil, 1), dialog.Intent("VF.NEXT", "", nil, 1),
	}
	rapid.Check(t, func(rt *rapid.T) {
		flow := rapid.SampledFrom([]*Flow{shop, menu}).Draw(rt, "flow")
		s := clientOf(t, "http://127.0.0.1", New(flow, Options{}).Transport())
		for _, a := range rapid.SliceOfN(rapid.SampledFrom(actions), 1, 15).Draw(rt, "actions") {
			var last dialog.Step
			ended := false
			turn := dialog.Turn{Action: a, Debug: true}
			if rapid.Bool().Draw(rt, "stop") {
				turn.StopTypes = []string{"dial"}
			}
			_, err := s.Interact(context.Background(), turn, func(tr dialog.Trace) error {
				last = dialog.Interpret(tr)
				require.False(rt, ended && last.Kind != dialog.KindDebug, "nothing to hear follows the end")
				ended = ended || last.Kind == dialog.KindEnd
				require.NotContains(rt, last.Text, "turn timeout")
				return nil
			})
			require.NoError(rt, err)
			st, err := s.State(context.Background())
			require.NoError(rt, err)
			if ended {
				require.Empty(rt, st.Stack)
			}
		}
	})
}

func TestRequestsAreRecorded(t *testing.T) {
	server := New(parse(t, echo), Options{Kept: 3})
	s := clientOf(t, "http://127.0.0.1", server.Transport())
	interact(s, dialog.Launch(nil))
	interact(s, dialog.Text("x"))
	_, err := s.State(t.Context())
	require.NoError(t, err)
	interact(s, dialog.NoReply())
	got := server.Requests()
	require.Len(t, got, 3)
	require.Equal(t, "text", got[0].Action)
	require.Equal(t, 2, got[0].Turn)
	require.Equal(t, "a/b", got[0].User)
	require.Equal(t, "/state/user/a%2Fb/interact", got[0].Path)
	require.Equal(t, "production", got[0].Environment)
	require.Equal(t, 200, got[0].Status)
	require.Contains(t, string(got[0].Body), `"stripSSML":false`)
	require.Equal(t, []string{"path", "speak", "no-reply"}, got[0].Traces)
	require.Equal(t, "GET", got[1].Method)
	require.Equal(t, 3, got[2].Turn)
	for _, r := range got {
		require.Empty(t, r.Header.Get("Authorization"))
		require.False(t, r.At.IsZero())
	}
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := New(parse(t, echo), Options{Sessions: 3, Age: time.Hour})
		known := func(user string) bool {
			req := httptest.NewRequest(http.MethodGet, "/state/user/"+user, nil)
			req.Header.Set("Authorization", "k")
			w := httptest.NewRecorder()
			server.ServeHTTP(w, req)
			return w.Body.String() != "{}"
		}
		launch := func(user string) {
			req := httptest.NewRequest(http.MethodPost, "/state/user/"+user+"/interact", strings.NewReader(`{"action":{"type":"launch"}}`))
			req.Header.Set("Authorization", "k")
			server.ServeHTTP(httptest.NewRecorder(), req)
		}
		for _, u := range []string{"a", "b", "c"} {
			launch(u)
		}
		require.True(t, known("a"))
		launch("d")
		require.False(t, known("b"), "unused for the longest")
		require.True(t, known("a"))
		time.Sleep(2 * time.Hour)
		launch("e")
		require.False(t, known("a"))
		require.Len(t, server.sessions.users, 1)
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := New(parse(t, echo), Options{RatePerMinute: 2})
		get := func() *httptest.ResponseRecorder {
			req := httptest.NewRequest(http.MethodGet, "/state/user/u", nil)
			req.Header.Set("Authorization", "k")
			w := httptest.NewRecorder()
			server.ServeHTTP(w, req)
			return w
		}
		require.Equal(t, "1", get().Header().Get("X-RateLimit-Remaining"))
		require.Equal(t, 200, get().Code)
		time.Sleep(2 * time.Second)
		w := get()
		require.Equal(t, 429, w.Code)
		require.Equal(t, "59", w.Header().Get("Retry-After"))
		require.Contains(t, w.Body.String(), `"code":429`)
		time.Sleep(time.Minute)
		require.Equal(t, 200, get().Code)
	})
}

func TestEnvironmentsThatAreNotThere(t *testing.T) {
	f := parse(t, "environments: [development]\n"+echo)
	server := New(f, Options{})
	c := dialog.DefaultConfig()
	c.URL, c.APIKey, c.HTTP = "http://127.0.0.1", secret.New("VF.DM.a.b"), &http.Client{Transport: server.Transport()}
	d := dialog.Live(t.Context(), c)
	require.True(t, d.OK, d.Advice)
	require.Equal(t, "development", d.Environment)
	c.Environment = "production"
	d = dialog.Live(t.Context(), c)
	require.False(t, d.OK)
	require.Contains(t, d.Advice, "Publish")
	ran := 0
	for _, r := range server.Requests() {
		if r.Turn > 0 {
			ran++
		}
	}
	require.Equal(t, 1, ran, "probing runs no turn")
}

// TestSlowTurnRollsBackTheOther shows what a client does to itself that sends two
// turns at once.
func TestSlowTurnRollsBackTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := New(parse(t, `
blocks:
  start: [{capture: a}, {if: {when: 'a == "slow"', then: [{delay: 5}]}}, {speak: "first {a}"}, {capture: b}, {speak: "second {b}"}, {capture: c}]
`), Options{})
		s := clientOf(t, "http://127.0.0.1", server.Transport())
		interact(s, dialog.Launch(nil))
		done := make(chan struct{})
		go func() {
			defer close(done)
			interact(s, dialog.Text("slow"))
		}()
		time.Sleep(time.Second)
		interact(s, dialog.Text("fast"))
		<-done
		st, err := s.State(t.Context())
		require.NoError(t, err)
		require.JSONEq(t, `"slow"`, string(st.Variables["a"]))
	})
}

func TestTurnEndsWithItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := New(parse(t, "blocks: {start: [{speak: a}, {delay: 60}, {speak: b}, end]}"), Options{})
		s := clientOf(t, "http://127.0.0.1", server.Transport())
		began := time.Now()
		var texts []string
		_, err := s.Interact(t.Context(), dialog.Turn{Action: dialog.Launch(nil), Debug: true}, func(tr dialog.Trace) error {
			texts = append(texts, dialog.Interpret(tr).Text)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, turnBudget, time.Since(began))
		require.Equal(t, "a", texts[1])
		require.Contains(t, texts[2], "turn timeout")
		require.Len(t, texts, 3)
	})
	server := New(parse(t, "blocks: {start: [{speak: a}, {speak: b}, {goto: start}]}"), Options{})
	types, te := interact(clientOf(t, "http://127.0.0.1", server.Transport()), dialog.Launch(nil))
	require.NotNil(t, te, "more traces than a client takes")
	require.Len(t, types, 200)
	_ = server.Close()
	require.NoError(t, server.Close())
}

func TestNewerActions(t *testing.T) {
	document := `
modern: true
intents: {sales: [sales]}
events: {hang_on: waiting}
blocks:
  start:
    - choice: {options: [{button: Sales, intent: sales, steps: [{speak: Sales it is}, end]}, {intent: sales, goto: nowhere}]}
  waiting: [{speak: We wait}, {capture: digits}, {speak: "{digits}"}, end]
`
	say := func(a dialog.Action, then ...dialog.Action) string {
		s := clientOf(t, "http://127.0.0.1", New(parse(t, document), Options{}).Transport())
		interact(s, dialog.Launch(nil))
		var words string
		for _, b := range append([]dialog.Action{a}, then...) {
			_, err := s.Interact(t.Context(), dialog.Turn{Action: b}, func(tr dialog.Trace) error {
				words += dialog.Interpret(tr).Text + "|"
				return nil
			})
			require.NoError(t, err)
		}
		return words
	}
	require.Contains(t, say(dialog.Event("hang_on"), dialog.Keys("123")), "We wait")
	require.Contains(t, say(dialog.Event("hang_on"), dialog.Keys("123")), "123")
	require.Contains(t, say(dialog.Action{Type: "message", Payload: map[string]any{"message": "sales"}}), "Sales it is")
	require.Empty(t, say(dialog.Action{Type: "end"}))
	require.NotContains(t, say(dialog.Event("other")), "We wait")
}

func TestCommandBeforeTheLaunch(t *testing.T) {
	f := acme(t)
	f.keys = nil
	for said, want := range map[string][]string{
		"opening hours": {"path", "speak", "speak", "speak", "speak", "choice", "no-reply"},
		"help":          {"path", "speak", "choice", "no-reply"},
		"billing":       {"speak", "speak", "speak", "choice", "no-reply"},
	} {
		types, te := interact(clientOf(t, "http://127.0.0.1", New(f, Options{}).Transport()), dialog.Text(said))
		require.Nil(t, te)
		require.Equal(t, want, types, said)
	}
}

func TestStepsThatOnlyEmit(t *testing.T) {
	s := clientOf(t, "http://127.0.0.1", New(parse(t, `
variables: {n: 2}
blocks:
  start:
    - dtmf: {timeout: 1.5, delimiter: "#", max_digits: 4}
    - trace: {type: odd, payload: {say: "{n}"}, paths: [{event: {type: x}}], defaultPath: 0}
    - visual: https://example.com/x.png
    - action: {name: ping}
    - set: {n: "= n * 3 + 1", list: [1, "{n}"], copy: "{n}"}
    - if: {when: n == 7, then: [{speak: "seven {copy} {list} {missing}"}], else: [{speak: other}]}
    - call: sub
    - forward: {address: "+15550100", extension: w1}
    - speak: after
    - end
  sub: [{text: "in sub"}]
`), Options{}).Transport())
	var steps []dialog.Step
	_, err := s.Interact(t.Context(), dialog.Turn{Action: dialog.Launch(nil)}, func(tr dialog.Trace) error {
		steps = append(steps, dialog.Interpret(tr))
		return nil
	})
	require.NoError(t, err)
	require.Len(t, steps, 7)
	require.Equal(t, dialog.DTMFSettings{Enabled: true, Timeout: 1500 * time.Millisecond, Delimiter: "#", MaxDigits: 4}, steps[0].DTMF)
	require.Equal(t, "odd", steps[1].Name)
	require.JSONEq(t, `{"say":"2"}`, string(steps[1].Payload))
	require.Equal(t, "ping", steps[3].Name)
	require.Nil(t, steps[3].Payload)
	require.Equal(t, "seven 7 [1,\"7\"] {missing}", steps[4].Text)
	require.Equal(t, "in sub", steps[5].Text)
	require.Equal(t, "+15550100", steps[6].Forward.Address)
	types, te := interact(s, dialog.Text("x"))
	require.Nil(t, te)
	require.Equal(t, []string{"speak", "end"}, types)
}

func TestMistakesNameTheirLine(t *testing.T) {
	tests := []struct{ document, says string }{
		{"", "empty"},
		{"a: [", "yaml"},
		{"[]", "line 1: the flow must be a mapping"},
		{"name: x", "no block \"start\""},
		{"blocks: {start: []}", "no steps to start with"},
		{"blok: {}\nblocks: {start: [end]}", `line 1: the flow has no key "blok", did you mean "blocks"?`},
		{"blocks:\n  start:\n    - spek: hi", `line 3: a step has no key "spek", did you mean "speak"?`},
		{"blocks:\n  start:\n    - {speak: hi, text: ho}", "line 3: a step is one thing"},
		{"blocks:\n  start:\n    - {id: x}", "line 3: a step needs one of"},
		{"blocks:\n  start:\n    - {id: x, speak: a}\n    - {id: x, speak: b}", `line 4: the id "x" is taken`},
		{"blocks:\n  start:\n    - goto: stat", `line 3: there is no block "stat", did you mean "start"?`},
		{"blocks:\n  start:\n    - goto: start\n    - goto: start\n  start: []", "line 5: the flow's blocks"},
		{"blocks: {end: [end]}", `a block cannot be called "end"`},
		{"blocks:\n  start:\n    - if: {then: [end]}", "line 3: if needs when"},
		{"blocks:\n  start:\n    - if: {when: \"a ==\"}", "ends too early"},
		{"blocks:\n  start:\n    - if: {when: \"(a\"}", "bracket"},
		{"blocks:\n  start:\n    - if: {when: \"a ? b\"}", "cannot be read"},
		{"blocks:\n  start:\n    - set: {1x: 2}", "cannot be called"},
		{"blocks:\n  start:\n    - delay: soon", "line 3: delay must be seconds"},
		{"blocks:\n  start:\n    - delay: 90000", "delay must be seconds"},
		{"blocks:\n  start:\n    - choice: {options: [{intent: nope}]}", `no intent "nope"`},
		{"blocks:\n  start:\n    - choice: {}", "a choice needs options"},
		{"blocks:\n  start:\n    - choice: {options: [{goto: start}]}", "needs a button or an intent"},
		{"blocks:\n  start:\n    - choice: {options: [{button: A, goto: start, call: start}]}", "only one of goto, call and steps"},
		{"blocks:\n  start:\n    - action: {name: dial, paths: [a], default: b}", `default names no path of the action: "b"`},
		{"blocks:\n  start:\n    - action: {paths: [a]}", "an action needs a name"},
		{"blocks:\n  start:\n    - action: {name: x, format: json}", "format is node"},
		{"blocks:\n  start:\n    - capture: {into: 'a b'}", "capture needs the name"},
		{"blocks:\n  start:\n    - capture: {into: a, pattern: '('}", "regular expression"},
		{"blocks:\n  start:\n    - forward: {type: fax, address: x}", "phone or sip"},
		{"blocks:\n  start:\n    - stream: {}", "stream needs src"},
		{"blocks:\n  start:\n    - trace: 5", "trace must be a mapping"},
		{"intents:\n  a: ['{x} y']\nblocks: {start: [end]}", `line 2: intent a: the phrase "{x} y" uses the entity "x"`},
		{"intents:\n  a: {patterns: ['(']}\nblocks: {start: [end]}", "is no regular expression"},
		{"commands:\n  - {intent: a}\nblocks: {start: [end]}", "line 2: a command needs either goto or call"},
		{"faults:\n  - {status: 42}\nblocks: {start: [end]}", "line 2: status must lie"},
		{"faults:\n  - {turn: -1}\nblocks: {start: [end]}", "not negative"},
		{"blocks: &a {start: *a}", "anchor"},
		{"blocks:\n  start: " + strings.Repeat("[{if: {when: 'true', then: ", 100) + strings.Repeat("}}]", 100), "nested too deeply"},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.document))
		require.Error(t, err, tt.document)
		if tt.says == "line 5: the flow's blocks" {
			require.ErrorContains(t, err, "line 5")
			continue
		}
		if tt.says == "anchor" {
			continue
		}
		require.ErrorContains(t, err, tt.says)
	}
}

func TestExpressions(t *testing.T) {
	vars := map[string]any{"n": 3.0, "s": "Hello", "zero": 0.0, "empty": "", "t": true, "order": "0100", "num": "100"}
	for source, want := range map[string]any{
		"1 + 2 * 3": 7.0, "(1 + 2) * 3": 9.0, "-n + 1": -2.0, "n - 1 - 1": 1.0, "7 % 4": 3.0, "1 / 0": 0.0, "8 / 2": 4.0,
		"s + n": "Hello3", `s == "Hello"`: true, "s == 'hello'": false, `s contains "ELL"`: true, `s matches "^h"`: true, `s matches "("`: false,
		"n > 2 and n < 4": true, "n > 2 && not t": false, "missing or t": true, "missing": nil, "not missing": true, "!t || zero": false,
		"order == num": false, "order == 100": true, "n == '3'": true, "missing == ''": true, "n >= 3": true, "n <= 2": false, "n != 3": false,
		"null == missing": true, "true": true, `"a\"b"`: `a"b`, "not n == 3": false, "''": "",
	} {
		e, err := parseExpr(source)
		require.NoError(t, err, source)
		require.Equal(t, want, e(vars), source)
	}
	for _, bad := range []string{"", "1 +", "(1", "1 2", ")", "a = b", "and", `"open`, strings.Repeat("(", 200)} {
		_, err := parseExpr(bad)
		require.Error(t, err, bad)
	}
}

func TestIntents(t *testing.T) {
	f := parse(t, `
intents:
  pizza:
    phrases: ["a {size} pizza with {topping}", "pizza"]
    patterns: ['order (?P<size>\w+) now']
    entities: {size: {values: {large: [big, huge], small: }}, topping: }
  pin: {phrases: ["my pin is {pin}"], entities: {pin: {pattern: '^\d{4}$'}}}
blocks: {start: [end]}
`)
	tests := []struct {
		said, intent string
		entities     map[string]string
	}{
		{"I'd like a big pizza with ham", "pizza", map[string]string{"size": "large", "topping": "ham"}},
		{"a green pizza with ham", "None", map[string]string{}},
		{"Pizza!", "pizza", map[string]string{}},
		{"order small now", "pizza", map[string]string{"size": "small"}},
		{"my pin is one two three four", "pin", map[string]string{"pin": "1234"}},
		{"my pin is twelve", "None", map[string]string{}},
		{"", "None", map[string]string{}},
	}
	for _, tt := range tests {
		u := f.understand(tt.said, nil)
		require.Equal(t, tt.intent, u.intent, tt.said)
		require.Equal(t, tt.entities, u.entities, tt.said)
	}
}

func TestDocumentedExampleWorks(t *testing.T) {
	b, err := os.ReadFile("../../docs/localflow.md")
	require.NoError(t, err)
	n := 0
	for rest := string(b); ; n++ {
		_, after, found := strings.Cut(rest, "```yaml\n")
		if !found {
			break
		}
		example, tail, found := strings.Cut(after, "```")
		require.True(t, found)
		if !strings.Contains(example, "blocks:") {
			example += "\nblocks: {start: [end], menu: [end], help: [end], hours: [end]}\n"
		}
		_, err := Parse([]byte(example))
		require.NoError(t, err, example)
		rest = tail
	}
	require.NotZero(t, n)
	for name := range kindNames {
		require.Contains(t, string(b), "`"+name+"`", "every step is documented")
	}
}

func FuzzServer(f *testing.F) {
	f.Add("POST", "/state/user/a/interact?verbose=true", `{"action":{"type":"text","payload":"billing"},"config":{"stopTypes":["dial"]}}`)
	f.Add("PUT", "/state/user/a", `{"stack":[{"diagramID":"x","nodeID":"cap"}],"storage":{"entityFilling":{"entity":"size"}},"variables":null}`)
	f.Add("PATCH", "/state/user/a/variables", `{"localflow_fault":"status=500","visits":{"a":[1]}}`)
	f.Add("POST", "/state/user/%2F", `{"action":{"type":"intent","payload":{"intent":{"name":"pizza_intent"},"entities":[{"name":"size"}]}}}`)
	flow, err := Load("testdata/acme.yaml")
	if err != nil {
		f.Fatal(err)
	}
	flow.keys = nil
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if strings.Contains(body, FaultVariable) {
			return
		}
		s := New(flow, Options{Sessions: 4})
		for _, p := range []string{"/state/user/a/interact", path, "/state/user/a/interact"} {
			req, err := http.NewRequest(method, "http://x", strings.NewReader(body))
			if err != nil {
				return
			}
			if req.URL, err = req.URL.Parse(p); err != nil {
				return
			}
			req.Header.Set("Authorization", "k")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			b, _ := io.ReadAll(w.Body)
			if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && len(b) > 0 {
				require.True(t, json.Valid(b), "%s", b)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(echo)
	f.Add("blocks: {start: [{choice: {options: [{button: A, steps: [end]}], no_reply: {timeout: 1, prompts: [{say: x, timeout: 2}]}}}]}")
	f.Add("intents: {a: ['{x}']}\nvariables: &v {a: 1}\nblocks: {start: [{set: *v}, {if: {when: 'a+1>2', then: {goto: start}}}]}")
	f.Fuzz(func(t *testing.T, document string) {
		flow, err := Parse([]byte(document))
		if err != nil {
			return
		}
		st := &state{Variables: map[string]any{}}
		for _, a := range []*wireAction{{Type: "launch"}, {Type: "text", Payload: []byte(`"a"`)}, {Type: "no-reply"}, nil} {
			r := &run{flow: flow, st: st, now: time.Now, sleep: func(time.Duration) {}}
			r.turn(a, "u")
			require.True(t, json.Valid(encode(r.visible())))
		}
	})
}
