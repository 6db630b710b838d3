package main

import (
	"encoding/json"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/tts"
)

func newAdapters() *cobra.Command {
	return &cobra.Command{
		Use:   "adapters",
		Short: "List recognisers and voices",
		Args:  exactly(0),
		Run: func(cmd *cobra.Command, _ []string) {
			cmd.SetOut(cmd.OutOrStdout())
			cmd.Println("asr:")
			for _, n := range asr.Providers.Names() {
				cmd.Println("  " + n)
			}
			cmd.Println("tts:")
			for _, n := range tts.Providers.Names() {
				cmd.Println("  " + n)
			}
		},
	}
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(configs.Schema())
		},
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(0),
		Run: func(cmd *cobra.Command, _ []string) {
			cmd.SetOut(cmd.OutOrStdout())
			cmd.Printf("ivrbridge %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
