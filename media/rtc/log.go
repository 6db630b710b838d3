package rtc

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/logging"
	"go.uber.org/zap"
)

// quietTime is between two warnings of the same part of the connection.
const quietTime = 10 * time.Second

// The ports of all peers.
const (
	scopeUDP = "udp"
	scopeTCP = "tcp"
)

// A logFactory gives the parts of a peer connection their loggers.
type logFactory struct {
	log *zap.Logger

	mu     sync.Mutex
	warned map[string]time.Time
}

func newLogFactory(log *zap.Logger) *logFactory {
	return &logFactory{log: log, warned: map[string]time.Time{}}
}

// NewLogger implements [logging.LoggerFactory].
func (f *logFactory) NewLogger(scope string) logging.LeveledLogger {
	loud := scope == scopeUDP || scope == scopeTCP
	return &scoped{factory: f, scope: scope, loud: loud, log: f.log.With(zap.String("part", scope))}
}

// due reports whether a part may warn again.
func (f *logFactory) due(scope string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.warned[scope]) < quietTime {
		return false
	}
	f.warned[scope] = now
	return true
}

// A scoped logger takes the messages of one part. They are about single packets,
// name addresses of browsers, and a stranger can cause any number of them: they
// are for debugging. What the ports of all peers call an error is told now and
// then, without the addresses in it.
type scoped struct {
	factory *logFactory
	scope   string
	loud    bool
	log     *zap.Logger
}

func (s *scoped) debug(text func() string) {
	if e := s.log.Check(zap.DebugLevel, "peer connection says"); e != nil {
		e.Write(zap.String("message", text()))
	}
}

func (s *scoped) fail(kind string, text func() string) {
	s.debug(text)
	if s.loud && s.factory.due(s.scope) {
		s.log.Warn("peer connection reports an error", zap.String("kind", kind))
	}
}

// Trace implements [logging.LeveledLogger].
func (s *scoped) Trace(string) {}

// Tracef implements [logging.LeveledLogger].
func (s *scoped) Tracef(string, ...any) {}

// Debug implements [logging.LeveledLogger].
func (s *scoped) Debug(string) {}

// Debugf implements [logging.LeveledLogger].
func (s *scoped) Debugf(string, ...any) {}

// Info implements [logging.LeveledLogger].
func (s *scoped) Info(m string) { s.debug(func() string { return m }) }

// Infof implements [logging.LeveledLogger].
func (s *scoped) Infof(format string, args ...any) {
	s.debug(func() string { return fmt.Sprintf(format, args...) })
}

// Warn implements [logging.LeveledLogger].
func (s *scoped) Warn(m string) { s.debug(func() string { return m }) }

// Warnf implements [logging.LeveledLogger].
func (s *scoped) Warnf(format string, args ...any) { s.Infof(format, args...) }

// Error implements [logging.LeveledLogger].
func (s *scoped) Error(m string) { s.fail("plain", func() string { return m }) }

// Errorf implements [logging.LeveledLogger].
func (s *scoped) Errorf(format string, args ...any) {
	s.fail(format, func() string { return fmt.Sprintf(format, args...) })
}
