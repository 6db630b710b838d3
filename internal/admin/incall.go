package admin

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// inCall finds the call of a key. Who has the key may steer it, from the page
// that began it.
func (s *server) inCall(h func(http.ResponseWriter, *http.Request, PhoneSession) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		key := r.PathValue("session")
		var p PhoneSession
		ok := key != "" && len(key) <= maxKey
		if ok {
			p, ok = s.Phone.Session(key)
		}
		if !ok {
			return &PhoneError{Status: http.StatusNotFound, Code: CodeGone, Reason: "there is no such call, or it is over: call again"}
		}
		if len(r.Header["Origin"]) > 0 && origin(r) != p.Origin() {
			return &PhoneError{Status: http.StatusForbidden, Code: CodeOrigin, Reason: "the call belongs to a page of another site"}
		}
		return h(w, r, p)
	}
}

func reoffer(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	var wish struct {
		SDP string `json:"sdp"`
	}
	if err := decode(r, &wish, CodeBadOffer); err != nil {
		return err
	}
	if strings.TrimSpace(wish.SDP) == "" {
		return bad(CodeBadOffer, "sdp is missing: send the offer of the browser")
	}
	sdp, err := p.Reoffer(r.Context(), wish.SDP)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, map[string]string{"sdp": sdp})
	return nil
}

// A sentCandidate is what browsers make of a candidate themselves.
type sentCandidate struct {
	Candidate
	UsernameFragment *string `json:"usernameFragment"` // stands in the candidate too
}

func candidates(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	var wish struct {
		Candidates []sentCandidate `json:"candidates"`
	}
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	if len(wish.Candidates) > maxCandidates {
		return bad(CodeBadRequest, "there are more than %d candidates: send fewer", maxCandidates)
	}
	list := make([]Candidate, len(wish.Candidates))
	for i, sent := range wish.Candidates {
		c := sent.Candidate
		if len(c.Candidate) > 1024 || c.SDPMid != nil && len(*c.SDPMid) > 64 || strings.ContainsAny(c.Candidate, "\r\n") {
			return bad(CodeBadRequest, "a candidate is not as browsers write it")
		}
		list[i] = c
	}
	if err := p.Candidates(r.Context(), list); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func keys(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	var wish struct {
		Keys string `json:"keys"`
	}
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	wish.Keys = strings.ToUpper(wish.Keys)
	if wish.Keys == "" || len(wish.Keys) > maxKeys || strings.Trim(wish.Keys, "0123456789*#ABCD") != "" {
		return bad(CodeBadRequest, "keys are 1 to %d of 0 to 9, *, # and A to D", maxKeys)
	}
	return accepted(w, p.Keys(wish.Keys))
}

func text(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	var wish struct {
		Text string `json:"text"`
	}
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		return err
	}
	wish.Text = strings.TrimSpace(strings.Map(spaced, wish.Text))
	if wish.Text == "" || utf8.RuneCountInString(wish.Text) > maxText {
		return bad(CodeBadRequest, "text is 1 to %d characters", maxText)
	}
	return accepted(w, p.Type(wish.Text))
}

// spaced takes control characters out of what the caller wrote: flows, records
// and terminals have no use for them.
func spaced(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

// hangup ends a call whatever the body is: a page that closes sends it as a
// beacon, and has no second try.
func hangup(w http.ResponseWriter, r *http.Request, p PhoneSession) error {
	var wish struct {
		Why string `json:"why"`
	}
	r.Header.Set("Content-Type", "application/json")
	if err := decode(r, &wish, CodeBadRequest); err != nil {
		wish.Why = ""
	}
	p.Hangup(clip(strings.TrimSpace(wish.Why), 200))
	return accepted(w, nil)
}

func accepted(w http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	answer(w, http.StatusAccepted, map[string]string{"status": "ok"})
	return nil
}
