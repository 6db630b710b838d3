package sip

import (
	"context"
	"fmt"

	gosip "github.com/emiago/sipgo/sip"
)

// Probe asks the far end by an OPTIONS within the dialog whether it still knows
// the call. Any answer but 481 and 408 says that it does (RFC 3261 11.2,
// 12.2.1.2); without one the call ends.
func (c *Call) Probe(ctx context.Context) error {
	c.mu.Lock()
	if c.phase != up {
		defer c.mu.Unlock()
		return fmt.Errorf("probe: %w", c.gone())
	}
	c.mu.Unlock()
	both, cancel := c.within(ctx)
	defer cancel()
	res, err := c.do(both, string(gosip.OPTIONS), func(*gosip.Request, uint32) {})
	if err != nil {
		if c.ctx.Err() == nil {
			c.lost(nil, err)
		}
		return fmt.Errorf("probe: %w", err)
	}
	if c.lost(res, nil) {
		return fmt.Errorf("probe: %w", res.status())
	}
	return nil
}
