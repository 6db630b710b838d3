package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ports of the tests lie below those that the kernel gives to clients.
const (
	firstPort = 10240
	lastPort  = 32000
)

var ports struct {
	mu   sync.Mutex
	next int
}

// freePorts returns the first of n ports in a row, an even one, that nothing
// uses on UDP or TCP. No other test of this process gets them.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.next == 0 {
		ports.next = firstPort + os.Getpid()%500*40
	}
	for range 1000 {
		at := ports.next + ports.next%2
		if at+n > lastPort {
			at = firstPort
		}
		ports.next = at + n
		if bindable(at, n) {
			return at
		}
	}
	require.FailNow(t, "no free ports")
	return 0
}

func bindable(at, n int) bool {
	for p := at; p < at+n; p++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			return false
		}
		l, err := net.Listen("tcp", addr)
		_ = u.Close()
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
