package call_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

const talk = `
blocks:
  start:
    - text: Good morning to you. This takes a while to say since a model writes it word by word.
    - end
`

// streaming lets the call talk to a flow of its own, over another generation.
func streaming(t *testing.T, api string, server **localflow.Server, faults ...localflow.Fault) func(*call.Config) {
	t.Helper()
	f, err := localflow.Parse([]byte(talk))
	require.NoError(t, err)
	return func(c *call.Config) {
		*server = localflow.New(f, localflow.Options{})
		(*server).SetFaults(faults...)
		c.Dialog, err = dialog.New(dialog.Config{
			API: api, URL: "http://flow.invalid", APIKey: secret.New(key), Environment: "production", Project: "p1",
			HTTP: &http.Client{Transport: (*server).Transport()},
		})
		require.NoError(t, err)
	}
}

func TestTheFirstSentenceIsHeardBeforeTheLastWordIsWritten(t *testing.T) {
	for _, api := range []string{"dm-stream", "v4-stream"} {
		const gap = 100 * time.Millisecond
		var server *localflow.Server
		change := streaming(t, api, &server, localflow.Fault{Gap: gap})
		began := time.Time{}
		res := perform(t, talk, change, func(s *stage) {
			began = time.Now()
			<-s.done
			first, last := s.phone.heardAt()
			require.Less(t, first.Sub(began), 13*gap, "complete with the fifth of some twenty words")
			require.Greater(t, last.Sub(began), 24*gap)
		})
		require.Equal(t, call.ClassCompleted, res.Class, api)
		require.Equal(t, []string{"Good morning to you.", "This takes a while to say since a model writes it word by word."}, res.Turns[0].Agent)
		require.Zero(t, res.Failures)
	}
}

func TestAStreamThatBreaksIsNotSteppedTwice(t *testing.T) {
	cut := 1400
	var server *localflow.Server
	change := streaming(t, "dm-stream", &server, localflow.Fault{Turn: 1, Cut: &cut})
	res := perform(t, talk, change, func(s *stage) {
		s.wait(3 * time.Second)
		s.line.bye()
	})
	require.Equal(t, []string{"Good morning to you."}, res.Turns[0].Agent)
	turns := 0
	for _, r := range server.Requests() {
		if r.Turn > 0 {
			turns++
		}
	}
	require.Equal(t, 1, turns)
	require.Equal(t, 1, res.Failures)
}
