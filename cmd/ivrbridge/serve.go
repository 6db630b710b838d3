package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/app"
	"github.com/ivrbridge/ivrbridge/internal/obs"
)

func newServe() *cobra.Command {
	var file, records string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer calls for the agents of a configuration",
		Long: "Without a file, VOICEFLOW_API_KEY names the agent; it answers callers of the local networks on port 5060\n" +
			"with the best engines that are there.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, notes, err := configuration(file)
			if err != nil {
				return err
			}
			log, _, err := obs.NewLogger(obs.LogConfig{Level: conf.Log.Level, Format: conf.Log.Format}, os.Stderr)
			if err != nil {
				return &usageError{err}
			}
			if missing := app.Unavailable(&conf); len(missing) > 0 {
				return &usageError{errors.New(strings.Join(missing, "\n"))}
			}
			for _, n := range notes {
				fmt.Fprintln(os.Stderr, n)
			}
			reg, err := obs.NewRegistry(obs.ReadBuild(version))
			if err != nil {
				return err
			}
			drain, stop := drainSignals()
			defer stop()
			a, err := app.New(cmd.Context(), app.Options{Config: &conf, Version: version, Log: log, Registry: reg, Records: records, RecordsOptional: !cmd.Flags().Changed("records")})
			if err != nil {
				return err
			}
			defer keepOnHangup(log)()
			return a.Run(cmd.Context(), drain)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file; without one the environment says everything")
	cmd.Flags().StringVar(&records, "records", "ivrbridge-records.jsonl", "file that call records are appended to; empty: the log only")
	return cmd
}

// keepOnHangup says that a reload is not there yet: SIGHUP must not end calls.
func keepOnHangup(log *zap.Logger) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	go func() {
		for range c {
			log.Warn("reload is not available yet, restart to use a changed configuration")
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

// configuration reads the file, or the environment without one.
func configuration(file string) (configs.Config, []string, error) {
	if file != "" {
		conf, problems, err := configs.Load(file, configs.Options{Check: app.CheckAdapter})
		if err != nil {
			return conf, nil, &usageError{fmt.Errorf("%s:\n%w", file, err)}
		}
		var notes []string
		for _, p := range problems {
			notes = append(notes, fmt.Sprintf("%s: %s", file, p))
		}
		return conf, notes, nil
	}
	conf, notes := configs.FromEnv(configs.Environment{Probe: answers, Known: app.UsableAdapter})
	if problems := conf.Validate(app.CheckAdapter).Errors(); len(problems) > 0 {
		return conf, nil, &usageError{fmt.Errorf("no --config, and the environment does not say enough:\n%s", problems)}
	}
	return conf, notes, nil
}

// answers reports whether something listens at a TCP address.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, 300*time.Millisecond) //nolint:noctx // bounded, at start
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func newCheck() *cobra.Command {
	var file string
	var live bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Report every mistake in a configuration",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, problems, err := checked(file)
			cmd.SetOut(cmd.OutOrStdout())
			for _, p := range problems {
				cmd.Println(p)
			}
			if invalid, ok := errors.AsType[*configs.InvalidError](err); ok {
				cmd.Printf("%d to mend\n", len(invalid.Problems))
				return &quietError{2}
			}
			if err != nil {
				return &usageError{err}
			}
			if missing := app.Unavailable(&conf); len(missing) > 0 {
				for _, m := range missing {
					cmd.Println(m)
				}
				return &quietError{2}
			}
			if live {
				return checkLive(cmd, conf)
			}
			cmd.Println("the configuration is good")
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file; without one the environment is checked")
	cmd.Flags().BoolVar(&live, "live", false, "also ask Voiceflow")
	return cmd
}

func checked(file string) (configs.Config, configs.Problems, error) {
	if file != "" {
		return configs.Load(file, configs.Options{Check: app.CheckAdapter})
	}
	conf, _ := configs.FromEnv(configs.Environment{Probe: answers, Known: app.UsableAdapter})
	problems := conf.Validate(app.CheckAdapter)
	if bad := problems.Errors(); len(bad) > 0 {
		return conf, problems, &configs.InvalidError{Problems: bad}
	}
	return conf, problems, nil
}

// checkLive asks Voiceflow for every agent.
func checkLive(cmd *cobra.Command, conf configs.Config) error {
	good := true
	for _, a := range conf.Agents {
		d := app.CheckLive(cmd.Context(), a)
		cmd.Printf("agent %s: %s\n", a.Name, d.Advice)
		good = good && d.OK
	}
	if !good {
		return &quietError{1}
	}
	return nil
}
