package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog/localflow"
)

// An agent is a flow behind HTTP, as Voiceflow is.
type agent struct {
	*localflow.Server
	url string
}

func newAgent(t *testing.T, flow string) *agent {
	t.Helper()
	f, err := localflow.Parse([]byte(flow))
	require.NoError(t, err)
	a := &agent{Server: localflow.New(f, localflow.Options{})}
	l, err := net.Listen("tcp", local(freePorts(t, 2)))
	require.NoError(t, err)
	a.url = "http://" + l.Addr().String()
	s := &http.Server{Handler: a.Server, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = a.Close()
		_ = s.Close()
		<-served
		if t.Failed() {
			for _, u := range a.turns() {
				t.Logf("turn %d at %s: %s %s -> %d %v", u.Turn, u.At.Format("15:04:05.000"), u.Action, u.payload, u.Status, u.Traces)
			}
		}
	})
	return a
}

// A turn is one request to the agent.
type turn struct {
	localflow.Request
	payload   string // JSON
	stopTypes []string
}

// turns lists what the agent was told, oldest first.
func (a *agent) turns() []turn {
	var out []turn
	for _, r := range a.Requests() {
		if r.Turn == 0 {
			continue
		}
		var body struct {
			Action struct {
				Payload json.RawMessage `json:"payload"`
			} `json:"action"`
			Config struct {
				StopTypes []string `json:"stopTypes"`
			} `json:"config"`
		}
		_ = json.Unmarshal(r.Body, &body) // what the server took is JSON
		out = append(out, turn{r, string(body.Action.Payload), body.Config.StopTypes})
	}
	return out
}

// actions lists the types of the actions, oldest first.
func (a *agent) actions() []string {
	var out []string
	for _, u := range a.turns() {
		out = append(out, u.Action)
	}
	return out
}

// await waits for the first turn of a type.
func (a *agent) await(t *testing.T, within time.Duration, action string) turn {
	t.Helper()
	var found turn
	await(t, within, "turn "+action, func() bool {
		all := a.turns()
		i := slices.IndexFunc(all, func(u turn) bool { return u.Action == action })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}
