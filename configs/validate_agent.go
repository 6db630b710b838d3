package configs

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/target"
)

var (
	languagePattern = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	headerPattern   = regexp.MustCompile("^[A-Za-z0-9.!%*_+`'~-]+$") // RFC 3261 section 25.1, token
)

func (v *validator) agent(path string, a *Agent) {
	at := func(key string) string { return join(path, key) }
	v.voiceflow(at("voiceflow"), a.Voiceflow)
	v.adapters(at("asr"), KindASR, a.ASR)
	v.adapters(at("tts"), KindTTS, a.TTS)
	if !languagePattern.MatchString(a.Language) {
		v.fail(at("language"), "%q is no language, write such as en-US", a.Language)
	}
	for i, h := range a.Headers {
		if !headerPattern.MatchString(h) {
			v.fail(index(at("headers"), i), "%q is no name of a SIP header", h)
		}
	}
	v.between(at("no_reply"), a.NoReply, time.Second, 10*time.Minute)
	v.atLeast(at("max_no_replies"), a.MaxNoReplies, 1)
	v.atLeast(at("no_reply_guard"), a.NoReplyGuard, 1)
	v.between(at("turn_timeout"), a.TurnTimeout, time.Second, 2*time.Minute)
	if a.Thinking.After <= 0 || a.Thinking.After >= a.TurnTimeout {
		v.fail(at("thinking.after"), "%s is not between 0 and turn_timeout %s", a.Thinking.After, a.TurnTimeout)
	} else if a.Thinking.After > 2*time.Second {
		v.warn(at("thinking.after"), "callers hear nothing for %s, more than 2s is long", a.Thinking.After)
	}
	if !(a.MinConfidence >= 0 && a.MinConfidence <= 1) {
		v.fail(at("min_confidence"), "%g is not between 0 and 1", a.MinConfidence)
	}
	v.between(at("hold_max"), a.HoldMax, time.Second, 24*time.Hour)
	v.bargeIn(at("barge_in"), a.BargeIn)
	v.dtmf(path, a)
	v.actions(at("actions"), a.Actions)
	v.dial(path, a)
	v.prompts(at("prompts"), a.Prompts)
	v.between(at("limits.duration"), a.Limits.Duration, 0, 24*time.Hour)
	v.atLeast(at("limits.turns"), a.Limits.Turns, 0)
	v.atLeast(at("limits.calls"), a.Limits.Calls, 0)
	v.origins(at("web.origins"), a.Web.Origins)
	for i, l := range a.Web.Languages {
		if !languagePattern.MatchString(l) {
			v.fail(index(at("web.languages"), i), "%q is no language, write such as de-DE", l)
		}
	}
	v.distinct(at("web.languages"), a.Web.Languages)
}

func (v *validator) voiceflow(path string, f Voiceflow) {
	v.address(join(path, "url"), f.URL, "http", "https")
	if !f.APIKey.Set() {
		v.fail(join(path, "api_key"), "is missing, write env:VOICEFLOW_API_KEY")
	}
	if f.API != "dm" && f.Project == "" {
		v.fail(join(path, "project"), "is missing: api %s needs the project's id", f.API)
	}
	if f.Environment == "" {
		v.fail(join(path, "environment"), "is empty, write auto, production, development, staging, main or an id")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Variables)) {
		if !variablePattern.MatchString(name) {
			v.fail(join(join(path, "variables"), name), "is no name of a variable: write letters, digits and _")
		}
		if !variablePattern.MatchString(f.Variables[name]) {
			v.fail(join(join(path, "variables"), name), "%q is no name of a variable: write one of the bridge's, such as caller_number", f.Variables[name])
		}
	}
	v.runtime(path, f)
}

// runtime checks the block through the hook. What is reported already is not
// reported again.
func (v *validator) runtime(path string, f Voiceflow) {
	if v.check == nil {
		return
	}
	for _, err := range each(v.check(KindVoiceflow, f.API, f.decode)) {
		at, message := path, err.Error()
		if key, rest, ok := strings.Cut(message, ": "); ok && variablePattern.MatchString(key) {
			at, message = join(path, key), rest
		}
		if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Path == at && p.Severity == Error }) {
			v.fail(at, "%s", message)
		}
	}
}

// decode is a registry.Decode: it fills the fields of a struct that have the same
// key and type.
func (f Voiceflow) decode(into any) error {
	to := reflect.ValueOf(into)
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decode voiceflow: %T is no pointer to a struct", into)
	}
	from := reflect.ValueOf(f)
	for i := range from.NumField() {
		for j := range to.Elem().NumField() {
			key := from.Type().Field(i).Tag.Get("yaml")
			if field := to.Elem().Type().Field(j); field.IsExported() && field.Tag.Get("yaml") == key && field.Type == from.Field(i).Type() {
				to.Elem().Field(j).Set(from.Field(i))
			}
		}
	}
	return nil
}

// adapters checks an adapter and its fallbacks through the hook.
func (v *validator) adapters(path, kind string, a Adapter) {
	for i, b := range a.All() {
		at := path
		if i > 0 {
			at = index(join(path, "fallback"), i-1)
		}
		if b.path == "" {
			b.path = at
		}
		if kind == KindASR && b.Provider == None {
			if len(b.Settings()) > 0 {
				v.warn(at, "settings of provider none are not used")
			}
			continue
		}
		if b.Provider == "" {
			v.fail(join(at, "provider"), "is missing")
			continue
		}
		if v.check == nil {
			continue
		}
		for _, err := range each(v.check(kind, b.Provider, b.Decode())) {
			if invalid, ok := errors.AsType[*InvalidError](err); ok {
				v.problems = append(v.problems, invalid.Problems...)
				continue
			}
			v.fail(at, "%v", err)
		}
	}
}

