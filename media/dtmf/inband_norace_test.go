//go:build !race

package dtmf_test

const talkHours = 0.25
