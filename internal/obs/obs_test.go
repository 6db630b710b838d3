package obs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLoggerWritesOneJSONObjectPerLine(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger(LogConfig{Level: "info", Format: "json"}, &out)
	require.NoError(t, err)
	log.Debug("not seen")
	call := log.Named("sip").With(zap.String("call_id", "a\r\nb\x1b[31m"))
	call.Info("call\nbegan", zap.Error(errors.New("bad\x00thing")), zap.Stringer("from", netip.MustParseAddr("192.0.2.1")), zap.Int("n", 1))
	level.SetLevel(zapcore.DebugLevel)
	log.Debug("seen", zap.String("long", strings.Repeat("é", 1000)), zap.Error(nil), zap.NamedError("nil", (*failure)(nil)), zap.Stringer("s", (*netip.Addr)(nil)))
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 2)
	var entry map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &entry))
	delete(entry, "ts")
	require.Equal(t, map[string]any{
		"level": "info", "component": "sip", "msg": "call began", "call_id": "a  b [31m", "error": "bad thing", "from": "192.0.2.1", "n": 1.0,
	}, entry)
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &entry))
	require.LessOrEqual(t, len(entry["long"].(string)), maxField+len("…"))
	require.True(t, utf8.ValidString(entry["long"].(string)))
	require.NotContains(t, out.String(), "\x1b")
}

type failure struct{ text string }

func (f *failure) Error() string { return f.text }

func TestLoggerForATerminal(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger(LogConfig{Level: "debug", Format: "console"}, &out)
	require.NoError(t, err)
	log.Debug("hello\x1b[2J", zap.String("k", "v\n"))
	require.Contains(t, out.String(), "hello [2J")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
}

func TestLoggerRefusesUnknownWords(t *testing.T) {
	_, _, err := NewLogger(LogConfig{Level: "loud"}, &bytes.Buffer{})
	require.EqualError(t, err, `log level "loud" is unknown, write debug, info, warn or error`)
	_, _, err = NewLogger(LogConfig{Level: "info", Format: "xml"}, &bytes.Buffer{})
	require.EqualError(t, err, `log format "xml" is unknown, write json or console`)
}

func TestSlogArrivesInTheLog(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger(LogConfig{Level: "info", Format: "json"}, &out)
	require.NoError(t, err)
	s := Slog(log)
	s.Debug("not seen")
	s.With("transport", "udp").Warn("dropped", "why", "a\nb")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), `"level":"warn"`)
	require.Contains(t, out.String(), `"transport":"udp","why":"a b"`)
}

func TestMask(t *testing.T) {
	for number, want := range map[string]string{
		"":                                "",
		"1":                               "…",
		"1234":                            "…34",
		"+4930567":                        "…67",
		"+491701234567":                   "+49…567",
		"4155550100":                      "415…100",
		"sip:+491701234567@example.com":   "sip:+49…567@example.com",
		"sips:anna@example.com;a=b?c":     "sips:…na@example.com",
		"sip:+491701234567;x=1@10.0.0.1":  "sip:+49…567@10.0.0.1",
		"sip:pbx.example.com":             "sip:pbx.example.com",
		"tel:+491701234567;phone-context": "tel:+49…567",
		"anonymous":                       "ano…ous",
		"a\r\nb@c":                        "…\nb@c",
	} {
		require.Equal(t, Printable(want), Mask(number), number)
	}
}

func TestRegistryHasBuildInfo(t *testing.T) {
	r, err := NewRegistry(Build{Version: "v1", Revision: "abc", Go: "go1.26"})
	require.NoError(t, err)
	families, err := r.Gather()
	require.NoError(t, err)
	shown := map[string]string{}
	for _, f := range families {
		shown[f.GetName()] = fmt.Sprint(f.GetMetric())
	}
	require.Regexp(t, `name:"goversion"\s+value:"go1.26".*name:"revision"\s+value:"abc".*name:"version"\s+value:"v1".*gauge:{value:1}`, shown["ivrbridge_build_info"])
	require.Contains(t, shown, "go_goroutines")
	require.Contains(t, shown, "process_open_fds")
	require.Equal(t, "v2", ReadBuild("v2").Version)
	require.NotEmpty(t, ReadBuild("").Version)
}
