package dtmf

import (
	"fmt"
	"math"
	"time"
)

// ITU-T Q.23.
var (
	lowGroup  = [4]float64{697, 770, 852, 941}
	highGroup = [4]float64{1209, 1336, 1477, 1633}
)

const (
	keypad = "123A456B789C*0#D" // by rows and columns

	lowLevel  = -9.0 // dBm0 of the low tone
	highLevel = -7.0 // and of the high one, which lines weaken more
	rampTime  = 2 * time.Millisecond
)

// Tone is the sound of a key: 16-bit samples at 8 kHz, the low tone at -9 dBm0
// and the high one at -7 dBm0, without clicks. It is nil for what is no key.
func Tone(digit byte, d time.Duration) []int16 {
	if digit >= 'a' && digit <= 'd' {
		digit -= 'a' - 'A'
	}
	for i := range len(keypad) {
		if keypad[i] == digit {
			return tone(lowGroup[i/4], highGroup[i%4], int(samplesOf(max(0, d))))
		}
	}
	return nil
}

// Tones is the sound of several keys, with the digits, pauses, times and errors
// of [NewSender].
func Tones(digits string, on, gap time.Duration) ([]int16, error) {
	if err := checkDigits(digits); err != nil {
		return nil, fmt.Errorf("tones: %w", err)
	}
	on, gap, err := checkTiming(on, gap)
	if err != nil {
		return nil, fmt.Errorf("tones: %w", err)
	}
	var out []int16
	for i := range len(digits) {
		if pause := pauseOf(digits[i]); pause > 0 {
			out = append(out, make([]int16, samplesOf(pause))...)
			continue
		}
		out = append(out, Tone(digits[i], on)...)
		out = append(out, make([]int16, samplesOf(gap))...)
	}
	return out, nil
}

func tone(low, high float64, samples int) []int16 {
	out := make([]int16, samples)
	ramp := float64(samplesOf(rampTime))
	for i := range out {
		t := 2 * math.Pi * float64(i) / clockRate
		edge := min(1, float64(i)/ramp, float64(samples-1-i)/ramp)
		out[i] = int16(math.Round(edge * (amplitude(lowLevel)*math.Sin(low*t) + amplitude(highLevel)*math.Sin(high*t))))
	}
	return out
}

// amplitude is that of a sine of the given level in dBm0 (ITU-T G.711: full
// scale is 3.14 dBm0).
func amplitude(level float64) float64 { return 32768 * math.Pow(10, (level-3.14)/20) }
