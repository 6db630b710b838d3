package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A row is one line of the table in DEPENDENCIES.md.
type row struct{ version, licence, why string }

func table(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile("../DEPENDENCIES.md")
	require.NoError(t, err)
	rows := map[string]row{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || !strings.HasPrefix(line, "|") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "module" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		require.NotContains(t, rows, cells[0], "two lines")
		rows[cells[0]] = row{cells[1], cells[2], cells[3]}
	}
	return rows
}

func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err, "go %s", strings.Join(args, " "))
	return out
}

func required(t *testing.T) map[string]string {
	t.Helper()
	_, err := os.ReadFile("../go.mod") // for the test cache: it does not see what the go command reads
	require.NoError(t, err)
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
	}
	require.NoError(t, json.Unmarshal(goTool(t, "mod", "edit", "-json"), &mod))
	direct := map[string]string{}
	for _, r := range mod.Require {
		if !r.Indirect {
			direct[r.Path] = r.Version
		}
	}
	return direct
}

func TestDependenciesAreExplained(t *testing.T) {
	rows, direct := table(t), required(t)
	for path, version := range direct {
		r, ok := rows[path]
		switch {
		case !ok:
			t.Errorf("go.mod requires %s %s, which has no line in DEPENDENCIES.md", path, version)
		case r.version != version:
			t.Errorf("%s: DEPENDENCIES.md says %s, go.mod %s", path, r.version, version)
		case r.why == "":
			t.Errorf("%s: DEPENDENCIES.md does not say why", path)
		}
	}
	for path := range rows {
		if _, ok := direct[path]; !ok {
			t.Errorf("DEPENDENCIES.md has a line for %s, which go.mod does not require directly", path)
		}
	}
}

// What a licence text says, in words that only it has.
var telling = map[string][]string{
	"Apache-2.0":         {"Apache License"},
	"BSD-2-Clause":       {"Redistributions of source code must retain", "Redistributions in binary form must reproduce"},
	"BSD-3-Clause":       {"Redistributions of source code must retain", "endorse or promote"},
	"MIT":                {"Permission is hereby granted, free of charge"},
	"MIT and Apache-2.0": {"Permission is hereby granted, free of charge", "Apache License"},
	"MPL-2.0":            {"Mozilla Public License"},
}

func TestLicencesAreTheirs(t *testing.T) {
	rows := table(t)
	for path := range required(t) {
		r, ok := rows[path]
		if !ok {
			continue
		}
		dir := strings.TrimSpace(string(goTool(t, "list", "-m", "-f", "{{.Dir}}", path)))
		if dir == "" {
			continue // not downloaded: nothing in this build uses it
		}
		files, err := filepath.Glob(filepath.Join(dir, "LICENSE*"))
		require.NoError(t, err)
		var text strings.Builder
		for _, name := range files {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				b, err := os.ReadFile(name)
				require.NoError(t, err)
				text.Write(b)
			}
		}
		words, ok := telling[r.licence]
		require.True(t, ok, "%s: %q is no licence that this project takes", path, r.licence)
		plain := strings.Join(strings.Fields(text.String()), " ")
		for _, w := range words {
			require.Contains(t, plain, w, "%s is not under %s", path, r.licence)
		}
		if r.licence == "BSD-2-Clause" {
			require.NotContains(t, plain, "endorse or promote", "%s is under BSD-3-Clause", path)
		}
	}
}
