package sip

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLineEndsAreNoMessage lets a far end keep its connection alive with single
// line ends, which begin no message: none is overdue after them.
func TestLineEndsAreNoMessage(t *testing.T) {
	for name, step := range map[string]struct {
		sent   string
		busy   bool
		lives  time.Duration
		closes bool
	}{
		"line end in a call":           {"\r\n", true, time.Hour, false},
		"half a line end in a call":    {"\r", true, time.Hour, false},
		"line end without a call":      {"\r\n", false, idleTime - time.Second, true},
		"beginning of a message":       {"\r\nOPTIONS", true, messageTime - time.Second, true},
		"nothing in a call":            {"", true, time.Hour, false},
		"three halves of a keep-alive": {"\r\n\r", true, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer func() { _ = theirs.Close() }()
				c := newStream(ours, func() bool { return step.busy })
				ended := make(chan error, 1)
				go func() {
					_, err := c.next()
					ended <- err
				}()
				if step.sent != "" {
					_, err := theirs.Write([]byte(step.sent))
					require.NoError(t, err)
				}
				time.Sleep(step.lives)
				synctest.Wait()
				require.Empty(t, ended)
				if step.closes {
					time.Sleep(2 * time.Second)
					require.ErrorContains(t, <-ended, "timeout")
					return
				}
				c.end(nil)
				require.Error(t, <-ended)
			})
		})
	}
}
