package obs

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program runs.
type Build struct {
	Version  string // such as v0.1.0; devel for builds outside a release
	Revision string // commit
	Go       string // version of the compiler
}

// ReadBuild returns what the linker knows. A version given there wins.
func ReadBuild(version string) Build {
	b := Build{Version: version, Revision: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// NewRegistry returns a registry that already has the collectors of the Go
// runtime and the process, and ivrbridge_build_info.
func NewRegistry(b Build) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ivrbridge_build_info",
		Help: "Version of the running program, always 1.",
	}, []string{"version", "revision", "goversion"})
	info.WithLabelValues(b.Version, b.Revision, b.Go).Set(1)
	for _, c := range []prometheus.Collector{
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}
