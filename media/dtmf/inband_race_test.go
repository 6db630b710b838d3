//go:build race

package dtmf_test

// Everything takes ten times as long under the race detector.
const talkHours = 0.02
