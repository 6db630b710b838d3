package localflow

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// talk is a conversation with a server through the real client.
type talk struct {
	t       *testing.T
	session dialog.Session
	buttons []dialog.Button
	last    []dialog.Step
}

func converse(t *testing.T, s *Server) *talk {
	t.Helper()
	c := dialog.DefaultConfig()
	c.URL, c.APIKey = "http://127.0.0.1:1", secret.New("VF.DM.demo.key")
	c.HTTP = &http.Client{Transport: s.Transport()}
	client, err := dialog.New(c)
	require.NoError(t, err)
	session, err := client.Open(context.Background(), dialog.Caller{ID: "a"})
	require.NoError(t, err)
	return &talk{t: t, session: session}
}

// send gives a turn and returns its steps, words first joined as they are heard.
func (k *talk) send(a dialog.Action) string {
	k.t.Helper()
	k.last, k.buttons = nil, nil
	var words []string
	_, err := k.session.Interact(context.Background(), dialog.Turn{Action: a, StopTypes: []string{"dial"}}, func(tr dialog.Trace) error {
		st := dialog.Interpret(tr)
		k.last = append(k.last, st)
		if st.Text != "" && st.Kind == dialog.KindSpeak {
			words = append(words, st.Text)
		}
		if len(st.Buttons) > 0 {
			k.buttons = st.Buttons
		}
		return nil
	})
	require.NoError(k.t, err)
	return strings.Join(words, " ")
}

func (k *talk) step(kind dialog.Kind) *dialog.Step {
	for i := range k.last {
		if k.last[i].Kind == kind {
			return &k.last[i]
		}
	}
	return nil
}

func newDemo(t *testing.T) *Server {
	t.Helper()
	f, err := Demo()
	require.NoError(t, err)
	s := New(f, Options{})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestDemoTellsTheStatusOfAnOrder(t *testing.T) {
	for said, want := range map[string]string{
		"1001":                `<say-as interpret-as="digits">1001</say-as> was shipped`,
		"one zero zero two":   `<say-as interpret-as="digits">1002</say-as> is packed`,
		"order charlie":       `<say-as interpret-as="digits">1003</say-as> waits`,
		"Order Alpha, please": `<say-as interpret-as="digits">1001</say-as> was shipped`,
	} {
		k := converse(t, newDemo(t))
		require.Contains(t, k.send(dialog.Launch(nil)), "welcome to the demo shop")
		require.Len(t, k.buttons, 4)
		require.Contains(t, k.send(dialog.Press(k.buttons[0])), "key in your order number")
		require.Equal(t, 6, k.step(dialog.KindDTMF).DTMF.MaxDigits)
		require.Equal(t, "#", k.step(dialog.KindDTMF).DTMF.Delimiter)
		require.Empty(t, k.buttons)
		require.Contains(t, k.send(dialog.Text(said)), want)
		require.Len(t, k.buttons, 4, "the menu follows")
	}
}

func TestDemoUnderstandsWhatIsSaidAtTheMenu(t *testing.T) {
	for said, want := range map[string]string{
		"opening hours":              "nine to five",
		"I'd like the opening hours": "nine to five",
		"order bravo":                "is packed",
		"speak to a human":           "connecting you",
		"main menu":                  "press one, two, three, or four",
		"goodbye":                    "Goodbye",
		"xyzzy":                      "did not get that",
	} {
		k := converse(t, newDemo(t))
		k.send(dialog.Launch(nil))
		require.Contains(t, k.send(dialog.Text(said)), want, said)
	}
}

func TestDemoComesBackFromABusyHuman(t *testing.T) {
	for outcome, want := range map[string]string{"busy": "are busy", "no answer": "nobody answers", "failed": "could not connect", "odd": "could not connect"} {
		k := converse(t, newDemo(t))
		k.send(dialog.Launch(nil))
		k.send(dialog.Press(k.buttons[2]))
		dial := k.last[len(k.last)-1]
		require.Equal(t, dialog.KindAction, dial.Kind)
		require.Equal(t, "dial", dial.Name)
		require.Equal(t, 3, dial.DefaultPath)
		body, ok := dialog.Object(dial.Payload)
		require.True(t, ok)
		require.Equal(t, "human", body["target"])
		require.Contains(t, k.send(dialog.Outcome(outcome, nil)), want)
		require.Len(t, k.buttons, 4)
	}
	k := converse(t, newDemo(t))
	k.send(dialog.Launch(nil))
	k.send(dialog.Press(k.buttons[2]))
	k.send(dialog.Outcome("success", nil))
	require.NotNil(t, k.step(dialog.KindEnd))
}

func TestDemoSaysGoodbyeToSilence(t *testing.T) {
	k := converse(t, newDemo(t))
	k.send(dialog.Launch(nil))
	var waits []string
	for range 10 {
		if w := k.step(dialog.KindNoReply); w != nil {
			waits = append(waits, w.Timeout.String())
		}
		k.send(dialog.NoReply())
		if k.step(dialog.KindEnd) != nil {
			break
		}
	}
	require.Equal(t, []string{"6s", "4.5s", "7.5s", "6s"}, waits)
	require.NotNil(t, k.step(dialog.KindEnd))
}

func TestDemoGivesUpOnUnknownOrders(t *testing.T) {
	k := converse(t, newDemo(t))
	k.send(dialog.Launch(nil))
	k.send(dialog.Text("order status"))
	require.Contains(t, k.send(dialog.Text("777")), "Please try again")
	require.Contains(t, k.send(dialog.Text("778")), "connecting you")
}
