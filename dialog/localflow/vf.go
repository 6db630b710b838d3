package localflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// maxProject bounds a project file, in bytes. Exports of large agents have a
	// few megabytes.
	maxProject = 16 << 20
	// maxRemarks bounds what is said about one file.
	maxRemarks = 200
	// startID is the id that most projects give to the node they start with.
	startID = "start00000000000000000000"
)

// A Remark says what a flow does not do of the Voiceflow project it was read
// from.
type Remark struct {
	// Diagram and Block are the names on the canvas; empty for what is in none.
	Diagram, Block string
	// Step is the step's own name; empty when it has none.
	Step string
	// Type is the step's type in the file; empty for what is no step.
	Type string
	// Text says what is not done.
	Text string
}

// String returns the remark in one line, the place first.
func (r Remark) String() string {
	place := slices.DeleteFunc([]string{r.Diagram, r.Block, r.Step, r.Type}, func(s string) bool { return s == "" })
	if len(place) == 0 {
		return r.Text
	}
	return strings.Join(place, " / ") + ": " + r.Text
}

// Remarks returns all that the project asks for and the flow does not do, in the
// order of the diagrams. A flow written in YAML has none. Any goroutine may call
// it.
func (f *Flow) Remarks() []Remark { return slices.Clone(f.remarks) }

