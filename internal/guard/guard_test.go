package guard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

var errDown = errors.New("down")

func group(changes *[]State) *Group {
	return NewGroup(DefaultRules(), zap.NewNop(), func(_ string, s State) { *changes = append(*changes, s) })
}

func TestBreakerOpensAfterFiveFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []State
		b := group(&changes).Breaker("x")
		for range 5 {
			require.ErrorIs(t, b.Do(func() error { return errDown }), errDown)
		}
		require.ErrorIs(t, b.Do(func() error { return nil }), ErrOpen)
		require.Equal(t, Open, b.State())

		time.Sleep(5*time.Second + time.Millisecond)
		done, err := b.Allow()
		require.NoError(t, err)
		_, err = b.Allow()
		require.ErrorIs(t, err, ErrOpen, "one probe at a time")
		done(errDown)
		require.Equal(t, Open, b.State())

		time.Sleep(5*time.Second + time.Millisecond)
		require.NoError(t, b.Do(func() error { return nil }))
		require.Equal(t, Closed, b.State())
		require.Equal(t, []State{Open, Probing, Open, Probing, Closed}, changes)
	})
}

func TestBreakerOpensAtHalfOfTwentyWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []State
		b := group(&changes).Breaker("x")
		fail := func() error { return errDown }
		ok := func() error { return nil }
		for range 9 {
			_ = b.Do(fail)
			_ = b.Do(ok)
		}
		time.Sleep(20 * time.Second)
		_ = b.Do(fail)
		require.Equal(t, Closed, b.State(), "old failures are forgotten")
		_ = b.Do(ok)
		for range 9 {
			_ = b.Do(ok)
			_ = b.Do(fail)
		}
		require.Equal(t, Open, b.State())
	})
}

func TestCancelledRequestsDoNotCount(t *testing.T) {
	var changes []State
	b := group(&changes).Breaker("x")
	for range 20 {
		_ = b.Do(func() error { return context.Canceled })
	}
	require.Equal(t, Closed, b.State())
}

func TestTripOpensAtOnce(t *testing.T) {
	var changes []State
	g := group(&changes)
	b := g.Breaker("x")
	b.Trip(errDown)
	require.Equal(t, Open, b.State())
	require.Same(t, b, g.Breaker("x"))
	require.Equal(t, Closed, g.Breaker("y").State())
	require.Equal(t, []State{Open}, changes)
}

func TestPanicIsAnError(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	require.Error(t, Run(zap.New(core), "worker", func() { panic("boom") }))
	require.Equal(t, 1, logs.FilterMessage("goroutine panicked").Len())

	var changes []State
	b := group(&changes).Breaker("x")
	var p *PanicError
	require.ErrorAs(t, b.Do(func() error { panic("boom") }), &p)
	require.Equal(t, "panic: boom", p.Error())
}
