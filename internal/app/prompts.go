package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/media/pcm"
	"github.com/ivrbridge/ivrbridge/tts"
)

// sentences are the bridge's own words, by language.
var sentences = map[string]map[machine.Prompt]string{
	"en": {
		machine.PromptApology:        "Sorry, something went wrong.",
		machine.PromptGoodbye:        "I did not hear anything. Goodbye.",
		machine.PromptFiller:         "One moment, please.",
		machine.PromptTransferFailed: "Sorry, nobody could take your call just now.",
		machine.PromptLimit:          "We have to end this call now. Goodbye.",
	},
	"de": {
		machine.PromptApology:        "Entschuldigung, da ist etwas schiefgegangen.",
		machine.PromptGoodbye:        "Ich habe nichts gehört. Auf Wiederhören.",
		machine.PromptFiller:         "Einen Moment bitte.",
		machine.PromptTransferFailed: "Leider ist gerade niemand erreichbar.",
		machine.PromptLimit:          "Wir müssen das Gespräch jetzt beenden. Auf Wiederhören.",
	},
	"fr": {
		machine.PromptApology:        "Désolé, un problème est survenu.",
		machine.PromptGoodbye:        "Je n'ai rien entendu. Au revoir.",
		machine.PromptFiller:         "Un instant, s'il vous plaît.",
		machine.PromptTransferFailed: "Désolé, personne n'est disponible pour le moment.",
		machine.PromptLimit:          "Nous devons terminer cet appel. Au revoir.",
	},
	"es": {
		machine.PromptApology:        "Lo siento, algo ha fallado.",
		machine.PromptGoodbye:        "No he oído nada. Adiós.",
		machine.PromptFiller:         "Un momento, por favor.",
		machine.PromptTransferFailed: "Lo siento, nadie puede atenderle en este momento.",
		machine.PromptLimit:          "Tenemos que terminar la llamada. Adiós.",
	},
	"it": {
		machine.PromptApology:        "Mi dispiace, qualcosa non ha funzionato.",
		machine.PromptGoodbye:        "Non ho sentito nulla. Arrivederci.",
		machine.PromptFiller:         "Un momento, per favore.",
		machine.PromptTransferFailed: "Mi dispiace, nessuno è disponibile in questo momento.",
		machine.PromptLimit:          "Dobbiamo terminare la chiamata. Arrivederci.",
	},
	"pt": {
		machine.PromptApology:        "Desculpe, algo correu mal.",
		machine.PromptGoodbye:        "Não ouvi nada. Adeus.",
		machine.PromptFiller:         "Um momento, por favor.",
		machine.PromptTransferFailed: "Desculpe, ninguém está disponível neste momento.",
		machine.PromptLimit:          "Temos de terminar a chamada. Adeus.",
	},
	"nl": {
		machine.PromptApology:        "Sorry, er ging iets mis.",
		machine.PromptGoodbye:        "Ik heb niets gehoord. Tot ziens.",
		machine.PromptFiller:         "Een ogenblik, alstublieft.",
		machine.PromptTransferFailed: "Sorry, er is op dit moment niemand bereikbaar.",
		machine.PromptLimit:          "We moeten dit gesprek nu beëindigen. Tot ziens.",
	},
}

const (
	// renderLimit bounds the wait for one sentence.
	renderLimit = 10 * time.Second
	// startLimit is how long the sockets wait for the sentences: a voice that
	// does not answer keeps no caller waiting.
	startLimit = 2 * time.Second
	// renderAgain is the pause before a sentence that could not be had is tried
	// again.
	renderAgain = 30 * time.Second
)

// renderPrompts makes the bridge's own sentences, so that they are there when a
// service is not. Until a sentence can be had a tone stands for it: a caller
// hears at least that. It returns when all are there or startLimit has passed;
// what is missing is rendered beside the calls until ctx ends.
func (app *App) renderPrompts(ctx context.Context, a configs.Agent, v *call.Voice, log *zap.Logger) {
	lang, _, _ := strings.Cut(strings.ToLower(a.Language), "-")
	words, ok := sentences[lang]
	if !ok {
		words = sentences["en"]
	}
	own := map[machine.Prompt]configs.Prompt{
		machine.PromptApology: a.Prompts.Apology, machine.PromptGoodbye: a.Prompts.Goodbye, machine.PromptFiller: a.Prompts.Filler,
		machine.PromptHold: a.Prompts.Hold, machine.PromptTransferFailed: a.Prompts.TransferFailed, machine.PromptLimit: a.Prompts.Limit,
	}
	v.Prompts = &call.Prompts{}
	var first sync.WaitGroup
	for name, conf := range own {
		v.Prompts.Set(name, beeps())
		if name == machine.PromptHold {
			v.Prompts.Set(name, call.Music())
		}
		first.Add(1)
		app.work.Go(func() {
			tried := sync.OnceFunc(first.Done)
			defer tried()
			for {
				clip, err := renderPrompt(ctx, a, v, conf, words[name])
				if err == nil {
					if clip != nil {
						v.Prompts.Set(name, clip)
					}
					return
				}
				log.Warn("own sentence not rendered", zap.String("prompt", string(name)), zap.Error(err))
				tried()
				select {
				case <-ctx.Done():
					return
				case <-time.After(renderAgain):
				}
			}
		})
	}
	all := make(chan struct{})
	app.work.Go(func() { first.Wait(); close(all) })
	select {
	case <-all:
	case <-time.After(startLimit):
		log.Warn("own sentences are late, calls are taken all the same")
	}
}

// renderPrompt returns nil where there is nothing to say.
func renderPrompt(ctx context.Context, a configs.Agent, v *call.Voice, conf configs.Prompt, builtIn string) (*pcm.Clip, error) {
	if conf.File != "" {
		return loadClip(ctx, conf.File)
	}
	text := conf.Text
	if text == "" {
		text = builtIn
	}
	if text == "" {
		return nil, nil //nolint:nilnil // nothing to say is no error
	}
	ctx, cancel := context.WithTimeout(ctx, renderLimit)
	defer cancel()
	clip := v.Cache.Clip(context.WithoutCancel(ctx), v.Synth, tts.Request{Text: text, Language: a.Language})
	if err := clip.Ready(ctx, longest); err != nil {
		return nil, err
	}
	return clip, nil
}

// longest is more samples than any clip has: Ready then waits for its end.
const longest = 1 << 30

// loadClip reads a sound file of the configuration.
func loadClip(ctx context.Context, path string) (*pcm.Clip, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read sound: %w", err)
	}
	audio, err := pcm.Open(bytes.NewReader(b), pcm.Limits{MaxInput: 50 << 20, MaxOutput: 30 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("read sound %s: %w", path, err)
	}
	defer func() { _ = audio.Close() }()
	clip := pcm.NewClip(pcm.Mu)
	if err := pcm.Fill(ctx, clip, pcm.Normalise(pcm.Resample(audio, pcm.Rate), pcm.SpeechLevel)); err != nil {
		return nil, fmt.Errorf("read sound %s: %w", path, err)
	}
	return clip, nil
}

// beeps stands for a sentence that could not be rendered.
func beeps() *pcm.Clip {
	tone := make([]int16, pcm.Rate/5)
	for i := range tone {
		fade := min(1, float64(min(i, len(tone)-i))/80)
		tone[i] = int16(4000 * fade * math.Sin(2*math.Pi*425*float64(i)/pcm.Rate))
	}
	clip := pcm.NewClip(pcm.Mu)
	pause := make([]int16, pcm.Rate/10)
	clip.Close(errors.Join(clip.Append(tone), clip.Append(pause), clip.Append(tone)))
	return clip
}
