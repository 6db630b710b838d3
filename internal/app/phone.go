package app

import (
	"cmp"
	"context"

	"github.com/ivrbridge/ivrbridge/internal/admin"
	"github.com/ivrbridge/ivrbridge/internal/call"
	"github.com/ivrbridge/ivrbridge/media/rtc"
)

var errEnded = &admin.PhoneError{Status: 404, Code: admin.CodeGone, Reason: "the call is over: call again"}

// Origin implements admin.PhoneSession.
func (ph *phone) Origin() string { return ph.origin }

// Feed implements admin.PhoneSession.
func (ph *phone) Feed() *admin.Feed { return ph.feed }

// over refuses what comes after the end of the call, whose events can still be
// read.
func (ph *phone) over() error {
	if ph.line.Context().Err() == nil {
		return nil
	}
	return errEnded
}

// Reoffer implements admin.PhoneSession.
func (ph *phone) Reoffer(ctx context.Context, sdp string) (string, error) {
	answer, err := ph.line.Negotiate(ctx, sdp)
	if err != nil {
		return "", cmp.Or(ph.over(), refusedOffer(err))
	}
	return answer, nil
}

// Candidates implements admin.PhoneSession.
func (ph *phone) Candidates(_ context.Context, all []admin.Candidate) error {
	if err := ph.over(); err != nil {
		return err
	}
	for _, c := range all {
		if err := ph.line.Candidate(rtc.Candidate{Candidate: c.Candidate, SDPMid: c.SDPMid, SDPMLineIndex: c.SDPMLineIndex}); err != nil { //nolint:contextcheck // the line outlives the request
			return cmp.Or[error](ph.over(), &admin.PhoneError{Status: 400, Code: "bad_offer", Reason: "the candidate cannot be used"})
		}
	}
	return nil
}

// Keys implements admin.PhoneSession.
func (ph *phone) Keys(keys string) error {
	if err := ph.over(); err != nil {
		return err
	}
	for i := range len(keys) {
		ph.line.Digit(keys[i])
	}
	return nil
}

// Type implements admin.PhoneSession.
func (ph *phone) Type(text string) error {
	if err := ph.over(); err != nil {
		return err
	}
	if ph.line.HandedOver() {
		return &admin.PhoneError{Status: 409, Code: "bad_request", Reason: "nobody reads what is written after the hand-over: say it"}
	}
	ph.call.Type(text)
	return nil
}

// Hangup implements admin.PhoneSession.
func (ph *phone) Hangup(why string) {
	ph.line.Leave(call.ClassCallerHangup, cmp.Or(why, "the caller hung up"))
}

// An ended call is what pages still see of one that is over.
type ended struct {
	origin string
	feed   *admin.Feed
}

// Origin implements admin.PhoneSession.
func (e ended) Origin() string { return e.origin }

// Feed implements admin.PhoneSession.
func (e ended) Feed() *admin.Feed { return e.feed }

// Reoffer implements admin.PhoneSession.
func (ended) Reoffer(context.Context, string) (string, error) { return "", errEnded }

// Candidates implements admin.PhoneSession.
func (ended) Candidates(context.Context, []admin.Candidate) error { return errEnded }

// Keys implements admin.PhoneSession.
func (ended) Keys(string) error { return errEnded }

// Type implements admin.PhoneSession.
func (ended) Type(string) error { return errEnded }

// Hangup implements admin.PhoneSession.
func (ended) Hangup(string) {}
