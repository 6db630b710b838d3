package registry_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

type speaker interface{ Speak() string }

type settings struct{ Word string }

func (s *settings) Validate() error {
	if s.Word == "" {
		return errors.New("word is missing, write one")
	}
	return nil
}

type parrot struct {
	word string
	log  *zap.Logger
}

func (p parrot) Speak() string { return p.word }

func open(_ context.Context, c settings, d registry.Deps) (speaker, error) {
	if c.Word == "broken" {
		return nil, errors.New("cannot speak")
	}
	return parrot{c.Word, d.Log}, nil
}

func newRegistry() *registry.Registry[speaker] {
	var r registry.Registry[speaker]
	registry.Add(&r, "parrot", func() settings { return settings{Word: "hello"} }, open)
	registry.Add(&r, "mute", func() settings { return settings{} }, open)
	return &r
}

func word(w string) registry.Decode {
	return func(into any) error {
		into.(*settings).Word = w
		return nil
	}
}

func TestOpenOverlaysTheDefaults(t *testing.T) {
	r, log := newRegistry(), zap.NewNop()
	for _, tt := range []struct {
		decode registry.Decode
		want   string
	}{{nil, "hello"}, {word("bye"), "bye"}, {func(any) error { return nil }, "hello"}} {
		s, err := r.Open(t.Context(), "parrot", tt.decode, registry.Deps{Log: log})
		require.NoError(t, err)
		require.Equal(t, tt.want, s.Speak())
		require.Same(t, log, s.(parrot).log)
	}
}

func TestErrorsNameTheAdapter(t *testing.T) {
	r, ctx := newRegistry(), t.Context()
	strict := errors.New("line 3: unknown key")
	_, err := r.Open(ctx, "parrot", func(any) error { return strict }, registry.Deps{})
	require.ErrorIs(t, err, strict)
	require.EqualError(t, err, "parrot: line 3: unknown key")
	_, err = r.Open(ctx, "mute", nil, registry.Deps{})
	require.EqualError(t, err, "mute: word is missing, write one")
	_, err = r.Open(ctx, "parrot", word("broken"), registry.Deps{})
	require.EqualError(t, err, "cannot speak")
	_, err = r.Open(ctx, "parott", nil, registry.Deps{})
	require.EqualError(t, err, `unknown provider "parott", write one of [mute parrot]`)
}

func TestCheckOpensNothing(t *testing.T) {
	r := newRegistry()
	require.NoError(t, r.Check("parrot", word("broken")))
	require.Error(t, r.Check("mute", nil))
	require.Error(t, r.Check("nobody", nil))
}

func TestDefaultsAreFresh(t *testing.T) {
	r := newRegistry()
	first := r.Defaults("parrot").(*settings)
	first.Word = "changed"
	require.Equal(t, &settings{Word: "hello"}, r.Defaults("parrot"))
	require.Nil(t, r.Defaults("nobody"))
}

func TestNamesAreInOrderAndTheZeroValueIsEmpty(t *testing.T) {
	require.Equal(t, []string{"mute", "parrot"}, newRegistry().Names())
	var r registry.Registry[speaker]
	require.Empty(t, r.Names())
	require.Error(t, r.Check("x", nil))
}

func TestSecondAdapterOfANamePanics(t *testing.T) {
	r := newRegistry()
	require.PanicsWithValue(t, `registry: "parrot" registered twice`, func() {
		registry.Add(r, "parrot", func() settings { return settings{} }, open)
	})
	require.Equal(t, []string{"mute", "parrot"}, r.Names(), "and leaves the registry usable")
}

func TestConcurrentUse(t *testing.T) {
	r := newRegistry()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, err := r.Open(t.Context(), "parrot", nil, registry.Deps{}); err != nil {
					t.Error(err)
				}
				_ = r.Names()
			}
		})
	}
	wg.Wait()
}
