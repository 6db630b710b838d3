package app

import (
	"os/exec"

	"github.com/ivrbridge/ivrbridge/asr"
)

// LocalVoice names the best voice that is installed, "" for none.
func LocalVoice() string {
	switch {
	case found("flite"):
		return "flite"
	case found("espeak-ng"):
		return "espeak"
	}
	return ""
}

const localRecogniser = "pocketsphinx"

// LocalRecogniser names the recogniser that is installed, "" for none.
func LocalRecogniser() string {
	if asr.PocketsphinxReady() != nil {
		return ""
	}
	return localRecogniser
}

func found(program string) bool { _, err := exec.LookPath(program); return err == nil }
