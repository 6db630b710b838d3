package app

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/dialog"
)

// Unavailable lists what a configuration asks for that this version cannot do,
// one sentence each. Nothing that was asked for is left out in silence.
func Unavailable(c *configs.Config) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, l := range c.SIP.Listen {
		if l.Transport == "tls" {
			say("sip.listen: %s is not available yet, write udp://, tcp://, ws:// or wss://", l)
		}
	}
	if c.SIP.ExternalIP.Auto {
		say("sip.external_ip: auto is not available yet, write the address")
	}
	for i, t := range c.Trunks {
		at := fmt.Sprintf("trunks[%d] (%s)", i, t.Name)
		if t.ExternalIP.Auto {
			say("%s.external_ip: auto is not available yet, write the address", at)
		}
		if t.SRTP != "off" {
			say("%s.srtp: %s is not available yet, write off", at, t.SRTP)
		}
		if t.Register.Registrar != "" {
			say("%s.register: registration is not available yet, list the carrier's networks in peers", at)
		}
		if !slices.Contains(t.Transfer, "refer") {
			say("%s.transfer: only refer is available yet", at)
		}
		if len(t.Users) > 0 {
			say("%s.users: asking callers for a password is not available yet, list their networks in peers", at)
		}
	}
	for i, a := range c.Agents {
		at := fmt.Sprintf("agents[%d] (%s)", i, a.Name)
		if api := a.Voiceflow.API; !slices.Contains(dialog.Generations(), api) {
			say("%s.voiceflow.api: %s is not available yet, write one of %s", at, api, strings.Join(dialog.Generations(), ", "))
		} else if a.TTS.Provider == configs.KindVoiceflow && !dialog.HasVoice(api) {
			say("%s.tts.provider: voiceflow has no voice over api %s, write dm or dm-stream there, or another voice here", at, api)
		}
		if a.Prompts.Consent != (configs.Prompt{}) {
			say("%s.prompts.consent: recording is not available yet", at)
		}
		if a.Actions.URL != "" {
			say("%s.actions.url: the webhook is not available yet; custom actions of others take their default path", at)
		}
		if a.Limits.PerCaller.Limited() {
			say("%s.limits.per_caller is not available yet", at)
		}
	}
	return out
}
