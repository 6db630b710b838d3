// Command ivrbridge puts a Voiceflow agent on the telephone.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 done, 1 failed, 2 wrong use or configuration.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var quiet *quietError
	if !errors.As(err, &quiet) {
		fmt.Fprintln(os.Stderr, "ivrbridge:", err)
	}
	if u, ok := errors.AsType[*usageError](err); ok && u != nil || strings.HasPrefix(err.Error(), "unknown command") {
		return 2
	}
	if quiet != nil {
		return quiet.code
	}
	return 1
}

// A usageError is wrong use or a wrong configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// A quietError has been told already.
type quietError struct{ code int }

func (e *quietError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "ivrbridge",
		Short:         "A Voiceflow agent on the telephone",
		Long:          "ivrbridge answers telephone calls by SIP and lets a Voiceflow agent talk with the callers.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newDemo(), newServe(), newCheck(), newCall(), newAdapters(), newSchema(), newVersion())
	return root
}

// exactly is cobra.ExactArgs with our exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return &usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// drainSignals tells of SIGTERM: the first drains, a second one ends now.
func drainSignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}
