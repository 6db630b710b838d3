package vad

const (
	floorHops   = 250 // 2.5 s
	floorRank   = 15  // percent of the hops that lie below the floor
	floorBins   = 256 // of half a decibel
	floorLowest = floorDB
	// So many hops of near silence are assumed before the call, so that a caller
	// who speaks at once is not the floor.
	assumedHops = 20
)

// A floorTracker follows the 15th percentile of a level over the last 2.5 s by
// a histogram whose percentile is moved along, not searched.
type floorTracker struct {
	ring   [floorHops]uint8
	at     int
	filled int
	counts [floorBins]uint8
	bin    int // of the percentile
	below  int // hops in lower bins
}

func (t *floorTracker) reset() {
	*t = floorTracker{}
	for range assumedHops {
		t.add(nothing)
	}
}

// floor is the level in dB.
func (t *floorTracker) floor() float64 { return floorLowest + float64(t.bin)/2 }

func (t *floorTracker) add(level float64) {
	if t.filled == floorHops {
		old := t.ring[t.at]
		t.counts[old]--
		if int(old) < t.bin {
			t.below--
		}
	} else {
		t.filled++
	}
	bin := uint8(max(0, min(floorBins-1, int((level-floorLowest)*2))))
	t.ring[t.at] = bin
	t.at = (t.at + 1) % floorHops
	t.counts[bin]++
	if int(bin) < t.bin {
		t.below++
	}
	// The percentile's bin is the one with at most rank hops below it, and more
	// than rank together with its own.
	rank := t.filled * floorRank / 100
	for t.below > rank {
		t.bin--
		t.below -= int(t.counts[t.bin])
	}
	for t.below+int(t.counts[t.bin]) <= rank && t.bin < floorBins-1 {
		t.below += int(t.counts[t.bin])
		t.bin++
	}
}
