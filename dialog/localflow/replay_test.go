package localflow

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recording is one file of exchanges with the real engine.
type recording struct {
	Steps []struct {
		Request struct {
			Method  string            `json:"method"`
			Path    string            `json:"path"`
			Headers map[string]string `json:"headers"`
			Body    json.RawMessage   `json:"body"`
			Raw     string            `json:"rawBody"`
		} `json:"request"`
		Response struct {
			Status int             `json:"status"`
			Body   json.RawMessage `json:"body"`
		} `json:"response"`
	} `json:"steps"`
}

func acme(t *testing.T) *Flow {
	t.Helper()
	f, err := Load("testdata/acme.yaml")
	require.NoError(t, err)
	return f
}

// TestBehavesLikeTheRecordedRuntime sends every recorded request to the flow that
// resembles the recorded project and compares the answers.
func TestBehavesLikeTheRecordedRuntime(t *testing.T) {
	files, err := filepath.Glob("../../../shared/voiceflow/exchanges/*.json")
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skip("the recorded exchanges are not beside this checkout")
	}
	apart := map[string]string{
		"36_tts":                "Voiceflow's own voice",
		"40_concurrent_turns":   "Voiceflow's own voice",
		"41_http_timeout_408":   "Voiceflow's own voice",
		"42_turn_timeout_empty": "a runtime without time",
		"43_rate_limit_429":     "depends on the 500 requests before it",
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			if why := apart[name]; why != "" {
				t.Skip(why)
			}
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			var rec recording
			require.NoError(t, json.Unmarshal(b, &rec))
			s := New(acme(t), Options{})
			for i, step := range rec.Steps {
				body := []byte(step.Request.Raw)
				if step.Request.Raw == "" && string(step.Request.Body) != "null" {
					body = step.Request.Body
				}
				req := httptest.NewRequest(step.Request.Method, step.Request.Path, bytes.NewReader(body))
				for k, v := range step.Request.Headers {
					req.Header.Set(k, v)
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, req)
				require.Equal(t, step.Response.Status, w.Code, "step %d: %s", i, w.Body)
				got, err := io.ReadAll(w.Body)
				require.NoError(t, err)
				require.Equal(t, essence(step.Response.Body), essence(got), "step %d %s: %s", i, step.Request.Path, step.Request.Body)
			}
		})
	}
}

// essence is what of an answer must be alike: all but times and ids.
func essence(body []byte) any {
	var v any
	if json.Unmarshal(body, &v) != nil {
		if strings.HasPrefix(string(body), "retry:") {
			return streamEssence(string(body))
		}
		return strings.TrimSpace(string(body))
	}
	if text, ok := v.(string); ok && strings.HasPrefix(text, "retry:") {
		return streamEssence(text)
	}
	if m, ok := v.(map[string]any); ok && m["trace"] != nil && m["state"] == nil {
		return map[string]any{"trace": traceEssence(m["trace"])}
	}
	if m, ok := v.(map[string]any); ok {
		if m["stack"] != nil || m["state"] != nil {
			return stateEssence(m)
		}
		if m["errors"] != nil || m["name"] != nil || m["code"] != nil {
			for _, k := range []string{"requestID", "dateTime", "timestamp"} {
				delete(m, k)
			}
		}
		return m
	}
	if s, ok := v.(string); ok {
		return strings.TrimSpace(s)
	}
	return traceEssence(v)
}

// streamEssence is the names of events and what they carry.
func streamEssence(body string) any {
	var out, traces []any
	for ev := range strings.SplitSeq(body, "\n\n") {
		name, data := "", ""
		for line := range strings.Lines(ev) {
			line = strings.TrimSpace(line)
			if v, ok := strings.CutPrefix(line, "event:"); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "data:"); ok {
				data = v
			}
		}
		var v map[string]any
		if json.Unmarshal([]byte(data), &v) != nil {
			continue
		}
		switch name {
		case "trace":
			traces = append(traces, v["trace"])
		case "state":
			out = append(out, name, stateEssence(v["state"].(map[string]any)))
		default:
			out = append(out, name, v)
		}
	}
	return []any{traceEssence(traces), out}
}

