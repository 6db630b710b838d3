package load

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	step  = 10 * time.Microsecond
	steps = 500_000 // 5 s
)

// A spread is how a duration is distributed, in steps of 10 µs. What is below
// zero counts as zero.
type spread struct {
	n    []uint32
	all  int
	most time.Duration
}

func (s *spread) add(d time.Duration) {
	if s.n == nil {
		s.n = make([]uint32, steps+1)
	}
	d = max(d, 0)
	s.n[min(int(d/step), steps)]++
	s.all++
	s.most = max(s.most, d)
}

// at returns what the given share of all stays below.
func (s *spread) at(share float64) time.Duration {
	want := int(share * float64(s.all))
	for i, n := range s.n {
		if want -= int(n); want < 0 {
			return time.Duration(i) * step
		}
	}
	return s.most
}

// millis shows the usual points of the distribution in milliseconds.
func (s *spread) millis() string {
	return fmt.Sprintf("p50 %s  p99 %s  p99.9 %s  max %s ms", ms(s.at(.5)), ms(s.at(.99)), ms(s.at(.999)), ms(s.most))
}

func ms(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 2, 64) }

func TestSpread(t *testing.T) {
	var s spread
	require.Zero(t, s.at(.5))
	for i := range 1000 {
		s.add(time.Duration(i) * time.Millisecond / 10)
	}
	s.add(-time.Second)
	require.InDelta(t, 50*time.Millisecond, s.at(.5), float64(time.Millisecond))
	require.InDelta(t, 99*time.Millisecond, s.at(.99), float64(time.Millisecond))
	s.add(time.Minute)
	require.Equal(t, time.Minute, s.most)
	require.Equal(t, 5*time.Second, s.at(1-1e-9))
}

// A table is printed in columns, the first row as its head.
type table [][]string

func (x *table) row(cells ...any) {
	var r []string
	for _, c := range cells {
		if f, ok := c.(float64); ok {
			c = strconv.FormatFloat(f, 'f', 1, 64)
		}
		r = append(r, fmt.Sprint(c))
	}
	*x = append(*x, r)
}

func (x table) print(t *testing.T) {
	t.Helper()
	w := tabwriter.NewWriter(t.Output(), 0, 0, 2, ' ', 0)
	for _, r := range x {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush()
}

func say(t *testing.T, format string, args ...any) {
	t.Helper()
	fmt.Fprintf(t.Output(), format+"\n", args...)
}

// setting reads the environment.
func setting(name, otherwise string) string {
	if text := os.Getenv(name); text != "" {
		return text
	}
	return otherwise
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(setting(name, strconv.Itoa(otherwise)))
	require.NoError(t, err, name)
	return n
}

// machine says in a few words what the figures were made on.
func machine() string {
	return fmt.Sprintf("%d cores, %s, %s", runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly))
}

// slope is the least-squares rise of y over x.
func slope(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(y))
	}
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

func TestSlope(t *testing.T) {
	require.InDelta(t, 2, slope([]float64{0, 1, 2, 3}, []float64{1, 3, 5, 7}), 1e-9)
	require.Zero(t, slope([]float64{1}, []float64{1}))
}
