// Package caller is a telephone caller in the binary: it dials, speaks, presses
// keys, hears when a prompt begins and ends, obeys a REFER, records what it
// heard, and checks all of it against a script.
package caller

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ivrbridge/ivrbridge/sip"
)

// A Step is one thing that the caller does or waits for. Exactly one of its
// fields is set.
type Step struct {
	Hear    *Within `yaml:"hear"`    // a prompt begins
	Silence *Within `yaml:"silence"` // the prompt has ended
	Press   string  `yaml:"press"`   // keys; w waits half a second, W a second
	How     string  `yaml:"how"`     // of press; inband: as tones, and no telephone-event is agreed for the call
	Say     string  `yaml:"say"`     // words, by the local voice
	Play    string  `yaml:"play"`    // a WAV or MP3 file, relative to the script
	Expect  *Expect `yaml:"expect"`  // words that the far end says
	Event   *Event  `yaml:"event"`   // something that happens to the call
	Wait    Length  `yaml:"wait"`
	Hold    *bool   `yaml:"hold"` // true holds the far end, false resumes
	Hangup  bool    `yaml:"hangup"`

	line int
}

// inband is how keys are pressed as tones.
const inband = "inband"

// Within bounds a wait.
type Within struct {
	Within Length `yaml:"within"`
}

// Expect waits for words. They are recognised locally, from the phrases that the
// script expects.
type Expect struct {
	Text   string `yaml:"text"`
	Within Length `yaml:"within"`
}

// Event waits for something that happens to the call.
type Event struct {
	Refer  bool   `yaml:"refer"`  // the far end asked to call somebody else
	To     string `yaml:"to"`     // part of the URI of that REFER
	Moved  bool   `yaml:"moved"`  // the call to that somebody was answered
	Ended  bool   `yaml:"ended"`  // the call is over
	Held   bool   `yaml:"held"`   // the far end holds us
	Within Length `yaml:"within"` // 10s where absent
}

// A Length is a time such as 1.5s.
type Length time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *Length) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 {
		return fmt.Errorf("line %d: %q is no time, write for example 5s or 500ms", n.Line, n.Value)
	}
	*l = Length(d)
	return nil
}

func (l Length) or(def time.Duration) time.Duration {
	if l == 0 {
		return def
	}
	return time.Duration(l)
}

const defaultWithin = 10 * time.Second

// A Script is what a caller does, in order.
type Script struct {
	Steps []Step
	dir   string
}

// Load reads a script.
func Load(path string) (*Script, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read script: %w", err)
	}
	s, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.dir = filepath.Dir(path)
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Check tells what no call can do: steps that are none, and sound files that are
// not there. All mistakes are reported at once.
func (s *Script) Check() error {
	var errs []error
	for _, step := range s.Steps {
		err := step.check()
		if err == nil && step.Play != "" {
			_, err = os.Stat(s.path(step.Play))
		}
		if err != nil {
			errs = append(errs, step.in(err))
		}
	}
	if len(s.Steps) == 0 {
		errs = append(errs, errors.New("there are no steps"))
	}
	return errors.Join(errs...)
}

// in says at which line of the script something is wrong, if the step is of one.
func (s Step) in(err error) error {
	if s.line == 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", s.line, err)
}

// unread is what the decoder says of one step, without its own lines, which
// begin at each step anew.
func unread(err error) error {
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		err = errors.New(strings.Join(e.Errors, "; "))
	}
	return errors.New(strings.ReplaceAll(strings.ReplaceAll(err.Error(), "line 1: ", ""), " in type caller.Step", " in a step"))
}

// path is where a sound file of the script is.
func (s *Script) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(s.dir, file)
}

