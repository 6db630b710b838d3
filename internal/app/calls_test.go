package app

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/call"
)

func TestCallsThatBeginAtOnceAreCountedOneByOne(t *testing.T) {
	var all calls
	add := func(agent string, ofAgent, ofAll int) int64 {
		var taken atomic.Int64
		var many sync.WaitGroup
		for i := range 100 {
			many.Go(func() {
				if all.add(&liveCall{info: call.Info{ID: fmt.Sprint(agent, i)}, agent: agent}, ofAgent, ofAll) {
					taken.Add(1)
				}
			})
		}
		many.Wait()
		return taken.Load()
	}
	require.EqualValues(t, 3, add("pizza", 3, 0))
	require.EqualValues(t, 2, add("books", 0, 5), "all agents together")
	require.EqualValues(t, 0, add("pizza", 3, 0))
	all.remove("pizza0")
	require.EqualValues(t, 100, add("cars", 0, 0))
	require.Equal(t, 2, all.of("books"))
}
