package line

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/media/dtmf"
	"github.com/ivrbridge/ivrbridge/sip"
)

// serve answers what the far end asks within the dialog, until it is over.
func (l *Line) serve(c *sip.Call) {
	for {
		select {
		case r, ok := <-c.Requests():
			if !ok {
				return
			}
			l.request(r)
		case <-c.Context().Done():
			return
		}
	}
}

func (l *Line) request(r sip.Request) {
	switch r.Method {
	case "INFO":
		digit, held, err := dtmf.ParseINFO(r.ContentType, r.Body)
		switch {
		case errors.Is(err, dtmf.ErrType):
			l.respond(r, 415)
		case err != nil:
			l.conf.Log.Info("info request not understood", zap.Error(err))
			l.respond(r, 400)
		default:
			l.respond(r, 200)
			l.leg.Press(digit, held)
		}
	case "REFER":
		if l.refers == nil {
			l.respond(r, 603)
			return
		}
		select {
		case l.refers <- r:
		default:
			l.respond(r, 491)
		}
	default:
		l.respond(r, 501)
	}
}

func (l *Line) respond(r sip.Request, code int) {
	if err := r.Respond(code, ""); err != nil {
		l.conf.Log.Debug("request not answered", zap.String("method", r.Method), zap.Error(err))
	}
}

// Dial calls somebody: the INVITE goes out with our offer, and the line runs
// when Dial returns. Cancelling ctx gives the attempt up.
func Dial(ctx context.Context, s *sip.Server, conf Config, sink Sink, r sip.InviteRequest) (*Line, error) {
	l, err := New(conf, sink)
	if err != nil {
		return nil, err
	}
	return l, l.Dial(ctx, s, r)
}

// Dial is the second half of the function Dial, for a line made by New.
func (l *Line) Dial(ctx context.Context, s *sip.Server, r sip.InviteRequest) error {
	c, err := s.Invite(ctx, r, negotiator{l})
	if err != nil {
		l.Close()
		return err
	}
	l.Bind(c) //nolint:contextcheck // the line lives as long as its call, not as the dialling
	return nil
}