// isProject reports whether document is a Voiceflow project and not YAML.
func isProject(document []byte) bool {
	trimmed := bytes.TrimLeft(document, "\ufeff \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{' &&
		(bytes.Contains(trimmed, []byte(`"diagrams"`)) || bytes.Contains(trimmed, []byte(`"rootDiagramID"`)))
}

// project turns a project file into a flow. What it does not understand becomes a
// remark, never an error.
type project struct {
	flow      *Flow
	file      object
	version   object
	variables map[string]string    // name by id
	entities  map[string]*vfEntity // by id
	byName    map[string]*vfEntity
	responses map[string][]vfMessage
	intents   map[string]string // name by id
	diagrams  []*vfDiagram
	byID      map[string]*vfDiagram
	triggers  []vfTrigger
}

// vfDiagram is one canvas: a workflow (topic) or a component.
type vfDiagram struct {
	id, name, typ string
	nodes         map[string]*vfNode
	order         []string // ids of nodes, sorted
}

// vfNode is one thing on a canvas.
type vfNode struct {
	id, typ string
	data    object
	diagram *vfDiagram
	ports   vfPorts
	head    *node    // what the flow runs; nil for what is no step
	steps   []string // ids, of a block
	entry   *node    // first of a block's steps that runs
	block   *vfNode  // that the step is in
	place   int      // of the step in its block
}

// vfTrigger is an intent that is understood everywhere, and the step it leads to.
type vfTrigger struct {
	intent  string // its id
	diagram *vfDiagram
	head    *node
	push    bool
}

func parseProject(document []byte) (*Flow, error) {
	if len(document) > maxProject {
		return nil, fmt.Errorf("project: the file is larger than %d MB", maxProject>>20)
	}
	var file object
	if err := json.Unmarshal(bytes.TrimPrefix(document, []byte("\ufeff")), &file); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	p := &project{
		flow: newFlow(), file: file, version: file.object("version"),
		byID: make(map[string]*vfDiagram),
	}
	if err := p.read(); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	return p.flow, nil
}

func (p *project) read() error {
	f := p.flow
	f.Name = p.file.object("project").text("name")
	f.version, f.diagram = p.version.text("_id"), p.version.text("rootDiagramID")
	if f.version == "" {
		f.version = "local"
	}
	p.readDiagrams()
	if len(p.diagrams) == 0 {
		return errors.New("the file has no diagrams: download the .vf file of the project, the .vfr has none")
	}
	root := p.byID[f.diagram]
	if root == nil {
		return fmt.Errorf("the diagram that it starts with, %q, is not in the file", f.diagram)
	}
	p.readVariables()
	p.readEntities()
	p.readResponses()
	p.readIntents()
	p.readSettings()
	p.each(p.head)
	p.each(p.enter)
	p.each(p.trigger)
	p.each(p.step)
	for _, d := range p.diagrams {
		f.blocks[d.id] = &block{name: d.id, steps: steps(d.start())}
	}
	p.commands()
	if f.start = root.start(); f.start == nil {
		return fmt.Errorf("the diagram %q has no start", root.name)
	}
	return nil
}

// readDiagrams reads all canvases but those of the library.
func (p *project) readDiagrams() {
	all := p.file.object("diagrams")
	for _, id := range slices.Sorted(maps.Keys(all)) {
		o := all.object(id)
		d := &vfDiagram{id: id, name: o.text("name"), typ: o.text("type"), nodes: make(map[string]*vfNode)}
		if d.typ == "TEMPLATE" || o == nil {
			continue
		}
		if d.name == "ROOT" {
			d.name = "Home"
		}
		nodes := o.object("nodes")
		for _, nodeID := range slices.Sorted(maps.Keys(nodes)) {
			n := nodes.object(nodeID)
			if n == nil {
				continue
			}
			d.nodes[nodeID] = &vfNode{id: nodeID, typ: n.text("type"), data: n.object("data"), diagram: d}
			d.order = append(d.order, nodeID)
		}
		for _, nodeID := range d.order {
			d.nest(d.nodes[nodeID])
		}
		p.diagrams = append(p.diagrams, d)
		p.byID[id] = d
	}
	for _, key := range []string{"flows", "workflows"} {
		for _, o := range p.file.objects(key) {
			if d := p.byID[o.text("diagramID")]; d != nil {
				if d.name == "" || key == "workflows" {
					d.name = o.text("name")
				}
				if p.byID[o.text("id")] == nil {
					p.byID[o.text("id")] = d
				}
			}
		}
	}
}

// nest notes the steps of a block.
func (d *vfDiagram) nest(b *vfNode) {
	b.steps = b.data.texts("steps")
	for i, id := range b.steps {
		if s := d.nodes[id]; s != nil && s.block == nil {
			s.block, s.place = b, i
		}
	}
}

// start is the step that the diagram begins with.
func (d *vfDiagram) start() *node {
	if n := d.nodes[startID]; n != nil && n.head != nil {
		return n.head
	}
	for _, id := range d.order {
		if n := d.nodes[id]; n.typ == "start" {
			return n.head
		}
	}
	return nil
}

func steps(first *node) []*node {
	if first == nil {
		return nil
	}
	return []*node{first}
}

// each calls do for the nodes of all diagrams.
func (p *project) each(do func(*vfNode)) {
	for _, d := range p.diagrams {
		for _, id := range d.order {
			do(d.nodes[id])
		}
	}
}

// remark notes what is not done at n, which may be nil.
func (p *project) remark(n *vfNode, format string, args ...any) {
	r := Remark{Text: fmt.Sprintf(format, args...)}
	if n != nil {
		r.Diagram, r.Step, r.Type = n.diagram.name, n.data.text("name"), n.typ
		if n.block != nil {
			r.Block = n.block.data.text("name")
		}
	}
	if len(p.flow.remarks) < maxRemarks && !slices.Contains(p.flow.remarks, r) {
		p.flow.remarks = append(p.flow.remarks, r)
	}
}

// register gives s an id that no other step has, and makes it known.
func (p *project) register(s *node, diagram, id string) {
	for s.id = id; p.flow.nodes[s.id] != nil; {
		s.id = diagram + ":" + s.id
	}
	p.flow.nodes[s.id] = s
}

// head makes the step that the flow runs for n; it is filled later, when all
// steps are there to lead to.
func (p *project) head(n *vfNode) {
	n.ports = readPorts(n)
	if vfContainers[n.typ] || vfNotes[n.typ] {
		return
	}
	n.head = &node{kind: kindPass, act: actionSpec{fallback: -1}}
	p.register(n.head, n.diagram.id, n.id)
}

// enter finds the first step of a block, once all steps have heads.
func (p *project) enter(n *vfNode) {
	if !vfContainers[n.typ] {
		return
	}
	for _, id := range n.steps {
		if s := n.diagram.nodes[id]; s != nil && s.head != nil {
			n.entry = s.head
			return
		}
	}
}

// step fills the step of n.
func (p *project) step(n *vfNode) {
	if n.head == nil {
		return
	}
	if read := vfSteps[n.typ]; read != nil {
		read(p, n)
		return
	}
	why := vfRefused[n.typ]
	if why == "" {
		why = "a step of this type is not known"
	}
	p.remark(n, "%s; the flow goes on after it", why)
	n.head.kind, n.head.text = kindUnknown, n.typ
	n.head.next = p.after(n)
}

// follow returns the step that the id of a port leads to.
func (p *project) follow(n *vfNode, id string) *node {
	if id == "" {
		return nil
	}
	to := n.diagram.nodes[id]
	if to == nil {
		p.remark(n, "a path leads to %q, which is not in the diagram", id)
		return nil
	}
	return to.first()
}

// first is the step to run when a path leads to n: of a block its first one.
func (n *vfNode) first() *node {
	if vfContainers[n.typ] {
		return n.entry
	}
	return n.head
}

// after returns what comes after n: the step of its port, else the next of its
// block; nil ends the diagram.
func (p *project) after(n *vfNode) *node {
	if id := n.ports.next(); id != "" {
		return p.follow(n, id)
	}
	if n.block == nil {
		return nil
	}
	for _, id := range n.block.steps[n.place+1:] {
		if s := n.diagram.nodes[id]; s != nil && s != n && s.head != nil {
			return s.head
		}
	}
	return nil
}

// path makes a target of the step that id leads to; no id is a path connected to
// nothing.
func (p *project) path(n *vfNode, id string) target {
	t := target{first: p.follow(n, id)}
	t.lost = t.first == nil
	return t
}
