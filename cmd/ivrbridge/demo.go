package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/ivrbridge/ivrbridge/internal/app"
	"github.com/ivrbridge/ivrbridge/internal/obs"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func newDemo() *cobra.Command {
	var sipAddr, rtcAddr, token, rtp, level, format string
	var o app.DemoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "An agent to call at once: no account, key or server is needed",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.SIP, err = netip.ParseAddrPort(sipAddr); err != nil {
				return &usageError{errors.New("--sip: write address:port, such as 0.0.0.0:5060")}
			}
			if o.RTC, err = netip.ParseAddrPort(rtcAddr); err != nil {
				return &usageError{errors.New("--rtc: write address:port, such as 0.0.0.0:8189")}
			}
			o.Token = secret.New(token)
			if err = o.RTP.UnmarshalText([]byte(rtp)); err != nil {
				return &usageError{fmt.Errorf("--rtp: %w", err)}
			}
			for name, address := range map[string]string{"--http": o.HTTP, "--https": o.HTTPS} {
				if _, _, err := net.SplitHostPort(address); err != nil && address != "" {
					return &usageError{fmt.Errorf("%s: write address:port, such as 127.0.0.1:8080", name)}
				}
			}
			log, _, err := obs.NewLogger(obs.LogConfig{Level: level, Format: format}, os.Stderr)
			if err != nil {
				return &usageError{err}
			}
			o.Log, o.Version = log, version
			if o.Registry, err = obs.NewRegistry(obs.ReadBuild(version)); err != nil {
				return err
			}
			drain, stop := drainSignals()
			defer stop()
			d, err := app.NewDemo(cmd.Context(), o)
			if errors.Is(err, app.ErrFlow) {
				return &usageError{err}
			}
			if err != nil {
				return err
			}
			cmd.SetOut(os.Stdout)
			cmd.Print(d.Banner())
			return d.Run(cmd.Context(), drain)
		},
	}
	f := cmd.Flags()
	f.StringVar(&sipAddr, "sip", "0.0.0.0:5060", "address for SIP on UDP and TCP; the next free port is taken where it is in use")
	f.StringVar(&rtp, "rtp", "20000-20999", "UDP ports for RTP")
	f.StringVar(&o.HTTP, "http", "127.0.0.1:8080", "address for the phone's page, health and metrics; empty: none")
	f.StringVar(&o.HTTPS, "https", "", "address for the same over https with a certificate of its own; empty: none")
	f.StringVar(&token, "token", "", "what others than this machine sign in with on the page")
	f.StringVar(&rtcAddr, "rtc", "0.0.0.0:8189", "address for browsers' media on UDP and TCP; the next free port is taken where it is in use")
	f.StringVar(&o.Flow, "flow", "", "flow to run in place of the built-in one: a YAML file or a Voiceflow project (.vf)")
	f.StringVar(&o.Records, "records", "", "file that call records are appended to")
	f.BoolVar(&o.Busy, "busy", false, "the human is busy at first")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "console", "json or console")
	return cmd
}
