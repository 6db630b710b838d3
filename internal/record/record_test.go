package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecordIsOneLineOfJSON(t *testing.T) {
	began := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "records.jsonl")
	f, err := OpenFile(FileConfig{Path: path})
	require.NoError(t, err)
	r := Record{
		ID: NewID(began), Began: began, Ended: began.Add(time.Minute), Class: CallerHangup, Why: "The caller hung up\nafter 3 turns.",
		Turns: []Turn{{Input: "speech", Said: "yes \"please\"", FirstSeconds: Seconds(1234567 * time.Microsecond)}},
	}
	require.NoError(t, f.Write(&r))
	require.NoError(t, f.Close(t.Context()))
	require.NoError(t, f.Close(t.Context()), "idempotent")
	require.ErrorIs(t, f.Write(&r), ErrClosed)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, bytes.Count(text, []byte("\n")))
	var back Record
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, r, back)
	require.InDelta(t, 1.235, back.Turns[0].FirstSeconds, 1e-9)
	require.NotContains(t, string(text), `"answered"`)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestTornLineOfACrashIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{\"id\":\"A\"}\n{\"id\":"), 0o600))
	f, err := OpenFile(FileConfig{Path: path})
	require.NoError(t, err)
	require.NoError(t, f.Write(&Record{ID: "B"}))
	require.NoError(t, f.Close(t.Context()))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	require.Equal(t, []string{`{"id":"A"}`, `{"id":`}, lines[:2])
	require.True(t, json.Valid([]byte(lines[2])))
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	_, err := OpenFile(FileConfig{Path: filepath.Join(t.TempDir(), "no", "such")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	f, err := OpenFile(FileConfig{Path: path, Sync: -1})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				if err := f.Write(&Record{ID: fmt.Sprintf("%d-%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, f.Close(t.Context()))
	require.Len(t, ids(t, path), 800)
}

func ids(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return idsOf(t, string(text))
}

func idsOf(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(text) {
		var r Record
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		out = append(out, r.ID)
	}
	return out
}

// A fakeDisk is a file with a limit.
type fakeDisk struct {
	mu       sync.Mutex
	data     []byte
	room     int // bytes left
	readOnly bool
	stuck    bool // truncation fails
	opens    int
	syncs    []time.Duration
	began    time.Time
}

func (d *fakeDisk) open(string) (disk, int64, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readOnly {
		return nil, 0, false, syscall.EROFS
	}
	d.opens++
	return d, int64(len(d.data)), len(d.data) > 0 && d.data[len(d.data)-1] != '\n', nil
}

func (d *fakeDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.data = append(d.data, p[:n]...)
	d.room -= n
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fakeDisk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck {
		return errors.ErrUnsupported
	}
	d.room += len(d.data) - int(size)
	d.data = d.data[:size]
	return nil
}

func (d *fakeDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs = append(d.syncs, time.Since(d.began))
	return nil
}

func (d *fakeDisk) Close() error { return nil }

func (d *fakeDisk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *fakeDisk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(slices.Clone(d.data))
}

func TestFullDiskKeepsRecordsAndRetries(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDisk{room: 600, stuck: stuck, began: time.Now()}
			registry := prometheus.NewRegistry()
			f, err := OpenFile(FileConfig{open: d.open, Sync: 200 * time.Millisecond, Metrics: registry})
			require.NoError(t, err)
			for _, id := range []string{"A", "B", "C"} {
				require.NoError(t, f.Write(&Record{ID: id}))
			}
			synctest.Wait()
			require.Equal(t, 3-strings.Count(d.text(), "\n"), f.Backlog())
			require.NotZero(t, f.Backlog())
			d.set(func() { d.readOnly = true })
			time.Sleep(3 * time.Second)
			require.NotZero(t, f.Backlog())
			require.GreaterOrEqual(t, gathered(t, registry, "ivrbridge_journal_errors_total"), 3.0)
			d.set(func() { d.readOnly, d.room = false, 1<<20 })
			time.Sleep(time.Second)
			synctest.Wait()
			require.Zero(t, f.Backlog())
			require.Zero(t, gathered(t, registry, "ivrbridge_journal_backlog"))
			require.NoError(t, f.Close(t.Context()))
			var whole []string
			for line := range strings.Lines(d.text()) {
				var r Record
				if json.Unmarshal([]byte(line), &r) == nil {
					whole = append(whole, r.ID)
				}
			}
			require.Equal(t, []string{"A", "B", "C"}, whole)
			require.Equal(t, stuck, len(idsIgnoringTorn(d.text())) != len(whole), "only a disk that cannot truncate keeps a torn line")
		})
	}
}

func idsIgnoringTorn(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{began: time.Now()}
		registry := prometheus.NewRegistry()
		f, err := OpenFile(FileConfig{open: d.open, Backlog: 3, Metrics: registry})
		require.NoError(t, err)
		require.NoError(t, f.Write(&Record{ID: "first"}))
		synctest.Wait()
		for i := range 5 {
			require.NoError(t, f.Write(&Record{ID: strconv.Itoa(i)}))
		}
		require.InDelta(t, 2, gathered(t, registry, "ivrbridge_journal_dropped_total"), 0)
		d.set(func() { d.room = 1 << 20 })
		require.NoError(t, f.Close(t.Context()), "closing waits for the next try")
		require.Equal(t, []string{"first", "2", "3", "4"}, idsOf(t, d.text()))
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{began: time.Now()}
		f, err := OpenFile(FileConfig{open: d.open})
		require.NoError(t, err)
		require.NoError(t, f.Write(&Record{ID: "A"}))
		require.NoError(t, f.Write(&Record{ID: "B"}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err = f.Close(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "2 lost")
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

func TestSyncPolicies(t *testing.T) {
	for policy, want := range map[time.Duration][]time.Duration{
		0:                      {0, 100 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond},
		200 * time.Millisecond: {200 * time.Millisecond, 700 * time.Millisecond},
		-1:                     nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDisk{room: 1 << 20, began: time.Now()}
			f, err := OpenFile(FileConfig{open: d.open, Sync: policy})
			require.NoError(t, err)
			last := time.Duration(0)
			for _, at := range []time.Duration{0, 100 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond} {
				time.Sleep(at - last)
				last = at
				require.NoError(t, f.Write(&Record{}))
				synctest.Wait()
			}
			time.Sleep(time.Second)
			require.NoError(t, f.Close(t.Context()))
			require.Equal(t, want, d.syncs)
		})
	}
}

func gathered(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestIDsSortByTimeAndAreValid(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	seen := map[string]bool{}
	last := ""
	for i := range 1000 {
		id := NewID(now.Add(time.Duration(i) * time.Millisecond))
		require.True(t, ValidID(id), id)
		require.False(t, seen[id])
		require.Greater(t, id[:10], last)
		seen[id], last = true, id[:10]
	}
	require.Equal(t, "01ARYZ6S41", NewID(time.UnixMilli(1469918176385))[:10])
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("0", 25), strings.Repeat("0", 27), strings.Repeat("I", 26), "8" + strings.Repeat("0", 25), strings.ToLower(NewID(now)[:10]) + "abcdefghjkmnpqrs"} {
		require.False(t, ValidID(bad), bad)
	}
}
