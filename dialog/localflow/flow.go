// Package localflow is a Dialog Manager server that runs a conversation from a
// YAML file or a Voiceflow project file. It answers like Voiceflow's own runtime in all that a telephony
// bridge can notice, so that the demo and the tests need no account. The language
// of the file is described in docs/localflow.md.
//
// The package knows nothing of telephony and nothing of the client that calls it.
package localflow

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Flow is a conversation ready to run. It is immutable and safe for concurrent
// use by any number of servers.
type Flow struct {
	// Name is for people.
	Name string

	version      string   // id of the version, as states and logs show it
	diagram      string   // id of the main diagram
	keys         []string // accepted API keys; none: any
	environments []string // aliases that answer; none: any
	modern       bool     // understands dtmf, event, message and end actions
	variables    map[string]any
	intents      map[string]*intent
	intentOrder  []string
	commands     []command
	events       map[string]string // event name to block
	global       global
	faults       []Fault
	start        *node
	blocks       map[string]*block
	nodes        map[string]*node
	remarks      []Remark // of a project file
}

func newFlow() *Flow {
	return &Flow{
		variables: make(map[string]any),
		intents:   make(map[string]*intent),
		events:    make(map[string]string),
		blocks:    make(map[string]*block),
		nodes:     make(map[string]*node),
	}
}

// Parse reads a flow. Of YAML the error joins all that is wrong, each with its
// line. A Voiceflow project file (.vf), which is known by its content, is read as
// far as its steps are understood; Remarks tells the rest.
func Parse(document []byte) (*Flow, error) {
	if isProject(document) {
		return parseProject(document)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	if len(root.Content) == 0 {
		return nil, errors.New("flow: the document is empty")
	}
	r := &reader{flow: newFlow()}
	r.document(root.Content[0])
	r.link()
	if len(r.errs) > 0 {
		return nil, fmt.Errorf("flow: %w", errors.Join(r.errs...))
	}
	return r.flow, nil
}

// Load reads the flow in the file at path.
func Load(path string) (*Flow, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("load flow: %w", err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// kind is what a node does.
type kind uint8

const (
	kindSpeak kind = iota
	kindText
	kindAudio
	kindVisual
	kindChoice
	kindCard
	kindCapture
	kindAction
	kindForward
	kindDTMF
	kindStream
	kindTrace
	kindSet
	kindIf
	kindGoto
	kindCall
	kindDelay
	kindEnd
	// Only project files have these.
	kindPass
	kindCases
	kindRandom
	kindUnknown
)

var kindNames = map[string]kind{
	"speak": kindSpeak, "text": kindText, "audio": kindAudio, "visual": kindVisual, "choice": kindChoice, "card": kindCard,
	"capture": kindCapture, "action": kindAction, "forward": kindForward, "dtmf": kindDTMF, "stream": kindStream,
	"trace": kindTrace, "set": kindSet, "if": kindIf, "goto": kindGoto, "call": kindCall, "delay": kindDelay, "end": kindEnd,
}

// node is one step of a flow. Which fields count depends on its kind.
type node struct {
	id   string
	line int
	kind kind
	next *node // what follows; nil leaves the block

	text      string        // speak, text, goto, call, capture (variable), if (source)
	delay     time.Duration // text, delay
	payload   any           // body of an action; fields of card, visual, stream, forward, dtmf, trace
	sets      []assignment
	cond      expr
	then      target
	otherwise target
	options   []option
	listen    listening
	pattern   *regexp.Regexp // capture
	act       actionSpec
	variants  []string // speak, text: one of them at random
	cases     []branch // cases, random
	own       bool     // a listening step that understands its own intents alone
}

// branch is one way out of a condition; of a random step it has no condition.
type branch struct {
	cond   expr
	target target
}

// block is a named list of steps.
type block struct {
	name  string
	line  int
	steps []*node
}

func (b *block) first() *node {
	if len(b.steps) == 0 {
		return nil
	}
	return b.steps[0]
}

// target is where a path leads.
type target struct {
	line  int
	block string  // goto or call
	call  bool    // comes back
	steps []*node // own steps, then what follows the node
	first *node   // after linking; nil leaves the block
	lost  bool    // connected to nothing
}

// option is one thing that a choice listens for.
type option struct {
	button string // its label; empty: listened for without a button
	intent string
	target target
	bare   bool // no path behind it: pressing it is no match
}

// listening is what a step does about silence and misunderstanding.
type listening struct {
	noReply *ladder
	noMatch *ladder
}

// ladder is a list of re-prompts and where it leads after the last.
type ladder struct {
	timeout time.Duration // no-reply: of the step
	rungs   []rung
	path    bool
	target  target
}

type rung struct {
	say     string
	timeout time.Duration // after this prompt; 0: the rule of the runtime
}

// global is what all listening steps share.
type global struct {
	noReply        string
	noReplyTimeout time.Duration
	noMatch        string
}

type assignment struct {
	name    string
	literal any
	expr    expr // nil: literal
}

type actionSpec struct {
	name     string
	stop     bool
	compiled bool // the newer format: stopTypes compare with "trace"
	paths    []actionPath
	fallback int    // index of the default path, -1 for none
	source   string // JSON with variables; empty: the node's payload
}

type actionPath struct {
	name   string
	target target
}

// command is an intent that is understood everywhere.
type command struct {
	intent string
	block  string
	push   bool
}

// intent is what callers may mean, with the ways to say it.
type intent struct {
	name     string
	line     int
	phrases  []phrase
	entities []entity
}

type entity struct {
	name   string
	prompt string // asked when missing; empty: not required
	values map[string][]string
	order  []string
	regex  *regexp.Regexp
}
