package vad

import (
	"math"
	"slices"
)

const (
	echoHops  = 40 // the longest echo path: 400 ms
	learnHops = 50 // of a prompt that are learnt from: 0.5 s
	learnRank = 2  // loudest differences that are left out: the 95th percentile

	leastGain = -55.0 // dB: echo return loss is taken to be 12 to 55 dB
	mostGain  = -12.0
	gainFall  = 2.0   // dB a prompt with less echo
	untaught  = -18.0 // dB under what we send: the gate while it learns
	doubtful  = 3.0   // dB over mostGain: louder is the caller, not echo

	sending = -50.0 // dBm0: what is below makes no echo worth the name
)

// An echoGate tells the caller from the echo of what we send: it expects no
// more than the loudest we sent in the last 400 ms, weakened as it was in the
// first half second of the prompt.
type echoGate struct {
	margin  float64
	sent    [echoHops]float64 // powers of what was sent, over three hops each
	most    float64           // of sent
	at      int
	last    [window]float64 // powers of single hops
	lastAt  int
	gain    float64 // dB: how loud the echo is beside what was sent
	taught  bool    // gain was learnt
	factor  float64 // of power, from gain and margin
	learnt  int     // hops of this prompt, up to learnHops
	loudest [learnRank + 1]float64
}

func (g *echoGate) reset(margin float64) {
	*g = echoGate{margin: margin}
	g.prompt()
}

// prompt begins to learn. Where nothing was learnt so far, neither is kept.
func (g *echoGate) prompt() {
	g.learnt = 0
	for i := range g.loudest {
		g.loudest[i] = leastGain
	}
	g.setFactor(g.guess())
}

// guess is the gate, in dB, while it learns.
func (g *echoGate) guess() float64 {
	gate := max(untaught, g.loudest[learnRank]+g.margin)
	if g.taught {
		gate = max(gate, g.gain+g.margin)
	}
	return gate
}

func (g *echoGate) setFactor(gate float64) { g.factor = math.Pow(10, gate/10) }

// hop takes the power received, over three hops, and that sent in this hop,
// and reports whether the gate is open: whether it may be the caller.
func (g *echoGate) hop(rx, tx float64) bool {
	g.last[g.lastAt] = tx
	g.lastAt = (g.lastAt + 1) % window
	sum := 0.0
	for _, p := range g.last {
		sum += p
	}
	most := g.keep(sum / window)
	if most < sendingPower {
		return true
	}
	if g.learnt < learnHops {
		g.learn(decibels(rx) - decibels(most))
	}
	return rx > most*g.factor
}

// keep takes what was sent now and returns the most of the last 400 ms.
func (g *echoGate) keep(now float64) float64 {
	gone := g.sent[g.at]
	g.sent[g.at] = now
	g.at = (g.at + 1) % echoHops
	if now < g.most && gone < g.most {
		return g.most
	}
	g.most = slices.Max(g.sent[:])
	return g.most
}

var sendingPower = power(sending)

// learn takes one difference between what came and what was sent, in dB.
func (g *echoGate) learn(difference float64) {
	g.learnt++
	if difference < mostGain+doubtful {
		difference = max(leastGain, min(mostGain, difference))
		for i := range g.loudest { // the loudest first
			if difference > g.loudest[i] {
				difference, g.loudest[i] = g.loudest[i], difference
			}
		}
	}
	if g.learnt < learnHops {
		g.setFactor(g.guess())
		return
	}
	learnt := g.loudest[learnRank]
	if g.taught {
		learnt = max(learnt, g.gain-gainFall)
	}
	g.gain, g.taught = learnt, true
	g.setFactor(g.gain + g.margin)
}