func traceEssence(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	var out []any
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return v
		}
		delete(m, "time")
		p, _ := m["payload"].(map[string]any)
		switch m["type"] {
		case "block":
			continue // how many blocks a flow has is its author's matter
		case "flow":
			delete(p, "diagramID")
		case "log":
			if kind, _ := p["kind"].(string); kind != "step.speak" && kind != "step.set" {
				continue
			}
			delete(p, "timestamp")
			if message, ok := p["message"].(map[string]any); ok {
				delete(message, "stepID")
			}
		case "text":
			if slate, ok := p["slate"].(map[string]any); ok {
				delete(slate, "id")
			}
		case "choice", "cardV2":
			for _, b := range p["buttons"].([]any) {
				if req, ok := b.(map[string]any)["request"].(map[string]any); ok {
					if strings.HasPrefix(req["type"].(string), "path-") {
						req["type"] = "path"
					}
					if rp, ok := req["payload"].(map[string]any); ok {
						delete(rp, "actions")
					}
				}
			}
			if d, ok := p["description"].(map[string]any); ok {
				delete(d, "slate")
			}
		}
		out = append(out, m)
	}
	return out
}

// stateEssence keeps where the conversation stands and the variables that a flow
// or a bridge reads.
func stateEssence(m map[string]any) any {
	out := map[string]any{}
	if st, ok := m["state"].(map[string]any); ok {
		out["trace"] = traceEssence(m["trace"])
		out["request"] = m["request"]
		m = st
	}
	var nodes []any
	stack, _ := m["stack"].([]any)
	for _, f := range stack {
		frame := f.(map[string]any)
		output := ""
		if s, ok := frame["storage"].(map[string]any); ok {
			output, _ = s["output"].(string)
		}
		nodes = append(nodes, frame["nodeID"], output)
	}
	out["stack"] = nodes
	vars, _ := m["variables"].(map[string]any)
	for _, name := range []string{"caller_name", "visits", "sessions", "user_id", "last_utterance", "last_event", "intent_confidence", "channel"} {
		out[name] = vars[name]
	}
	return out
}

func TestRefusesWhatTheRuntimeRefuses(t *testing.T) {
	s := New(acme(t), Options{})
	key := "VF.DM.64d000000000000000000001.abcdefghijklmnop"
	tests := []struct {
		name, method, path, key, version, body string
		status                                 int
		says                                   string
	}{
		{"no key", "POST", "/state/user/u/interact", "", "production", `{}`, 401, "Auth Key Required"},
		{"neither key nor version", "POST", "/state/user/u/interact", "", "", `{}`, 400, "Missing versionID"},
		{"wrong key", "POST", "/state/user/u/interact", "VF.DM.x.y", "production", `{}`, 400, "Cannot resolve"},
		{"cut body", "POST", "/state/user/u/interact", key, "production", `{"action":`, 400, "SyntaxError"},
		{"action without type", "POST", "/state/user/u/interact", key, "production", `{"action":{}}`, 500, "startsWith"},
		{"action of another type", "POST", "/state/user/u/interact", key, "production", `{"action":"launch"}`, 500, "startsWith"},
		{"slash in the id", "POST", "/state/user/a/b/interact", key, "production", `{}`, 404, "Cannot POST"},
		{"unknown route", "GET", "/nowhere", key, "production", ``, 404, "Cannot GET"},
		{"wrong method", "PATCH", "/state/user/u", key, "production", `{}`, 404, "Cannot PATCH"},
		{"too large", "POST", "/state/user/u/interact", key, "production", `{"a":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too large"},
		{"half a state", "PUT", "/state/user/u", key, "production", `{"stack":[]}`, 400, "required property 'storage'"},
		{"more than a state", "PUT", "/state/user/u", key, "production", `{"stack":[],"storage":{},"variables":{},"x":1}`, 400, "additional"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			req.Header.Set("Authorization", tt.key)
			req.Header.Set("versionID", tt.version)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			require.Equal(t, tt.status, w.Code)
			require.Contains(t, w.Body.String(), tt.says)
		})
	}
	require.Len(t, s.Requests(), len(tests))
	require.Empty(t, s.Requests()[2].Header.Get("Authorization"))
}
