// Package registry holds named constructors of interchangeable adapters.
//
// One registry exists per kind of adapter (recognisers, synthesisers, dialog
// clients). An adapter adds itself from an init function, so that adding an
// adapter is adding one file. The package knows nothing of what it constructs.
package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"go.uber.org/zap"
)

// Decode fills a configuration struct from whatever document the configuration
// came from. It rejects keys that the struct does not have. A nil Decode leaves
// the defaults.
type Decode func(into any) error

// Deps is what an adapter is given besides its own configuration.
type Deps struct {
	Log  *zap.Logger  // never nil
	HTTP *http.Client // shared and pooled; deadlines come from contexts
}

// filled is an error of a Decode that has filled in all the same what the struct
// has: unknown keys hide no mistake in the others.
type filled interface {
	error
	Filled() bool
}

// A Validator is a configuration struct that can check itself. The error names
// the key and what to write instead.
type Validator interface{ Validate() error }

// A Registry maps names to constructors of T. The zero value is ready for use
// and safe for concurrent use.
type Registry[T any] struct {
	mu      sync.Mutex
	entries map[string]entry[T]
}

type entry[T any] struct {
	defaults func() any
	check    func(Decode) error
	open     func(context.Context, Decode, Deps) (T, error)
}

// Add makes an adapter known under name. The configuration given to open is
// what defaults returns, overlaid with the user's settings. Add panics when the
// name is taken: that is a mistake in the program, not in its use.
func Add[C, T any](r *Registry[T], name string, defaults func() C, open func(ctx context.Context, c C, d Deps) (T, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, dup := r.entries[name]; dup {
		panic(fmt.Sprintf("registry: %q registered twice", name))
	}
	if r.entries == nil {
		r.entries = make(map[string]entry[T])
	}
	load := func(decode Decode) (c C, wrong error) {
		c = defaults()
		if decode != nil {
			if err := decode(&c); err != nil {
				wrong = fmt.Errorf("%s: %w", name, err)
				if f, ok := errors.AsType[filled](err); !ok || !f.Filled() {
					return c, wrong
				}
			}
		}
		if v, ok := any(&c).(Validator); ok {
			if err := v.Validate(); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				if wrong == nil {
					return c, err
				}
				return c, errors.Join(wrong, err)
			}
		}
		return c, wrong
	}
	r.entries[name] = entry[T]{
		defaults: func() any { c := defaults(); return &c },
		check:    func(d Decode) error { _, err := load(d); return err },
		open: func(ctx context.Context, decode Decode, d Deps) (T, error) {
			c, err := load(decode)
			if err != nil {
				var zero T
				return zero, err
			}
			return open(ctx, c, d)
		},
	}
}

// Open constructs the adapter called name.
func (r *Registry[T]) Open(ctx context.Context, name string, decode Decode, d Deps) (T, error) {
	e, err := r.lookup(name)
	if err != nil {
		var zero T
		return zero, err
	}
	return e.open(ctx, decode, d)
}

// Check decodes and validates the configuration of the adapter called name
// without opening it.
func (r *Registry[T]) Check(name string, decode Decode) error {
	e, err := r.lookup(name)
	if err != nil {
		return err
	}
	return e.check(decode)
}

// Defaults returns a pointer to a fresh default configuration of the adapter
// called name, or nil when there is none of that name.
func (r *Registry[T]) Defaults(name string) any {
	e, err := r.lookup(name)
	if err != nil {
		return nil
	}
	return e.defaults()
}

// Names returns the registered names in order.
func (r *Registry[T]) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.entries))
}

func (r *Registry[T]) lookup(name string) (entry[T], error) {
	r.mu.Lock()
	e, ok := r.entries[name]
	r.mu.Unlock()
	if !ok {
		return entry[T]{}, fmt.Errorf("unknown provider %q, write one of %v", name, r.Names())
	}
	return e, nil
}
