package architecture

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/ivrbridge/ivrbridge/"

// A rule says what the packages below a folder may import of this module. A name
// stands for the package itself, name/... also for those below it.
type rule struct {
	folder string
	may    []string
}

// Small packages that anybody may use. They use only each other.
var leaves = []string{
	"internal/fetch", "internal/guard", "internal/obs", "internal/record", "internal/registry", "internal/secret",
	"internal/simnet", "internal/ssml",
}

// The rules, the first that has the package's folder holds. Imports go one way:
// from the program to its wiring, from there to the conversation, and from there
// to the domain packages, which do not know each other.
var rules = []rule{
	{"media/sdp", nil},
	{"media/pcm", nil},
	{"media/rtc", append([]string{"media/..."}, leaves...)},
	{"media", append([]string{"media/..."}, leaves...)},
	{"sip", append([]string{"sip/..."}, leaves...)},
	{"asr", append([]string{"asr/...", "media/pcm"}, leaves...)},
	{"tts", append([]string{"tts/...", "media/pcm"}, leaves...)},
	{"dialog", append([]string{"dialog/...", "media/pcm"}, leaves...)},
	{"configs", append([]string{"internal/target"}, leaves...)},

	{"internal/architecture", nil},
	{"internal/target", leaves},
	{"internal/call/machine", append([]string{"dialog"}, leaves...)},
	{"internal/call", append([]string{"internal/call/...", "internal/target", "asr", "tts", "dialog", "media", "media/pcm"}, leaves...)},
	{"internal/transfer", append([]string{"internal/transfer/...", "internal/call/...", "internal/target", "media/pcm"}, leaves...)},
	{"internal/line", append([]string{"internal/line/...", "internal/call/...", "internal/target", "sip", "media/..."}, leaves...)},
	{"internal/tlscert", nil},
	{"internal/store", append([]string{"internal/store/..."}, leaves...)},
	{"internal/admin", append([]string{"internal/admin/..."}, leaves...)},
	{"internal/caller", append([]string{"internal/caller/...", "internal/line", "internal/call", "sip", "asr/...", "tts/...", "media/..."}, leaves...)},
	{"internal/app", []string{"*"}},
	{"internal/demo", []string{"*"}},
	{"cmd", []string{"*"}},
	{"deploy", nil},
	{"docs", nil},
	{"test", []string{"*"}},
}

// Nothing but programs and tests may import these.
var tops = []string{"internal/app", "internal/demo", "internal/caller", "cmd", "test"}

// Heavy or platform-bound modules and the only folders that may import them.
var confined = map[string][]string{
	"github.com/ebitengine/purego":       {"cmd/ivrbridge-worker"},
	"github.com/emiago/sipgo":            {"sip", "test"},
	"github.com/pion/webrtc/v4":          {"media/rtc", "test"},
	"github.com/spf13/cobra":             {"cmd"},
	"github.com/hajimehoshi/go-mp3":      {"media/pcm"},
	"github.com/zaf/g711":                {"media/pcm"},
	"github.com/nyaruka/phonenumbers":    {"internal/target", "internal/line", "internal/app", "sip"},
	"github.com/prometheus/client_model": {},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func (p pkg) folder() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []pkg {
	t.Helper()
	// What only the go command reads would not count for the test cache.
	require.NoError(t, filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "bin" || d.Name() == ".git") {
			return fs.SkipDir
		}
		return err
	}))
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	return dir
}

