package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// parallel is how many tests run at once: they wait for telephones more than
// they compute.
const parallel = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", parallel)
	}
	m.Run()
	if made, _ := built(); made != "" && os.Getenv("IVRBRIDGE_BIN") == "" {
		_ = os.RemoveAll(filepath.Dir(made))
	}
}

// built returns the program under test, made once where the environment names
// none. The worker lies beside it.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("IVRBRIDGE_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "ivrbridge-e2e-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "github.com/ivrbridge/ivrbridge/cmd/ivrbridge", "github.com/ivrbridge/ivrbridge/cmd/ivrbridge-worker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return filepath.Join(dir, "ivrbridge"), fmt.Errorf("build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "ivrbridge"), nil
})

func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

// need says that a test cannot do without a tool: it is skipped where the tool
// is missing, and fails in CI.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool+" is not installed")
		}
	}
}

func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}
