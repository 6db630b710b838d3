package guard

import (
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// A PanicError is a panic that was caught where it could be survived.
type PanicError struct{ Value any }

// Error describes the panic.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Run calls f and turns a panic in it into a *PanicError, logged with its stack
// under the goroutine's name.
func Run(log *zap.Logger, name string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("goroutine panicked", zap.String("goroutine", name),
				zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = &PanicError{Value: p}
		}
	}()
	f()
	return nil
}
