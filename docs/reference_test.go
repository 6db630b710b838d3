package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/dialog/localflow"
)

// named lists the names in backquotes that begin the rows of the tables below a
// heading.
func named(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile("reference.md")
	require.NoError(t, err)
	_, part, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, ok, "no heading %s", heading)
	part, _, _ = strings.Cut(part, "\n## ")
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(part, -1) {
		names = append(names, m[1])
	}
	return names
}

// literals returns the values of the literals that in picks from the nodes of a
// file.
func literals(t *testing.T, file string, in func(ast.Node) []*ast.BasicLit) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		for _, lit := range in(n) {
			s, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			out = append(out, s)
		}
		return true
	})
	return out
}

func TestVariablesAreDocumented(t *testing.T) {
	given := literals(t, "../internal/app/route.go", func(n ast.Node) []*ast.BasicLit {
		m, ok := n.(*ast.CompositeLit)
		if !ok {
			return nil
		}
		var keys []*ast.BasicLit
		for _, e := range m.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				if lit, ok := kv.Key.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					keys = append(keys, lit)
				}
			}
		}
		return keys
	})
	given = slices.DeleteFunc(given, func(s string) bool {
		return slices.Contains([]string{"callType", "userNumber", "agentNumber"}, s) // the launch's payload
	})
	require.ElementsMatch(t, append(given, "sip_<header>"), named(t, "Variables"))
}

func TestActionsAreDocumented(t *testing.T) {
	known := literals(t, "../internal/call/machine/policy.go", func(n ast.Node) []*ast.BasicLit {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasPrefix(strings.ToLower(v.Names[0].Name), "action") {
			return nil
		}
		if lit, ok := v.Values[0].(*ast.BasicLit); ok {
			return []*ast.BasicLit{lit}
		}
		return nil
	})
	require.ElementsMatch(t, append(known, "dial"), named(t, "Custom actions"))
}

// The sample of the guide is a flow that runs.
func TestSampleFlow(t *testing.T) {
	_, err := localflow.Load("guides/sample-flow.yaml")
	require.NoError(t, err)
}
