package dialog

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"time"
)

// A Kind says what a trace means on a call.
type Kind uint8

// The kinds of steps.
const (
	KindIgnore     Kind = iota // nothing that a caller could notice
	KindSpeak                  // Text is said; where Src is set, it is that text already spoken
	KindAudio                  // Src is played; Text, where there is one, is said after it
	KindCard                   // Text is said, Buttons as those of a choice
	KindChoice                 // Buttons: what the caller may choose
	KindNoReply                // the caller has Timeout to answer; 0 when the trace names none
	KindDTMF                   // DTMF: how keys are collected from now on
	KindAction                 // custom action Name with Payload, Paths, DefaultPath
	KindForward                // Voiceflow's own call forwarding: Forward
	KindHandoff                // a human is asked for in chat terms; Text is its message
	KindStream                 // long audio from Src; State is PLAY, LOOP, PAUSE, END
	KindChunk                  // streamed audio: State start, content (Src is a data: URI), end
	KindCompletion             // streamed words: State start, content (Text), end
	KindEntity                 // what comes next fills the entity Name
	KindDebug                  // Text is for the log alone
	KindEnd                    // the conversation is over
)

// kindNames are for logs and metrics.
var kindNames = [...]string{
	"ignore", "speak", "audio", "card", "choice", "no_reply", "dtmf", "action", "forward",
	"handoff", "stream", "chunk", "completion", "entity", "debug", "end",
}

// String returns the kind's name in snake case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// The states of what comes in pieces: streamed words and streamed sound.
const (
	stateStart   = "start"
	stateContent = "content"
	stateEnd     = "end"
)

// A Step is a trace understood. Kind says which fields count.
type Step struct {
	Kind    Kind
	Type    string        // the trace's own type
	Text    string        // as the agent wrote it: see SSML
	SSML    bool          // Text is a fragment of SSML, else plain text or Markdown
	Prompt  bool          // Text asks for a missing entity
	Src     string        // an http, https or data URI of audio, or ""
	Loop    bool          // KindStream: begin again at the end
	State   string        // KindStream, KindChunk, KindCompletion
	Voice   string        // the voice that the agent names
	Buttons []Button      // KindChoice, KindCard
	Timeout time.Duration // KindNoReply
	DTMF    DTMFSettings  // KindDTMF
	Forward Forward       // KindForward

	Name        string          // KindAction: the action; KindEntity: the entity
	Payload     json.RawMessage // KindAction: see Object and Scalar
	Paths       []Path          // KindAction
	DefaultPath int             // index into Paths, -1 for none
}

// A Button is one choice. Request goes back verbatim, see Press; it is valid
// JSON of an object with a type.
type Button struct {
	Name    string
	Request json.RawMessage
}

// DTMFSettings says how keys are collected.
type DTMFSettings struct {
	Enabled   bool
	Timeout   time.Duration // after the last key; 0: only a delimiter or MaxDigits ends an entry
	Delimiter string        // any of "#*"
	MaxDigits int           // 0 when the trace names none
}

// Forward is a call forwarding as Voiceflow's own step describes it.
type Forward struct {
	SIP       bool   // Address is a SIP URI, else a telephone number
	Address   string // as it came: nothing is checked here
	Extension string // keys for the far end after its answer: w 0.5 s, W 1 s, p 0.5 s
	CallerID  bool   // show the caller's number
}

// ignored are the types of traces that mean nothing on a call.
var ignored = map[string]bool{
	"": true, "visual": true, "path": true, "goto": true, "flow": true, "block": true, "log": true,
	"knowledgeBase": true, "channel-action": true, "reasoning": true, "tool-call": true,
	"realtime-agent": true, "state": true, "session": true,
}

// Interpret says what t means on a call. It accepts anything: what it cannot use
// of a known type becomes KindIgnore, an unknown type is a custom action.
func Interpret(t Trace) Step {
	s := Step{Type: t.Type, DefaultPath: -1}
	if len(t.Paths) > 0 && t.Type != "" && !spoken[t.Type] {
		return action(s, t)
	}
	f, known := readers[t.Type]
	if known {
		f(&s, members(t.Payload), t.Payload)
		return s
	}
	if ignored[t.Type] {
		return s
	}
	return action(s, t)
}

func action(s Step, t Trace) Step {
	s.Kind, s.Name, s.Payload, s.Paths = KindAction, t.Type, t.Payload, t.Paths
	if t.DefaultPath != nil && *t.DefaultPath >= 0 && *t.DefaultPath < len(t.Paths) {
		s.DefaultPath = *t.DefaultPath
	}
	return s
}

// spoken are the types that no custom action can take the name of.
var spoken = map[string]bool{"speak": true, "text": true, "choice": true, "no-reply": true, "end": true}

// object is a payload of members in their raw form, so that one of the wrong
// type spoils nothing else. It is nil when the payload is no object.
type object map[string]json.RawMessage

func members(raw json.RawMessage) object {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return nil
	}
	return o
}

