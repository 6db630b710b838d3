package e2e

import (
	"debug/elf"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program runs wherever there is a kernel: it asks for no dynamic loader and
// for no library.
func TestProgramIsStatic(t *testing.T) {
	path := os.Getenv("IVRBRIDGE_BIN")
	if path == "" {
		require.Empty(t, os.Getenv("CI"), "IVRBRIDGE_BIN names no program")
		t.Skip("IVRBRIDGE_BIN names no program: run make e2e")
	}
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "the program wants a dynamic loader")
	}
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
}
