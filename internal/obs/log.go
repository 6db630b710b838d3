// Package obs makes what operators look at: the log and the registry of metrics.
//
// It is the one place that knows how they are set up. Nothing in it is global:
// the program makes them once and passes them on. It knows nothing of calls.
package obs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string // debug, info, warn or error
	Format string // json, or console for a terminal
}

// maxField is the longest text of a field, in bytes: what comes from outside
// must not fill the disk (CWE-117, CWE-779).
const maxField = 1 << 10

// NewLogger returns a logger that writes one line per entry to w, and the level
// that changes it while it runs. Writes are serialised.
func NewLogger(c LogConfig, w io.Writer) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log level %q is unknown, write debug, info, warn or error", c.Level)
	}
	e := zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", NameKey: "component", MessageKey: "msg", StacktraceKey: "stack",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	}
	var encoder zapcore.Encoder
	switch c.Format {
	case "json", "":
		encoder = zapcore.NewJSONEncoder(e)
	case "console":
		e.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(e)
	default:
		return nil, level, fmt.Errorf("log format %q is unknown, write json or console", c.Format)
	}
	core := bounded{zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)}
	return zap.New(core, zap.AddStacktrace(zapcore.DPanicLevel)), level, nil
}

// Slog returns a handler that writes to l, for libraries that log by slog.
func Slog(l *zap.Logger) *slog.Logger { return slog.New(zapslog.NewHandler(l.Core())) }

// A bounded core cuts long texts and takes control characters out of them, so
// that no field breaks a line or moves a terminal's cursor.
type bounded struct{ zapcore.Core }

func (b bounded) With(fields []zapcore.Field) zapcore.Core {
	return bounded{b.Core.With(clean(fields))}
}

func (b bounded) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

func (b bounded) Write(e zapcore.Entry, fields []zapcore.Field) error {
	e.Message = Printable(e.Message)
	return b.Core.Write(e, clean(fields))
}

// clean returns the fields with printable texts, and the given slice when there
// was nothing to do.
func clean(fields []zapcore.Field) []zapcore.Field {
	var out []zapcore.Field
	for i, f := range fields {
		var text string
		switch f.Type {
		case zapcore.StringType:
			text = f.String
		case zapcore.ErrorType:
			err, ok := f.Interface.(error)
			if !ok || err == nil {
				continue
			}
			text = errorText(err)
		case zapcore.StringerType:
			s, ok := f.Interface.(fmt.Stringer)
			if !ok {
				continue
			}
			text = stringerText(s)
		default:
			continue
		}
		shown := Printable(text)
		if shown == f.String && f.Type == zapcore.StringType {
			continue
		}
		if out == nil {
			out = append(out, fields...)
		}
		out[i] = zap.String(f.Key, shown)
	}
	if out == nil {
		return fields
	}
	return out
}

// errorText and stringerText keep the log going when a nil pointer hides behind
// the interface.
func errorText(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "<nil>"
		}
	}()
	return err.Error()
}

func stringerText(s fmt.Stringer) (text string) {
	defer func() {
		if recover() != nil {
			text = "<nil>"
		}
	}()
	return s.String()
}

// Printable returns s with control characters replaced by blanks, cut to 1 KiB.
func Printable(s string) string {
	if len(s) > maxField {
		cut := maxField
		for cut > maxField-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	bad := func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e'
	}
	if !strings.ContainsFunc(s, bad) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return ' '
		}
		return r
	}, s)
}
