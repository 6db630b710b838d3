package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWrongUse holds that what a user got wrong is exit code 2, before anything
// is opened or called.
func TestWrongUse(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script.yaml")
	require.NoError(t, os.WriteFile(script, []byte("- play: missing.wav\n- press: x\n"), 0o600))
	flow := filepath.Join(dir, "flow.yaml")
	require.NoError(t, os.WriteFile(flow, []byte("blocks: {start: [{spek: hello}]}\n"), 0o600))
	const target = "sip:a@127.0.0.1:1"
	for name, args := range map[string][]string{
		"command":            {"dial"},
		"flag":               {"serve", "--port", "1"},
		"argument":           {"check", "file.yaml"},
		"no target":          {"call"},
		"target":             {"call", "desk"},
		"target's scheme":    {"call", "http://127.0.0.1"},
		"caller":             {"call", "--from", "me", target},
		"transport":          {"call", "--transport", "sctp", target},
		"codec":              {"call", "--codec", "opus", target},
		"keys":               {"call", "--keys", "1-2", target},
		"sound":              {"call", "--play", filepath.Join(dir, "missing.wav"), target},
		"header":             {"call", "--header", "X-Ticket", target},
		"header of ours":     {"call", "--header", "Call-ID: 1", target},
		"script":             {"call", "--script", script, target},
		"no script":          {"call", "--script", filepath.Join(dir, "missing.yaml"), target},
		"flow":               {"demo", "--flow", flow},
		"no flow":            {"demo", "--flow", filepath.Join(dir, "missing.yaml")},
		"demo's http":        {"demo", "--http", "8080"},
		"demo's ports":       {"demo", "--rtp", "1"},
		"configuration":      {"serve", "--config", filepath.Join(dir, "missing.yaml")},
		"configuration file": {"check", "--config", dir},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, 2, run(args)) })
	}
	require.Equal(t, 1, run([]string{"call", "--record", filepath.Join(dir, "none", "heard.wav"), target}))
	require.Equal(t, 0, run([]string{"version"}))
}
