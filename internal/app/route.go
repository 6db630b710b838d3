package app

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"sync"
	"time"

	"github.com/nyaruka/phonenumbers"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call"
)

// e164 brings a number to its international form where it is one of the region;
// anything else stays as it came.
func e164(number, region string) string {
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-. ()/", r) {
			return -1
		}
		return r
	}, number)
	if digits == "" || strings.Trim(digits, "+0123456789") != "" {
		return number
	}
	n, err := phonenumbers.Parse(digits, region)
	if err != nil || !phonenumbers.IsPossibleNumber(n) || len(digits) < 7 {
		return digits
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// randomID returns an opaque id of 26 characters.
func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return lower32.EncodeToString(b)
}

// sessions names the conversations at Voiceflow. With memory between calls a
// caller has the same name each time, unless another of his calls is up.
type sessions struct {
	mu   sync.Mutex
	live map[string]bool
}

// name returns the id of a call's conversation and what gives it free again.
func (s *sessions) name(a configs.Agent, in call.Info, trusted bool) (id string, release func()) {
	fresh := func() {}
	if a.Voiceflow.Session != "caller" || !trusted || in.Anonymous || len(strings.TrimPrefix(in.Caller, "+")) < 7 || in.Caller == in.Called {
		return randomID(), fresh
	}
	h := hmac.New(sha256.New, []byte(a.Voiceflow.APIKey.Reveal()))
	_, _ = h.Write([]byte(a.Name + "\x00" + in.Trunk + "\x00" + in.Caller))
	id = lower32.EncodeToString(h.Sum(nil))[:26]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[id] {
		return randomID(), fresh
	}
	if s.live == nil {
		s.live = map[string]bool{}
	}
	s.live[id] = true
	return id, func() {
		s.mu.Lock()
		delete(s.live, id)
		s.mu.Unlock()
	}
}

// variables are what the flow is given at launch: the names never change, and
// those that come later are there from the start.
func variables(a configs.Agent, in call.Info, now time.Time) map[string]any {
	v := map[string]any{
		"caller_number": in.Caller, "caller_name": in.Name, "caller_anonymous": in.Anonymous,
		"called_number": in.Called, "call_id": in.ID, "call_direction": in.Direction, "trunk": in.Trunk,
		"diverted_from": in.Diverted, "uui": in.UUI, "language": in.Language, "local_time": now.Format(time.RFC3339),
		"input_type": "", "confidence": 0, "heard_until": "", "transfer_outcome": "", "transfer_cause": "",
		"transfer_target": "", "transfer_seconds": 0, "recording_url": "", "collected_digits": "",
	}
	for _, h := range a.Headers {
		name := strings.ToLower(h)
		v["sip_"+strings.NewReplacer("-", "_").Replace(name)] = in.Headers[name]
	}
	for to, from := range a.Voiceflow.Variables {
		if value, ok := v[from]; ok {
			v[to] = value
		}
	}
	return v
}

// launchPayload is what Voiceflow's own telephone channel sends.
func launchPayload(in call.Info) map[string]any {
	return map[string]any{"callType": in.Direction, "userNumber": in.Caller, "agentNumber": in.Called}
}
