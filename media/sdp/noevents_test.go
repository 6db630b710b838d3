package sdp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media/sdp"
)

// Without telephone-events none are offered, and none are agreed in answer to an
// offer that has them.
func TestNoEvents(t *testing.T) {
	l := us()
	var s sdp.Session
	theirs, err := s.Offer(l)
	require.NoError(t, err)
	require.Contains(t, string(theirs), "telephone-event")
	l.NoEvents = true
	var other sdp.Session
	ours, err := other.Offer(l)
	require.NoError(t, err)
	require.NotContains(t, string(ours), "telephone-event")
	var answering sdp.Session
	answer, m, err := answering.Answer(theirs, l)
	require.NoError(t, err)
	require.False(t, m.HasEvent)
	require.NotContains(t, string(answer), "telephone-event")
}
