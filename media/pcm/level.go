package pcm

import "math"

const (
	// Quietest is what [Level] reports for digital silence and anything below.
	Quietest = -100.0

	// fullScale is the level of a sine that just reaches full scale
	// (ITU-T G.711 section 4: 3.14 dBm0 for the A-law, 3.17 dBm0 for the mu-law).
	fullScale = 3.14
)

// Level is the root mean square of pcm in dBm0: 0 dBm0 is a sine 3.14 dB under
// full scale. It is [Quietest] for silence and for no samples at all.
func Level(pcm []int16) float64 {
	if len(pcm) == 0 {
		return Quietest
	}
	var sum int64
	for _, s := range pcm {
		sum += int64(s) * int64(s)
	}
	return PowerLevel(float64(sum) / float64(len(pcm)))
}

// PowerLevel is the level in dBm0 of a signal with the given mean square of
// 16-bit samples, and [Quietest] when there is none.
func PowerLevel(meanSquare float64) float64 {
	const sineAtFullScale = 32768.0 * 32768.0 / 2
	if meanSquare <= 0 {
		return Quietest
	}
	return max(Quietest, 10*math.Log10(meanSquare/sineAtFullScale)+fullScale)
}

// peakOf is the amplitude of a sine of the given level in dBm0.
func peakOf(level float64) float64 { return 32768 * math.Pow(10, (level-fullScale)/20) }
