package configs

import (
	"time"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// An Agent is one Voiceflow agent and the manners in which it talks on the
// telephone.
type Agent struct {
	Name             string             `yaml:"name" doc:"name in routes, logs and metrics"`
	Voiceflow        Voiceflow          `yaml:"voiceflow" doc:"the agent at Voiceflow"`
	ASR              Adapter            `yaml:"asr" doc:"recogniser; provider: none for keys only"`
	TTS              Adapter            `yaml:"tts" doc:"voice"`
	Language         string             `yaml:"language" doc:"language of the call, BCP 47"`
	Headers          []string           `yaml:"headers" doc:"SIP headers that the flow gets as sip_<header>"`
	NoReply          time.Duration      `yaml:"no_reply" doc:"silence after which the last prompt is repeated, where the flow sets no timer itself"`
	MaxNoReplies     int                `yaml:"max_no_replies" doc:"repeats before good-bye"`
	UnaskedNoReply   string             `yaml:"unasked_no_reply" enum:"repeat,send" doc:"silence that the flow set no timer for: repeat the prompt, or send no-reply"`
	NoReplyGuard     int                `yaml:"no_reply_guard" doc:"no-replies in a row that end the call, against loops"`
	TurnTimeout      time.Duration      `yaml:"turn_timeout" doc:"longest wait for Voiceflow's answer"`
	Thinking         Thinking           `yaml:"thinking" doc:"cover for slow turns"`
	SpeechAhead      string             `yaml:"speech_ahead" enum:"drop,send" doc:"speech that ended before the answer was heard"`
	MinConfidence    float64            `yaml:"min_confidence" doc:"below it words go out as text, from 0 to 1"`
	SpeakChoices     bool               `yaml:"speak_choices" doc:"read the names of buttons out even when the turn has speech"`
	BargeIn          BargeIn            `yaml:"barge_in" doc:"interruption of prompts"`
	DTMF             DTMF               `yaml:"dtmf" doc:"keys"`
	Keypad           map[string]string  `yaml:"keypad" doc:"intent for each entry, for dtmf.as: intent"`
	Intents          map[string]Strings `yaml:"intents" doc:"phrases for each intent that the bridge resolves itself"`
	Actions          Actions            `yaml:"actions" doc:"webhook for custom actions that the bridge does not know"`
	Dial             Dial               `yaml:"dial" doc:"hand-over"`
	Fallback         string             `yaml:"fallback" doc:"directory name or target when the agent cannot go on"`
	OnTransferFailed string             `yaml:"on_transfer_failed" doc:"event sent when a hand-over failed that the flow does not wait for; empty: relaunch"`
	HoldMax          time.Duration      `yaml:"hold_max" doc:"longest time that a caller may hold the call"`
	Prompts          Prompts            `yaml:"prompts" doc:"own words or files instead of the built-in ones"`
	Limits           Limits             `yaml:"limits" doc:"bounds of a call; 0 and empty: none"`
	Web              Web                `yaml:"web" doc:"calls from web pages"`
}

// Voiceflow is the agent at the other side of the Dialog Manager API.
type Voiceflow struct {
	URL         string            `yaml:"url" doc:"base address of the runtime"`
	API         string            `yaml:"api" enum:"dm,dm-stream,v4,v4-stream,v4-socket,stable" doc:"generation of the API"`
	APIKey      secret.Secret     `yaml:"api_key" doc:"Dialog Manager API key"`
	Project     string            `yaml:"project" doc:"project id; needed by every api but dm"`
	Environment string            `yaml:"environment" old:"version" doc:"auto, production, development, staging, main or an id"`
	Session     string            `yaml:"session" enum:"call,caller" doc:"caller: the agent remembers callers whose number the trunk vouches for"`
	Variables   map[string]string `yaml:"variables" doc:"renames or adds variables, new name to old"`
	Rate        Rate              `yaml:"rate" doc:"most requests; empty: no bound"`
}

// Thinking covers a slow turn.
type Thinking struct {
	After time.Duration `yaml:"after" doc:"silence before the filler sound"`
}

// BargeIn is interruption of prompts.
type BargeIn struct {
	Mode         string        `yaml:"mode" enum:"both,speech,dtmf,off" doc:"what interrupts a prompt"`
	MinSpeech    time.Duration `yaml:"min_speech" doc:"speech that pauses a prompt"`
	MinWords     int           `yaml:"min_words" doc:"words that interrupt; 0: min_speech decides"`
	Protect      time.Duration `yaml:"protect" doc:"start of a prompt that is safe from speech"`
	FalseBargeIn time.Duration `yaml:"false_barge_in" doc:"time for words after that speech, else the sentence starts again"`
	Skip         bool          `yaml:"skip" doc:"input skips speech of turns that do not end listening"`
}

// DTMF is how keys become an entry and what is made of it.
type DTMF struct {
	MaxDigits         int           `yaml:"max_digits" doc:"longest entry"`
	Delimiter         string        `yaml:"delimiter" doc:"keys that end an entry: #, *, both or none"`
	InterdigitTimeout time.Duration `yaml:"interdigit_timeout" doc:"pause that ends an entry"`
	As                string        `yaml:"as" enum:"text,dtmf,event,intent" doc:"what an entry is sent as"`
	Typeahead         string        `yaml:"typeahead" enum:"barge,buffer,drop" doc:"keys during a prompt or a running turn"`
	ChoiceKeys        bool          `yaml:"choice_keys" doc:"key n selects button n"`
}

// Actions is the webhook for waiting custom actions that the bridge does not
// perform itself.
type Actions struct {
	URL    string        `yaml:"url" doc:"address of the webhook; empty: their default path is taken"`
	Secret secret.Secret `yaml:"secret" doc:"key of the signature"`
	Names  []string      `yaml:"names" doc:"names of the actions that wait"`
}

// Dial is the policy of hand-overs.
type Dial struct {
	Actions   []string           `yaml:"actions" doc:"custom actions that hand over, besides forward-call and call-forward"`
	Directory map[string]Strings `yaml:"directory" doc:"names for targets; several are tried in order"`
	Allow     []string           `yaml:"allow" doc:"targets allowed besides the directory: numbers, 1???, sip:*@agents.example.com"`
	Countries []string           `yaml:"countries" doc:"countries that patterns may reach, ISO 3166-1; none: the trunk's region alone"`
	Timeout   time.Duration      `yaml:"timeout" doc:"longest wait for an outcome"`
}

// Prompts replace the built-in ones.
type Prompts struct {
	Apology        Prompt `yaml:"apology" doc:"something went wrong"`
	Goodbye        Prompt `yaml:"goodbye" doc:"the call ends after silence"`
	Filler         Prompt `yaml:"filler" doc:"the answer takes long"`
	Hold           Prompt `yaml:"hold" doc:"the caller waits for a human"`
	TransferFailed Prompt `yaml:"transfer_failed" doc:"nobody could be reached"`
	Closed         Prompt `yaml:"closed" doc:"outside of opening hours"`
	Limit          Prompt `yaml:"limit" doc:"the call has reached its limit"`
	Consent        Prompt `yaml:"consent" doc:"before a recording"`
}

// A Prompt is words or a sound file; empty means the built-in words of the
// agent's language.
type Prompt struct {
	Text string `yaml:"text" doc:"words"`
	File string `yaml:"file" doc:"path of a WAV or MP3 file"`
}

// Limits bound a call.
type Limits struct {
	Duration  time.Duration `yaml:"duration" doc:"longest call"`
	Turns     int           `yaml:"turns" doc:"most turns"`
	Calls     int           `yaml:"calls" doc:"most calls of the agent at the same time"`
	PerCaller Rate          `yaml:"per_caller" doc:"most calls of one number, such as 10/h"`
}

// Web says which pages may call the agent.
type Web struct {
	Origins   []string `yaml:"origins" doc:"sites whose pages may call with the button, such as https://shop.example.com"`
	Languages []string `yaml:"languages" doc:"languages that callers of browsers may choose besides the agent's own, such as de-DE"`
}

// DefaultAgent returns an agent with every default and no name.
func DefaultAgent() Agent {
	return Agent{
		Voiceflow: Voiceflow{
			URL:         "https://general-runtime.voiceflow.com",
			API:         "dm",
			Environment: "auto",
			Session:     "call",
			Rate:        Rate{Count: 500, Per: time.Minute},
		},
		ASR:            NewAdapter("vosk", map[string]any{"url": "ws://127.0.0.1:2700"}),
		TTS:            NewAdapter("openai", map[string]any{"url": "http://127.0.0.1:8880/v1", "voice": "alloy"}),
		Language:       "en-US",
		NoReply:        10 * time.Second,
		MaxNoReplies:   3,
		UnaskedNoReply: "repeat",
		NoReplyGuard:   10,
		TurnTimeout:    17 * time.Second,
		Thinking:       Thinking{After: 1500 * time.Millisecond},
		SpeechAhead:    "drop",
		MinConfidence:  0.3,
		BargeIn: BargeIn{
			Mode:         "both",
			MinSpeech:    200 * time.Millisecond,
			Protect:      300 * time.Millisecond,
			FalseBargeIn: 1500 * time.Millisecond,
		},
		DTMF: DTMF{
			MaxDigits:         20,
			Delimiter:         "#",
			InterdigitTimeout: 2 * time.Second,
			As:                "text",
			Typeahead:         "barge",
			ChoiceKeys:        true,
		},
		Dial:    Dial{Actions: []string{"dial"}, Timeout: 30 * time.Second},
		HoldMax: 10 * time.Minute,
		Limits:  Limits{Duration: 30 * time.Minute, Turns: 200},
	}
}
