// Command ivrbridge-worker recognises speech with pocketsphinx, in a process of
// its own, so that a fault in native code costs an utterance and not the calls.
//
// The bridge starts it and speaks the language of package asr/wire with it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ivrbridge/ivrbridge/asr/wire"
)

func main() {
	// The bridge ends the worker by closing its input: an interrupt that a
	// terminal sends to both must not end it first.
	signal.Ignore(os.Interrupt)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ivrbridge-worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	model := flags.String("model", "/usr/share/pocketsphinx/model/en-us", "folder of the model")
	threshold := flags.Float64("threshold", defaultThreshold, "score per frame under the phone loop below which speech is rejected")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(stderr), zap.InfoLevel))
	engine, err := loadSphinx(*model)
	if err != nil {
		_ = json.NewEncoder(stdout).Encode(wire.Reply{Error: err.Error()})
		return 1
	}
	w := &worker{
		engine: engine, log: log, threshold: *threshold, cores: make(chan struct{}, runtime.NumCPU()),
		out: bufio.NewWriter(stdout), streams: make(map[uint32]chan wire.Frame),
	}
	w.reply(wire.Reply{Ready: "pocketsphinx"})
	if err := w.serve(ctx, stdin); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// defaultThreshold rejects about two in a hundred of what may be said, and five
// in six of what may not.
const defaultThreshold = -18