func (o object) str(key string) string { return stringOf(o[key]) }

func (o object) flag(key string) bool {
	var b bool
	return json.Unmarshal(o[key], &b) == nil && b
}

// seconds reads a number of seconds, fractions allowed, between 0 and a day.
func (o object) seconds(key string) time.Duration {
	f, ok := numberOf(o[key])
	if !ok || f <= 0 {
		return 0
	}
	return time.Duration(math.Min(f, 86400) * float64(time.Second))
}

// readers fill a step from a payload. They are given the payload as members and
// as it came.
var readers = map[string]func(*Step, object, json.RawMessage){
	"speak":               readSpeak,
	"text":                readText,
	"audio":               readAudio,
	"choice":              readChoice,
	"no-reply":            func(s *Step, o object, _ json.RawMessage) { s.Kind, s.Timeout = KindNoReply, o.seconds("timeout") },
	"cardV2":              func(s *Step, o object, _ json.RawMessage) { readCards(s, []object{o}) },
	"card":                func(s *Step, o object, _ json.RawMessage) { readCards(s, []object{o}) },
	"carousel":            readCarousel,
	"dtmf":                readDTMF,
	"call-forward":        readForward,
	"live-agent-handoff":  readHandoff,
	"stream":              readStream,
	"entity-filling":      readEntity,
	"completion":          readCompletion,
	"completion-start":    oldCompletion(stateStart),
	"completion-continue": oldCompletion(stateContent),
	"completion-end":      oldCompletion(stateEnd),
	"debug":               func(s *Step, o object, _ json.RawMessage) { s.Kind, s.Text = KindDebug, o.str("message") },
	"end":                 func(s *Step, _ object, _ json.RawMessage) { s.Kind = KindEnd },
}

func readSpeak(s *Step, o object, raw json.RawMessage) {
	s.Text, s.SSML, s.Voice = o.str("message"), true, o.str("voice")
	if o == nil {
		s.Text = stringOf(raw)
	}
	if m := voiceTag.FindStringSubmatch(s.Text); m != nil && s.Voice == "" {
		s.Voice = m[1]
	}
	s.Src, s.Prompt = playable(o.str("src")), o.flag("isPrompt")
	s.Kind = KindSpeak
	if o.str("type") == "audio" {
		s.Kind = KindAudio
		before, src, after := cutAudio(s.Text)
		s.Text = after
		if strings.TrimSpace(before) != "" {
			s.Text = before + after
		}
		if s.Src == "" {
			s.Src = src
		}
	}
	settle(s)
}

// voiceTag is the voice that a whole message is wrapped in.
var voiceTag = regexp.MustCompile(`(?is)^\s*(?:<speak[^>]*>\s*)?<voice\s[^>]*?\bname\s*=\s*["']([^"'<>]{1,100})["']`)

// settle turns a step to be heard into what is left of it.
func settle(s *Step) {
	if strings.TrimSpace(s.Text) == "" {
		s.Text = ""
	}
	switch {
	case s.Src == "" && s.Text == "":
		s.Kind = KindIgnore
	case s.Src == "" && s.Kind == KindAudio:
		s.Kind = KindSpeak
	case s.Text == "" && s.Kind == KindSpeak:
		s.Kind = KindAudio
	}
}

func readText(s *Step, o object, raw json.RawMessage) {
	s.Kind, s.Text, s.Voice = KindSpeak, o.str("message"), o.str("voice")
	if o == nil {
		s.Text = stringOf(raw)
	}
	if s.Text == "" {
		s.Text = slate(members(o["slate"])["content"])
	}
	s.Src = playable(members(o["audio"]).str("src"))
	settle(s)
}

// slate joins the rich text of a chat message: a list of lines, each with
// children that hold text or are lines themselves.
func slate(raw json.RawMessage) string {
	var lines []json.RawMessage
	if json.Unmarshal(raw, &lines) != nil {
		return ""
	}
	var out []string
	for _, l := range lines {
		if t := strings.TrimSpace(slateLine(l, 8)); t != "" {
			out = append(out, t)
		}
	}
	return strings.Join(out, "\n")
}

func slateLine(raw json.RawMessage, depth int) string {
	o := members(raw)
	var b strings.Builder
	b.WriteString(o.str("text"))
	var children []json.RawMessage
	if depth > 0 && json.Unmarshal(o["children"], &children) == nil {
		for _, c := range children {
			b.WriteString(slateLine(c, depth-1))
		}
	}
	return b.String()
}

func readAudio(s *Step, o object, _ json.RawMessage) {
	if src := playable(o.str("src")); src != "" {
		s.Kind, s.Src = KindAudio, src
		return
	}
	switch s.State = o.str("state"); s.State {
	case stateStart, stateEnd:
		s.Kind = KindChunk
	case stateContent:
		content := o.str("content")
		encoding := o.str("encoding")
		if encoding == "" {
			encoding = "audio/mp3"
		}
		if content != "" {
			s.Kind, s.Src = KindChunk, "data:"+encoding+";base64,"+content
		}
	}
}

