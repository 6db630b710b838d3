package dialog

import (
	"context"
	"errors"
	"maps"

	"go.uber.org/zap"
)

// do sends r to the environments that may be meant, until one knows itself, and
// repeats what surely was not executed. An environment that is not there is
// refused before anything runs, so that trying the next one is safe.
func (w *wire) do(ctx context.Context, r request, read func(*answer) error) (TurnInfo, error) {
	info := TurnInfo{Remaining: -1}
	var refused error
	for _, env := range w.order() {
		at := r
		at.environment, at.query, at.header = env, maps.Clone(r.query), r.header.Clone()
		r.in(&at, env)
		err := w.repeat(ctx, at, &info, read)
		var te *TurnError
		if errors.As(err, &te) && w.automatic() && unknownEnvironment(te) {
			w.forgetChoice(env)
			if refused == nil {
				refused = err
			}
			w.log.Debug("environment is not there", zap.String("environment", env), zap.String("answer", te.Message))
			continue
		}
		if info.Status >= 200 && info.Status < 300 {
			w.choose(env)
		}
		return info, err
	}
	return info, refused
}

func (w *wire) automatic() bool { return len(w.environments) > 1 }

// order is the environments to try: the one that answered last comes first.
func (w *wire) order() []string {
	all := w.environments
	last := w.chosen.Load()
	if last == nil {
		return all
	}
	order := []string{*last}
	for _, env := range all {
		if env != *last {
			order = append(order, env)
		}
	}
	return order
}

func (w *wire) choose(env string) {
	if last := w.chosen.Load(); last != nil && *last == env {
		return
	}
	w.chosen.Store(&env)
	if w.automatic() {
		w.log.Info("voiceflow environment chosen", zap.String("environment", env))
	}
}

func (w *wire) forgetChoice(env string) {
	if last := w.chosen.Load(); last != nil && *last == env {
		w.chosen.CompareAndSwap(last, nil)
	}
}
