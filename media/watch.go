package media

import "time"

// A watch notices when nothing comes any more.
type watch struct {
	since time.Duration // of what is waited for
	got   bool          // something came since Apply
}

func (w *watch) heard(at time.Duration) { w.since, w.got = max(w.since, at), true }

// look does what a leg does once a turn besides sound.
func (l *Leg) look() {
	l.tend()
	w := &l.watch
	if !l.applied || l.p.Held || !l.p.Recv {
		w.since = l.now // nothing is to be expected
		return
	}
	limit := l.firstSilence
	if w.got {
		limit = l.silence
	}
	if limit > 0 && l.now-w.since >= limit {
		w.since = l.now
		l.post(Event{Kind: Silent})
	}
}
