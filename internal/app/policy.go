package app

import (
	"maps"
	"slices"
	"strings"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/internal/call/machine"
)

// policyOf is what an agent's configuration means to a conversation. An agent
// without a recogniser has no use for speech: only keys interrupt its prompts.
func policyOf(a configs.Agent, hears bool) machine.Policy {
	return machine.Policy{
		NoReply:       a.NoReply,
		MaxNoReplies:  a.MaxNoReplies,
		NoReplyGuard:  a.NoReplyGuard,
		SendUnasked:   a.UnaskedNoReply == "send",
		TurnTimeout:   a.TurnTimeout,
		ThinkingAfter: a.Thinking.After,
		SpeechAhead:   map[string]machine.SpeechAhead{"send": machine.SendAhead}[a.SpeechAhead],
		SpeakChoices:  a.SpeakChoices,
		MinConfidence: a.MinConfidence,
		Intents:       intents(a.Intents),
		BargeIn: machine.BargeIn{
			Speech:       hears && (a.BargeIn.Mode == "both" || a.BargeIn.Mode == "speech"),
			Keys:         a.BargeIn.Mode == "both" || a.BargeIn.Mode == "dtmf",
			MinWords:     a.BargeIn.MinWords,
			Protect:      a.BargeIn.Protect,
			FalseBargeIn: a.BargeIn.FalseBargeIn,
			Skip:         a.BargeIn.Skip,
		},
		Keys: machine.KeyPolicy{
			Max:        a.DTMF.MaxDigits,
			Delimiters: a.DTMF.Delimiter,
			Interdigit: a.DTMF.InterdigitTimeout,
			As:         map[string]machine.KeysAs{"dtmf": machine.AsDTMF, "event": machine.AsEvent, "intent": machine.AsIntent}[a.DTMF.As],
			Typeahead:  map[string]machine.Typeahead{"buffer": machine.Buffer, "drop": machine.Drop}[a.DTMF.Typeahead],
			ChoiceKeys: a.DTMF.ChoiceKeys,
		},
		Keypad:      a.Keypad,
		DialNames:   a.Dial.Actions,
		Answered:    a.Actions.Names,
		DialTimeout: a.Dial.Timeout,
		Fallback:    a.Fallback,
		FailedEvent: a.OnTransferFailed,
		HoldMax:     a.HoldMax,
		MaxDuration: a.Limits.Duration,
		MaxTurns:    a.Limits.Turns,
	}
}

// intents lists the phrases of the configured map, longer ones first, so that
// the closest one is found.
func intents(m map[string]configs.Strings) []machine.Intent {
	var out []machine.Intent
	for _, name := range slices.Sorted(maps.Keys(m)) {
		for _, phrase := range m[name] {
			out = append(out, machine.Intent{Phrase: phrase, Name: name})
		}
	}
	slices.SortStableFunc(out, func(a, b machine.Intent) int {
		return len(strings.Fields(b.Phrase)) - len(strings.Fields(a.Phrase))
	})
	return out
}
