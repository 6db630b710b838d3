package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/internal/app"
	"github.com/ivrbridge/ivrbridge/internal/caller"
	"github.com/ivrbridge/ivrbridge/internal/obs"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/media/sdp"
	"github.com/ivrbridge/ivrbridge/sip"
	"github.com/ivrbridge/ivrbridge/tts"
)

func newCall() *cobra.Command {
	var script, say, play, keys, transport, codec, level string
	var headers []string
	conf := caller.Config{Out: os.Stdout}
	cmd := &cobra.Command{
		Use:   "call URI",
		Short: "Call somebody: speak, press keys, listen, obey a REFER; with a script, test a line",
		Long: "Without a script the call waits for the first prompt's end, does what the flags say, and stays until the\n" +
			"far end hangs up. A script is a list of steps: hear, silence, press, say, play, expect, event, wait, hold, hangup.",
		Example: "  ivrbridge call --keys 2 sip:demo@127.0.0.1:5060\n  ivrbridge call --script greeting.yaml --record heard.wav sip:demo@127.0.0.1:5060",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, _, err := obs.NewLogger(obs.LogConfig{Level: level, Format: "console"}, os.Stderr)
			if err != nil {
				return &usageError{err}
			}
			conf.Log, conf.Target, conf.Transport = log, args[0], sip.Transport(transport)
			if conf.Script, err = steps(script, say, play, keys); err != nil {
				return &usageError{err}
			}
			if conf.Transport != "" && conf.Transport != sip.UDP && conf.Transport != sip.TCP {
				return &usageError{errors.New("--transport: write udp or tcp")}
			}
			if err := codecAndHeaders(&conf, codec, headers); err != nil {
				return &usageError{err}
			}
			deps := registry.Deps{Log: log}
			if name := app.LocalVoice(); name != "" {
				if conf.Voice, err = tts.Providers.Open(cmd.Context(), name, nil, deps); err != nil {
					log.Warn("voice not available", zap.Error(err))
				}
			}
			if name := app.LocalRecogniser(); name != "" {
				if conf.Recognizer, err = asr.Providers.Open(cmd.Context(), name, nil, deps); err != nil {
					log.Warn("recogniser not available", zap.Error(err))
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM) // hangs up, as an interrupt does
			defer stop()
			report, err := caller.Run(ctx, conf)
			if errors.Is(err, sip.ErrInvalid) {
				return &usageError{err} // an address or a header that no call can have
			}
			if err != nil {
				return err
			}
			fmt.Printf("done: %d steps, %d packets heard, %d lost\n", report.Steps, report.Stats.Received, report.Stats.Lost)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&script, "script", "", "YAML script")
	f.StringVar(&say, "say", "", "words to say after the first prompt")
	f.StringVar(&play, "play", "", "WAV or MP3 file to play after the first prompt")
	f.StringVar(&keys, "keys", "", "keys to press after the first prompt; w waits half a second, W a second")
	f.StringVar(&conf.Record, "record", "", "WAV file for what is heard (left) and sent (right)")
	f.StringVar(&conf.From, "from", "", "SIP URI of the caller")
	f.StringVar(&transport, "transport", "", "udp or tcp; empty: as the URI says")
	f.StringVar(&codec, "codec", "", "PCMU or PCMA; empty: both")
	f.BoolVar(&conf.LateOffer, "late-offer", false, "send the INVITE without a session description")
	f.StringArrayVar(&headers, "header", nil, "header for the INVITE, written Name: value")
	f.StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

// steps reads the script, or makes one of the flags.
func steps(file, say, play, keys string) (*caller.Script, error) {
	if file != "" {
		if say != "" || play != "" || keys != "" {
			return nil, errors.New("write what to say, play and press into the script")
		}
		return caller.Load(file)
	}
	if say == "" && play == "" && keys == "" {
		return nil, nil //nolint:nilnil // no script: just listen
	}
	quick := caller.Quick(say, play, keys)
	return quick, quick.Check()
}

func codecAndHeaders(conf *caller.Config, codec string, headers []string) error {
	switch codec {
	case "":
	case "PCMU":
		conf.Codecs = []sdp.Codec{sdp.PCMU}
	case "PCMA":
		conf.Codecs = []sdp.Codec{sdp.PCMA}
	default:
		return errors.New("--codec: write PCMU or PCMA")
	}
	for _, h := range headers {
		parsed, err := caller.ParseHeader(h)
		if err != nil {
			return fmt.Errorf("--header: %w", err)
		}
		conf.Headers = append(conf.Headers, parsed)
	}
	return nil
}
