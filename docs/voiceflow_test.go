package docs_test

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog"
)

// rows lists the cells of the table below a heading of voiceflow.md, without
// backquotes around them.
func rows(t *testing.T, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile("voiceflow.md")
	require.NoError(t, err)
	_, part, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, ok, "no heading %s", heading)
	part, _, _ = strings.Cut(part, "\n## ")
	part, _, _ = strings.Cut(part, "\n### ")
	var out [][]string
	for _, line := range regexp.MustCompile("(?m)^\\| `.*\\|$").FindAllString(part, -1) {
		var cells []string
		for c := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.Trim(strings.TrimSpace(c), "`"))
		}
		out = append(out, cells)
	}
	return out
}

func TestGenerationsAreDocumented(t *testing.T) {
	var names []string
	for _, r := range rows(t, "Generations") {
		names = append(names, r[0])
		require.Equal(t, dialog.HasVoice(r[0]), strings.HasPrefix(r[5], "yes"), r[0])
	}
	require.Equal(t, dialog.Generations(), names)
}

func TestTracesAreWhatTheirTableSays(t *testing.T) {
	var documented []string
	for _, r := range rows(t, "Traces") {
		documented = append(documented, r[0])
		tr := dialog.Trace{Type: r[0], Payload: json.RawMessage(r[1])}
		require.True(t, json.Valid(tr.Payload), r[0])
		require.Equal(t, r[2], dialog.Interpret(tr).Kind.String(), r[0])
	}
	known := literals(t, "../dialog/trace.go", func(n ast.Node) []*ast.BasicLit {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || v.Names[0].Name != "readers" && v.Names[0].Name != "ignored" {
			return nil
		}
		m, ok := v.Values[0].(*ast.CompositeLit)
		if !ok {
			return nil
		}
		var keys []*ast.BasicLit
		for _, e := range m.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if lit, ok := kv.Key.(*ast.BasicLit); ok {
					keys = append(keys, lit)
				}
			}
		}
		return keys
	})
	known = slices.DeleteFunc(known, func(s string) bool { return s == "" })
	require.ElementsMatch(t, known, documented)
}

func TestActionsToVoiceflowAreDocumented(t *testing.T) {
	known := literals(t, "../dialog/dialog.go", func(n ast.Node) []*ast.BasicLit {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Action") {
			return nil
		}
		if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			return []*ast.BasicLit{lit}
		}
		return nil
	})
	var documented []string
	for _, r := range rows(t, "Actions") {
		documented = append(documented, r[0])
	}
	require.ElementsMatch(t, known, documented)
}