func readStream(s *Step, o object, _ json.RawMessage) {
	s.Src, s.State = playable(o.str("src")), o.str("action")
	s.Loop = o.flag("loop") || s.State == "LOOP"
	if s.Src != "" || s.State == "PAUSE" || s.State == "END" {
		s.Kind = KindStream
	}
}

func readCompletion(s *Step, o object, _ json.RawMessage) {
	s.State, s.Text = o.str("state"), o.str("content")
	switch s.State {
	case stateStart, stateContent, stateEnd:
		s.Kind = KindCompletion
	}
}

func oldCompletion(state string) func(*Step, object, json.RawMessage) {
	return func(s *Step, o object, _ json.RawMessage) {
		s.Kind, s.State, s.Text = KindCompletion, state, o.str("completion")
		s.SSML = o.str("type") == "speak"
	}
}

func readDTMF(s *Step, o object, _ json.RawMessage) {
	if o == nil {
		return
	}
	s.Kind = KindDTMF
	s.DTMF.Enabled = o["enabled"] == nil || o.flag("enabled")
	s.DTMF.Timeout = o.seconds("timeoutInSeconds")
	if f, ok := numberOf(o["maxDigits"]); ok && f >= 1 {
		s.DTMF.MaxDigits = int(math.Min(f, 100))
	}
	delimiters := o.str("delimiter")
	var list []string
	if json.Unmarshal(o["delimiter"], &list) == nil {
		delimiters = strings.Join(list, "")
	}
	for _, d := range "#*" {
		if strings.ContainsRune(delimiters, d) {
			s.DTMF.Delimiter += string(d)
		}
	}
}

func readForward(s *Step, o object, raw json.RawMessage) {
	f := Forward{
		SIP:       strings.EqualFold(o.str("addressType"), "sip"),
		Address:   o.str("address"),
		Extension: o.str("extension"),
		CallerID:  o.flag("callerIDPassthrough"),
	}
	if f.Address == "" {
		f.Address, _ = Scalar(raw)
	}
	s.Kind, s.Forward = KindForward, f
}

func readHandoff(s *Step, o object, _ json.RawMessage) {
	s.Kind, s.Text, s.State = KindHandoff, o.str("message"), o.str("event")
}

func readEntity(s *Step, o object, _ json.RawMessage) {
	s.Kind, s.Name = KindEntity, o.str("entityToFill")
}

// audioTag is an audio element: self-closing, closed by an end tag, or open.
var audioTag = regexp.MustCompile(`(?is)<audio\b([^>]*?)(?:/>|>(?:.*?</audio\s*>)?)`)

// srcAttribute is the address within an audio element's start tag.
var srcAttribute = regexp.MustCompile(`(?is)\bsrc\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)

// cutAudio splits text around its first audio element. Without one, everything
// is before it.
func cutAudio(text string) (before, src, after string) {
	m := audioTag.FindStringSubmatchIndex(text)
	if m == nil {
		return text, "", ""
	}
	if a := srcAttribute.FindStringSubmatch(text[m[2]:m[3]]); a != nil {
		src = playable(strings.ReplaceAll(a[1]+a[2]+a[3], "&amp;", "&"))
	}
	return text[:m[0]], src, text[m[1]:]
}

// Split breaks a step that is heard into parts that are either words or audio:
// messages carry audio elements in their middle. Any other step is returned
// alone.
func (s Step) Split() []Step {
	heard := s.Kind == KindSpeak || s.Kind == KindAudio
	if !heard || s.Kind == KindSpeak && s.Src != "" {
		return []Step{s}
	}
	var parts []Step
	rest := s
	if s.Kind == KindAudio {
		first := s
		first.Text = ""
		parts = append(parts, first)
		rest.Kind, rest.Src = KindSpeak, ""
	}
	text := s.Text
	for n := 0; text != "" && n < maxTraces; n++ {
		before, src, after := text, "", ""
		if s.SSML {
			before, src, after = cutAudio(text)
		}
		if strings.TrimSpace(tags.ReplaceAllString(before, "")) != "" {
			part := rest
			part.Text = before
			parts = append(parts, part)
		}
		if src != "" {
			part := rest
			part.Kind, part.Text, part.Src = KindAudio, "", src
			parts = append(parts, part)
		}
		text = after
	}
	return parts
}

// tags are what a markup element looks like.
var tags = regexp.MustCompile(`</?[A-Za-z][^<>]*>`)

// playable returns src where the bridge can fetch it, else "". Assistants'
// libraries (soundbank:) and relative addresses are not for us.
func playable(src string) string {
	src = strings.TrimSpace(src)
	lower := strings.ToLower(src[:min(len(src), 16)])
	for _, scheme := range []string{"https://", "http://", "data:audio/", "data:application"} {
		if strings.HasPrefix(lower, scheme) {
			return src
		}
	}
	return ""
}