// Parse reads a script: a list of steps. All mistakes are reported at once.
func Parse(document []byte) (*Script, error) {
	var list []yaml.Node
	if err := yaml.Unmarshal(document, &list); err != nil {
		return nil, fmt.Errorf("a script is a list of steps: %w", err)
	}
	var s Script
	var errs []error
	for i := range list {
		step := Step{line: list[i].Line}
		if list[i].Kind == yaml.ScalarNode && list[i].Value == "hangup" {
			step.Hangup = true
			s.Steps = append(s.Steps, step)
			continue
		}
		b, err := yaml.Marshal(&list[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", step.line, err))
			continue
		}
		d := yaml.NewDecoder(bytes.NewReader(b))
		d.KnownFields(true)
		if err := d.Decode(&step); err != nil {
			errs = append(errs, step.in(unread(err)))
			continue
		}
		if err := step.check(); err != nil {
			errs = append(errs, step.in(err))
		}
		s.Steps = append(s.Steps, step)
	}
	return &s, errors.Join(errs...)
}

func (s Step) check() error {
	set := []bool{s.Hear != nil, s.Silence != nil, s.Press != "", s.Say != "", s.Play != "", s.Expect != nil, s.Event != nil, s.Wait != 0, s.Hold != nil, s.Hangup}
	n := 0
	for _, on := range set {
		if on {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("a step does one thing: hear, silence, press, say, play, expect, event, wait, hold or hangup")
	case s.Expect != nil && s.Expect.Text == "":
		return errors.New("expect wants a text")
	case strings.Trim(s.Press, "0123456789*#ABCDwW") != "":
		return errors.New("press takes 0-9, *, #, A-D, and w or W for pauses")
	case s.How != "" && (s.Press == "" || s.How != inband):
		return errors.New("how goes with press, and is inband or absent")
	case s.Event != nil && !s.Event.Refer && !s.Event.Moved && !s.Event.Ended && !s.Event.Held:
		return errors.New("event wants one of refer, moved, ended, held")
	}
	return nil
}

// tones reports whether keys are pressed as tones.
func (s *Script) tones() bool {
	return s != nil && slices.ContainsFunc(s.Steps, func(st Step) bool { return st.How == inband })
}

// expected lists what the script expects to hear.
func (s *Script) expected() []string {
	var out []string
	for _, st := range s.Steps {
		if st.Expect != nil && !slices.Contains(out, st.Expect.Text) {
			out = append(out, st.Expect.Text)
		}
	}
	return out
}

// String names a step for the log.
func (s Step) String() string {
	switch {
	case s.Hear != nil:
		return "hear a prompt"
	case s.Silence != nil:
		return "hear its end"
	case s.Press != "":
		return "press " + s.Press
	case s.Say != "":
		return fmt.Sprintf("say %q", s.Say)
	case s.Play != "":
		return "play " + s.Play
	case s.Expect != nil:
		return fmt.Sprintf("expect %q", s.Expect.Text)
	case s.Event != nil:
		return "event " + s.Event.name()
	case s.Wait != 0:
		return "wait " + time.Duration(s.Wait).String()
	case s.Hold != nil && *s.Hold:
		return "hold"
	case s.Hold != nil:
		return "resume"
	}
	return "hang up"
}

func (e Event) name() string {
	switch {
	case e.Refer:
		return "refer"
	case e.Moved:
		return "moved"
	case e.Held:
		return "held"
	}
	return "ended"
}

// Quick is the script of a caller who waits for the first prompt's end, does one
// thing or several, and stays until the far end hangs up.
func Quick(say, play, keys string) *Script {
	s := &Script{Steps: []Step{{Hear: &Within{}}, {Silence: &Within{Within: Length(time.Minute)}}}}
	if keys != "" {
		s.Steps = append(s.Steps, Step{Press: keys})
	}
	if say != "" {
		s.Steps = append(s.Steps, Step{Say: say})
	}
	if play != "" {
		s.Steps = append(s.Steps, Step{Play: play})
	}
	s.Steps = append(s.Steps, Step{Event: &Event{Ended: true, Within: Length(time.Hour)}})
	return s
}

// ParseHeader reads a header written Name: value.
func ParseHeader(text string) (sip.Header, error) {
	name, value, ok := strings.Cut(text, ":")
	if !ok || strings.TrimSpace(name) == "" {
		return sip.Header{}, fmt.Errorf("%q is no header, write Name: value", text)
	}
	return sip.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)}, nil
}
