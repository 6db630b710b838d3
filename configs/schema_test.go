package configs

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write golden files")

func TestSchemaIsGolden(t *testing.T) {
	got, err := json.MarshalIndent(Schema(), "", "  ")
	require.NoError(t, err)
	got = append(got, '\n')
	if *update {
		require.NoError(t, os.WriteFile("schema.json", got, 0o644))
	}
	want, err := os.ReadFile("schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run go test ./configs -update")
}

func TestSchemaTakesTheExampleAndRefusesMistakes(t *testing.T) {
	resolved, err := Schema().Resolve(nil)
	require.NoError(t, err)
	parse := func(text string) any {
		var v any
		require.NoError(t, yaml.Unmarshal([]byte(text), &v))
		return v
	}
	require.NoError(t, resolved.Validate(parse(Example())))
	require.NoError(t, resolved.Validate(parse(least)))
	for _, text := range []string{
		"sipp: {}",
		"sip: {listen: 5}",
		"agents: [{nam: x}]",
		"agents: [{barge_in: {mode: loud}}]",
		"defaults: {no_reply: fast}",
		"trunks: [{srtp: maybe}]",
	} {
		require.Error(t, resolved.Validate(parse(text)), text)
	}
}
