package call

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestInboxKeepsOrderWhileItGrows(t *testing.T) {
	b := newInbox()
	posted, taken := 0, 0
	post := func(n int) {
		for range n {
			require.True(t, b.post(time.Time{}, posted))
			posted++
		}
	}
	take := func(n int) {
		for range n {
			l, ok, overflow := b.take()
			require.True(t, ok)
			require.False(t, overflow)
			require.Equal(t, taken, l.ev)
			taken++
		}
	}
	post(10)
	take(7) // what follows wraps around
	post(firstInbox)
	take(5)
	post(inboxSize - b.n)
	require.False(t, b.post(time.Time{}, "one too many"))
	_, _, overflow := b.take()
	require.True(t, overflow)
}
