package call

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/call/machine"
	"github.com/ivrbridge/ivrbridge/internal/target"
)

// transfer hands the caller over by REFER: the targets of the action in their
// order, as long as none of them takes the call.
func (c *Call) transfer(ctx context.Context, e machine.Transfer) {
	ctx, cancel := context.WithCancel(ctx)
	c.moves[e.Seq] = cancel
	line, policy, seq := c.line, c.conf.Targets, e.Seq
	headers := maps.Clone(c.headers)
	begun := time.Now()
	c.do("transfer", func() {
		defer cancel()
		done := machine.TransferDone{Seq: seq}
		targets, err := resolve(policy, e)
		if err != nil {
			done.Outcome, done.Cause = machine.Refused, err.Error()
			if re, ok := errors.AsType[*target.RefusedError](err); ok {
				done.Cause, done.Target = string(re.Reason), re.Text
				c.log.Warn("hand-over refused", zap.String("reason", string(re.Reason)), zap.String("why", re.Why))
			}
			c.in.post(time.Now(), Handover{Began: begun, Target: done.Target, Outcome: done.Outcome, Cause: done.Cause})
			c.in.post(time.Now(), done)
			return
		}
		for _, t := range targets {
			c.in.post(time.Now(), machine.TransferProgress{Seq: seq, Limit: t.Timeout, Target: t.URI})
			c.log.Info("hand-over begins", zap.String("target", shown(t)))
			for name, value := range headers {
				if t.Headers == nil {
					t.Headers = map[string]string{}
				}
				t.Headers[name] = value
			}
			told := 0
			h := refer(ctx, line, t, func(status int) {
				if status < 200 && status > told {
					told = status
					c.in.post(time.Now(), machine.TransferProgress{Seq: seq, Target: t.URI, Status: status})
				}
			})
			c.in.post(time.Now(), h)
			done.Outcome, done.Cause, done.Target, done.Took = h.Outcome, h.Cause, h.Target, time.Since(begun)
			c.log.Info("hand-over over", zap.String("target", shown(t)), zap.String("outcome", string(done.Outcome)), zap.String("cause", done.Cause))
			if done.Outcome.Success() || ctx.Err() != nil || line.Context().Err() != nil {
				break
			}
		}
		c.in.post(time.Now(), done)
	})
}

// shown names a target for the log: what the configuration calls it, else what
// allowed it, never the number.
func shown(t target.Target) string { return or(t.Display, t.Why) }

func resolve(p target.Policy, e machine.Transfer) ([]target.Target, error) {
	if e.Fallback {
		to, _ := e.Body["target"].(string)
		return p.Entry(to)
	}
	return target.Resolve(p, e.Payload)
}

// refer makes one attempt. Its outcome is in the words of the conversation.
func refer(ctx context.Context, line Line, t target.Target, progress func(status int)) Handover {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	h := Handover{Began: time.Now(), Target: t.URI, Mode: target.ModeRefer}
	r, err := line.Refer(ctx, Referral{URI: t.URI, Display: t.Display, UUI: t.UUI, Headers: t.Headers}, progress)
	if r.Called {
		h.Mode = target.ModeBridge
	}
	h.Outcome, h.Cause = outcome(r, err)
	h.Status, h.Took = r.Status, time.Since(h.Began)
	return h
}

// outcome reads what became of a REFER (RFC 3515, and Q.850 by status).
func outcome(r Referred, err error) (machine.Outcome, string) {
	cause := strconv.Itoa(r.Status)
	switch {
	case r.Final && r.Status >= 200 && r.Status < 300:
		return machine.Connected, cause
	case r.Accepted && r.Gone && (!r.Final || r.Status < 300):
		// The far end hangs up by itself once the target has answered.
		return machine.Connected, "the far end hung up"
	case r.Accepted && !r.Final:
		return machine.Unconfirmed, "accepted, and no word of its end"
	case r.Gone && r.Status == 0:
		return machine.Unreachable, "the far end hung up"
	case r.Status == 0 && err != nil:
		return machine.Unreachable, "no answer to the transfer request"
	}
	switch r.Status {
	case 486, 600:
		return machine.Busy, cause
	case 408, 480, 487:
		return machine.NoAnswer, cause
	case 403, 603:
		return machine.Declined, cause
	}
	return machine.Unreachable, cause
}
