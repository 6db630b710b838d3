package configs

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ivrbridge/ivrbridge/internal/registry"
)

// The kinds of adapters that a [Check] is asked about.
const (
	KindASR       = "asr"
	KindTTS       = "tts"
	KindVoiceflow = "voiceflow" // of an agent; the provider is its api
)

// A Check decodes and validates the settings of one adapter without opening it.
// Where the error joins several, each that begins with a key and a colon is
// reported at that key.
// The package does not know the adapters; the program passes the Check methods
// of their registries.
type Check func(kind, provider string, d registry.Decode) error

// Options are what Load needs besides the document. The zero value is ready for
// use.
type Options struct {
	Check  Check               // nil: adapters' settings are not checked
	Getenv func(string) string // resolves env: references; nil: the process's environment
}

// Load reads the file at path; see [Read].
func Load(path string, o Options) (Config, Problems, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Config{}, nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	return Read(f, o)
}

// Read decodes a document over the defaults and validates it. It returns all
// problems by line, warnings too; the error is an *[InvalidError] of those that
// keep the configuration from being used, and nil when there are none. Several
// goroutines may call it.
func Read(r io.Reader, o Options) (Config, Problems, error) {
	root, problems := parse(r)
	c := Default()
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	d := newDecoder(o.Getenv)
	d.problems = problems
	if root == nil {
		if len(problems) == 0 {
			problems = c.Validate(o.Check)
		}
		return c, problems, problems.err()
	}
	d.config(root, &c)
	c.lines = d.lines
	c.complete()
	defaults := linesOf(child(root, "defaults"), map[int]bool{})
	for _, p := range c.Validate(o.Check) {
		// A value that could not be decoded is at its default and needs no second
		// complaint.
		if !d.brokenAt(p.Path) {
			d.problems = append(d.problems, d.inherited(p, defaults))
		}
	}
	all := d.problems.sorted()
	return c, all, all.err()
}

// config decodes the document: trunks over their profiles, agents over the
// defaults.
func (d *decoder) config(root *yaml.Node, c *Config) {
	if root.Kind != yaml.MappingNode {
		d.complain(root, "", "wants keys and values, this is %s", kindName(root))
		return
	}
	trunks, defaults, agents := child(root, "trunks"), child(root, "defaults"), child(root, "agents")
	plain := *root
	plain.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch root.Content[i+1] {
		case trunks, agents:
		default:
			plain.Content = append(plain.Content, root.Content[i], root.Content[i+1])
		}
	}
	d.value(&plain, reflect.ValueOf(c).Elem(), "", nil)
	if items, ok := d.items(trunks, "trunks"); ok && len(items) > 0 {
		c.Trunks = nil
		for i, n := range items {
			t := DefaultTrunk()
			d.value(d.withProfile(n, index("trunks", i)), reflect.ValueOf(&t).Elem(), index("trunks", i), nil)
			c.Trunks = append(c.Trunks, t)
		}
	}
	items, _ := d.items(agents, "agents")
	for i, n := range items {
		a := DefaultAgent()
		if n.Kind == yaml.MappingNode {
			n = d.inherit(defaults, n)
		}
		d.value(n, reflect.ValueOf(&a).Elem(), index("agents", i), nil)
		c.Agents = append(c.Agents, a)
	}
}

// items returns the entries of a list; no list at all has none.
func (d *decoder) items(n *yaml.Node, path string) ([]*yaml.Node, bool) {
	if n == nil || isNull(n) {
		return nil, true
	}
	d.lines[path] = n.Line
	if n.Kind != yaml.SequenceNode {
		d.complain(n, path, "wants a list, this is %s", kindName(n))
		return nil, false
	}
	return n.Content, true
}

// inherit overlays the defaults with an agent's block.
func (d *decoder) inherit(defaults, agent *yaml.Node) *yaml.Node {
	if defaults == nil || defaults.Kind != yaml.MappingNode {
		return agent
	}
	return overlay(defaults, agent)
}

// inherited moves a problem of an agent's value that stands in the defaults
// there, so that it is reported once and not for every agent. lines are those of
// the defaults.
func (d *decoder) inherited(p Problem, lines map[int]bool) Problem {
	owner, rest, ok := strings.Cut(p.Path, ".")
	if ok && lines[p.Line] && strings.HasPrefix(owner, "agents[") && d.lines[owner] != p.Line {
		p.Path = join("defaults", rest)
	}
	return p
}

// linesOf collects the lines of a tree.
func linesOf(n *yaml.Node, into map[int]bool) map[int]bool {
	if n != nil {
		into[n.Line] = true
		for _, c := range n.Content {
			linesOf(c, into)
		}
	}
	return into
}

// complete adds what the file may leave out: the route of the only agent.
func (c *Config) complete() {
	if len(c.Routes) == 0 && len(c.Agents) == 1 {
		c.Routes = []Route{{Agent: c.Agents[0].Name}}
	}
}