// each returns the errors that were joined, or the one that there is.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (v *validator) bargeIn(path string, b BargeIn) {
	v.between(join(path, "min_speech"), b.MinSpeech, 20*time.Millisecond, 5*time.Second)
	v.atLeast(join(path, "min_words"), b.MinWords, 0)
	v.between(join(path, "protect"), b.Protect, 0, time.Minute)
	v.between(join(path, "false_barge_in"), b.FalseBargeIn, 100*time.Millisecond, 10*time.Second)
}

func (v *validator) dtmf(path string, a *Agent) {
	at := join(path, "dtmf")
	if a.DTMF.MaxDigits < 1 || a.DTMF.MaxDigits > 128 {
		v.fail(at+".max_digits", "%d is not between 1 and 128", a.DTMF.MaxDigits)
	}
	if strings.Trim(a.DTMF.Delimiter, "*#") != "" || len(a.DTMF.Delimiter) > 2 {
		v.fail(at+".delimiter", "%q is no delimiter, write #, *, \"*#\" or \"\"", a.DTMF.Delimiter)
	}
	v.between(at+".interdigit_timeout", a.DTMF.InterdigitTimeout, 100*time.Millisecond, time.Minute)
	if a.DTMF.As == "intent" && len(a.Keypad) == 0 {
		v.warn(join(path, "keypad"), "is empty: dtmf.as intent sends every entry as text")
	}
	for _, entry := range slices.Sorted(maps.Keys(a.Keypad)) {
		if entry == "" || strings.Trim(entry, "0123456789*#ABCD") != "" {
			v.fail(join(join(path, "keypad"), entry), "is no entry of keys")
		}
		if a.Keypad[entry] == "" {
			v.fail(join(join(path, "keypad"), entry), "names no intent")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Intents)) {
		if len(a.Intents[name]) == 0 || slices.Contains(a.Intents[name], "") {
			v.fail(join(join(path, "intents"), name), "has an empty phrase")
		}
	}
}

func (v *validator) actions(path string, a Actions) {
	if a.URL == "" {
		if len(a.Names) > 0 || a.Secret.Set() {
			v.warn(path, "is not used without url: waiting actions take their default path")
		}
		return
	}
	v.address(join(path, "url"), a.URL, "http", "https")
	if !a.Secret.Set() {
		v.warn(join(path, "secret"), "is missing: the webhook cannot tell who calls it")
	}
}

func (v *validator) dial(path string, a *Agent) {
	at := join(path, "dial")
	folded := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Dial.Directory)) {
		entry := join(at+".directory", name)
		if other, dup := folded[strings.ToLower(name)]; dup {
			v.warn(entry, "differs from %s by case alone: agents that write it otherwise get %s", other, other)
		}
		folded[strings.ToLower(name)] = name
		if len(a.Dial.Directory[name]) == 0 {
			v.fail(entry, "has no target")
		}
		for _, t := range a.Dial.Directory[name] {
			v.check1(entry, target.CheckTarget(t))
		}
	}
	for i, entry := range a.Dial.Allow {
		v.check1(index(at+".allow", i), target.Check(entry))
	}
	for i, code := range a.Dial.Countries {
		v.check1(index(at+".countries", i), target.CheckRegion(code))
	}
	v.between(at+".timeout", a.Dial.Timeout, time.Second, target.MaxTimeout)
	if a.Fallback == "" {
		return
	}
	if _, listed := a.Dial.Directory[a.Fallback]; !listed && target.CheckTarget(a.Fallback) != nil {
		v.unknownFallback(join(path, "fallback"), a)
	}
}

func (v *validator) unknownFallback(path string, a *Agent) {
	known := slices.Sorted(maps.Keys(a.Dial.Directory))
	if near := nearest(a.Fallback, known); near != "" {
		v.fail(path, "%q is not in dial.directory, write %s", a.Fallback, near)
		return
	}
	v.fail(path, "%q is neither in dial.directory nor a number nor a SIP URI", a.Fallback)
}

func (v *validator) prompts(path string, p Prompts) {
	for name, prompt := range map[string]Prompt{
		"apology": p.Apology, "goodbye": p.Goodbye, "filler": p.Filler, "hold": p.Hold,
		"transfer_failed": p.TransferFailed, "closed": p.Closed, "limit": p.Limit, "consent": p.Consent,
	} {
		at := join(path, name)
		if prompt.Text != "" && prompt.File != "" {
			v.fail(at, "has text and file, write one of them")
		}
		v.file(at+".file", prompt.File)
	}
}

// address checks the URL of a service, and warns where a key would travel in
// clear.
func (v *validator) address(path, s string, schemes ...string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		v.fail(path, "%q is no address, write such as %s://host", s, schemes[len(schemes)-1])
		return
	}
	if u.User != nil {
		v.fail(path, "contains a user, keys have keys of their own")
		return
	}
	addr, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && (addr.IsLoopback() || addr.IsPrivate())
	if u.Scheme == "http" && !local {
		v.warn(path, "the key travels in clear, write https")
	}
}
