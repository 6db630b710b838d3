package jitter

const (
	// Pitch is looked for between 66 and 200 Hz, by comparing the last 20 ms with
	// what came a period before.
	shortestPitch = 40
	longestPitch  = 120
	compared      = 160
	historySize   = compared + longestPitch + longestPitch/4

	tenMillis   = 80
	fadeFrom    = tenMillis     // the first 10 ms stay as loud
	silentFrom  = 6 * tenMillis // 60 ms
	fadeStep    = 0.2 / tenMillis
	longestJoin = tenMillis // the sound that comes back is blended in over 10 ms at most
)

// A Concealer fills the holes of lost packets: it repeats the last period of
// the pitch with overlapping ends, takes away 20 % every 10 ms after the first
// 10, and is silent after 60 ms. The zero value is ready. One goroutine uses
// it; it does not allocate.
type Concealer struct {
	history [historySize]int16 // oldest first
	period  [longestPitch]float32
	pitch   int     // length of period
	at      int     // in period
	lost    int     // samples concealed since the last that was received
	offset  float32 // what smooths the first step
}

// Received takes samples that were received, 16 bits at 8 kHz, in their order.
// After a hole it blends their beginning, in place, with the end of what stood
// in for it.
func (c *Concealer) Received(pcm []int16) {
	if c.lost > 0 && len(pcm) > 0 {
		join := min(longestJoin, c.pitch/4+c.lost/tenMillis*tenMillis/4, len(pcm))
		for i := range join {
			w := float32(i+1) / float32(join+1)
			pcm[i] = round(w*float32(pcm[i]) + (1-w)*c.next())
		}
		c.lost = 0
	}
	c.remember(pcm)
}

// Conceal fills dst with what stands in for missing samples.
func (c *Concealer) Conceal(dst []int16) {
	if len(dst) == 0 {
		return
	}
	if c.lost == 0 {
		c.begin()
	}
	for i := range dst {
		dst[i] = round(c.next())
	}
	c.remember(dst)
}

// Reset forgets the sound, for another stream.
func (c *Concealer) Reset() { *c = Concealer{} }

func (c *Concealer) remember(pcm []int16) {
	if len(pcm) >= historySize {
		copy(c.history[:], pcm[len(pcm)-historySize:])
		return
	}
	copy(c.history[:], c.history[len(pcm):])
	copy(c.history[historySize-len(pcm):], pcm)
}

// begin cuts one period out of the history. Its end is blended with what came
// before its beginning, so that it can be repeated without a step.
func (c *Concealer) begin() {
	c.pitch = c.findPitch()
	h := &c.history
	overlap := c.pitch / 4
	for i := range c.pitch {
		c.period[i] = float32(h[historySize-c.pitch+i])
		if rest := i - (c.pitch - overlap); rest >= 0 {
			w := float32(rest+1) / float32(overlap+1)
			c.period[i] = (1-w)*c.period[i] + w*float32(h[historySize-2*c.pitch+i])
		}
	}
	c.at = 0
	c.offset = float32(h[historySize-1]) - float32(h[historySize-1-c.pitch])
}

// next is one sample of the repetition, faded.
func (c *Concealer) next() float32 {
	if c.lost >= silentFrom {
		c.lost++
		return 0
	}
	y := c.period[c.at]
	if c.at++; c.at == c.pitch {
		c.at = 0
	}
	if c.lost < tenMillis/4 { // the step to the first sample, over 2.5 ms
		y += c.offset * (1 - float32(c.lost+1)/(tenMillis/4+1))
	}
	if c.lost >= fadeFrom {
		y *= max(0, 1-fadeStep*float32(c.lost-fadeFrom))
	}
	c.lost++
	return y
}

// findPitch returns the lag at which the last 20 ms are most like what came
// before: coarsely over every second sample, then finely around the best.
func (c *Concealer) findPitch() int {
	const span = compared + longestPitch
	var even, odd [span / 2]float32 // in pairs of samples
	for i := range even {
		even[i] = float32(c.history[historySize-span+2*i])
		odd[i] = float32(c.history[historySize-span+2*i+1])
	}
	best, bestScore := shortestPitch, float32(-1)
	for lag := shortestPitch; lag <= longestPitch; lag += 2 {
		if s := likeness(even[longestPitch/2:], even[(longestPitch-lag)/2:]); s > bestScore {
			best, bestScore = lag, s
		}
	}
	coarse := best
	// The coarse score left the odd samples out: take all from here.
	bestScore = likeness(even[longestPitch/2:], even[(longestPitch-coarse)/2:]) + likeness(odd[longestPitch/2:], odd[(longestPitch-coarse)/2:])
	for _, lag := range [2]int{coarse - 1, coarse + 1} {
		if lag < shortestPitch || lag > longestPitch {
			continue
		}
		at := (longestPitch - lag) / 2 // an odd lag compares even with odd samples
		s := likeness(even[longestPitch/2:], odd[at:]) + likeness(odd[longestPitch/2:], even[at+1:])
		if s > bestScore {
			best, bestScore = lag, s
		}
	}
	return best
}

// likeness compares the last 20 ms with an earlier stretch, of which every
// second sample is given: the square of their product over the energy of the
// earlier one, 0 where they are opposed.
func likeness(now, then []float32) float32 {
	now = now[:compared/2]
	then = then[:compared/2]
	var cross, energy float32
	for i, x := range now {
		y := then[i]
		cross += x * y
		energy += y * y
	}
	if cross <= 0 {
		return 0
	}
	return cross * cross / (energy + 1)
}

func round(x float32) int16 {
	switch {
	case x >= 32767:
		return 32767
	case x <= -32768:
		return -32768
	case x < 0:
		return int16(x - 0.5)
	}
	return int16(x + 0.5)
}