func within(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

func (r rule) allows(folder string) bool {
	return slices.ContainsFunc(r.may, func(m string) bool {
		if m == "*" || m == folder {
			return true
		}
		below, ok := strings.CutSuffix(m, "/...")
		return ok && within(folder, below)
	})
}

func ruleOf(folder string) (rule, bool) {
	if i := slices.IndexFunc(rules, func(r rule) bool { return within(folder, r.folder) }); i >= 0 {
		return rules[i], true
	}
	if slices.ContainsFunc(leaves, func(l string) bool { return within(folder, l) }) {
		return rule{folder, leaves}, true
	}
	return rule{}, false
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range packages(t) {
		r, ok := ruleOf(p.folder())
		if !ok {
			t.Errorf("%s: no rule says what it may import; add it to the rules or the leaves in architecture_test.go", p.folder())
			continue
		}
		for _, imported := range p.Imports {
			folder, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if !r.allows(folder) {
				t.Errorf("%s imports %s, which the rule of %s does not allow", p.folder(), folder, r.folder)
			}
			for _, top := range tops {
				if within(folder, top) && !slices.ContainsFunc(tops, func(from string) bool { return within(p.folder(), from) }) {
					t.Errorf("%s imports %s, which only programs and tests may", p.folder(), folder)
				}
			}
		}
	}
}

// What a domain package reaches by whatever way must not be another one.
func TestDomainPackagesDoNotReachEachOther(t *testing.T) {
	domains := []string{"sip", "media", "asr", "tts", "dialog"}
	shared := []string{"media/pcm"}
	for _, p := range packages(t) {
		own := slices.IndexFunc(domains, func(d string) bool { return within(p.folder(), d) })
		if own < 0 {
			continue
		}
		for _, dep := range p.Deps {
			folder, ours := strings.CutPrefix(dep, module)
			if !ours || slices.Contains(shared, folder) {
				continue
			}
			for i, d := range domains {
				require.False(t, i != own && within(folder, d), "%s reaches %s", p.folder(), folder)
			}
			require.False(t, within(folder, "internal/call") || within(folder, "internal/app"), "%s reaches %s", p.folder(), folder)
		}
	}
}

func TestModulesStayWhereTheyBelong(t *testing.T) {
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for m, folders := range confined {
				if imported != m && !strings.HasPrefix(imported, m+"/") {
					continue
				}
				if !slices.ContainsFunc(folders, func(f string) bool { return within(p.folder(), f) }) {
					t.Errorf("%s imports %s, which belongs into %v alone", p.folder(), imported, folders)
				}
			}
		}
		if p.folder() == "cmd/ivrbridge" {
			require.NotContains(t, p.Deps, "github.com/ebitengine/purego", "the static program would need a dynamic loader")
		}
	}
}

// The machine decides and the loop acts: nothing that waits, locks, reads a clock
// or reaches the world is within its reach.
func TestMachineIsPure(t *testing.T) {
	for _, p := range packages(t) {
		if p.folder() != "internal/call/machine" {
			continue
		}
		for _, std := range []string{"context", "sync", "sync/atomic", "net", "net/http", "os", "io", "math/rand/v2", "go.uber.org/zap"} {
			require.NotContains(t, p.Imports, std)
		}
		for _, name := range p.GoFiles {
			for _, used := range selectors(t, filepath.Join(p.Dir, name), "time") {
				require.NotContains(t, []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Sleep", "Tick"}, used,
					"%s uses time.%s", name, used)
			}
		}
	}
}

// Of media, the conversation knows what happens on a leg and what is played, not
// the engine behind it.
func TestCallKnowsOnlyEventsOfMedia(t *testing.T) {
	for _, p := range packages(t) {
		if !within(p.folder(), "internal/call") {
			continue
		}
		for _, name := range p.GoFiles {
			for _, used := range selectors(t, filepath.Join(p.Dir, name), "media") {
				require.NotContains(t, []string{"Engine", "NewEngine", "EngineConfig", "Leg", "LegConfig", "Port", "Ports", "UDPPorts", "MemoryPorts", "Params", "Join"}, used,
					"%s uses media.%s", name, used)
			}
		}
	}
}

// selectors lists the names that a file uses of the package imported as name.
func selectors(t *testing.T, file, name string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	imported := slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
		path, err := strconv.Unquote(i.Path.Value)
		return err == nil && i.Name == nil && (path == name || strings.HasSuffix(path, "/"+name))
	})
	if !imported {
		return nil
	}
	used := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && id.Name == name {
				used[s.Sel.Name] = true
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(used))
}

const maxLines = 500

func TestFilesAreShort(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			require.NoError(t, err)
			if n := codeLines(src); n > maxLines {
				t.Errorf("%s/%s has %d lines of code, more than %d: split it by what it is about", p.folder(), name, n, maxLines)
			}
		}
	}
}

// codeLines counts the lines that hold more than blanks and comments.
func codeLines(src []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, 0)
	n, last := 0, 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return n
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue
		}
		first := file.Line(pos)
		end := first + strings.Count(lit, "\n")
		n += max(0, end-max(first, last+1)+1)
		last = max(last, end)
	}
}

func TestCodeLines(t *testing.T) {
	src := "// Package x.\npackage x\n\n/* a\nb */\nvar a = `1\n2\n`\n\nfunc f() {\n\tg(1, // why\n\t\t2)\n}\n"
	require.Equal(t, 8, codeLines([]byte(src)))
}
