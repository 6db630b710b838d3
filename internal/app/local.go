package app

import (
	"os"
	"os/exec"
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

// modelPath is where Debian keeps the recogniser's English model.
const modelPath = "/usr/share/pocketsphinx/model/en-us/en-us"

// LocalRecogniser names the recogniser that is installed, "" for none.
func LocalRecogniser() string {
	if exists(modelPath) {
		return "pocketsphinx"
	}
	return ""
}

func found(program string) bool { _, err := exec.LookPath(program); return err == nil }

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
