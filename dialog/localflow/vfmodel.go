package localflow

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// vfEntity is an entity of the project, for any of its intents.
type vfEntity struct {
	name   string
	values map[string][]string
	order  []string
	regex  *regexp.Regexp
}

func (e *vfEntity) with(prompt string) entity {
	return entity{name: e.name, prompt: prompt, values: e.values, order: e.order, regex: e.regex}
}

// vfMessage is one way to say a response.
type vfMessage struct {
	text        string
	delay       time.Duration
	conditional bool
}

// vfPatterns are what the ready-made kinds of entity look like.
var vfPatterns = map[string]*regexp.Regexp{
	"VF.NUMBER":      regexp.MustCompile(`-?\d+(?:\.\d+)?`),
	"VF.PHONENUMBER": regexp.MustCompile(`\+?\d[\d ().-]{1,30}\d`),
	"VF.EMAIL":       regexp.MustCompile(`[^\s@]+@[^\s@]+\.[^\s@.]+`),
}

// vfBuiltIn are the intents that every project has without writing them down, by
// the heart of their names.
var vfBuiltIn = map[string][]string{
	"yes": {"yes", "yeah", "yep", "ok", "sure", "right"}, "no": {"no", "nope", "no thanks"},
	"help": {"help", "help me"}, "stop": {"stop"}, "cancel": {"cancel"}, "repeat": {"repeat", "repeat that", "say that again"},
	"next": {"next"}, "previous": {"previous"}, "pause": {"pause"}, "resume": {"resume"}, "startover": {"start over", "restart"},
}

func builtInPhrases(name string) []string {
	heart, ours := strings.CutPrefix(name, "VF.")
	if !ours {
		if heart, ours = strings.CutPrefix(name, "AMAZON."); !ours {
			return nil
		}
		heart = strings.TrimSuffix(heart, "Intent")
	}
	return vfBuiltIn[strings.ToLower(strings.ReplaceAll(heart, "_", ""))]
}

// readVariables declares the variables: an id and a default each in newer files,
// just names in older ones.
func (p *project) readVariables() {
	p.variables = make(map[string]string)
	declare := func(name string, v any) {
		if !names.MatchString(name) {
			p.remark(nil, "the variable %q cannot be called so", name)
			return
		}
		p.flow.variables[name] = v
	}
	for _, name := range p.version.texts("variables") {
		if !vfSystem[name] {
			declare(name, nil)
		}
	}
	for _, d := range p.diagrams {
		for _, name := range p.file.object("diagrams").object(d.id).texts("variables") {
			declare(name, nil)
		}
	}
	for _, o := range p.file.objects("variables") {
		name := o.text("name")
		p.variables[o.text("id")] = name
		if !o.flag("isSystem") && name != "" {
			declare(name, firstValue(o))
		}
	}
}

// vfSystem are the variables that the runtime itself fills.
var vfSystem = map[string]bool{
	"sessions": true, "user_id": true, "timestamp": true, "platform": true, "locale": true, "channel": true, "intent_confidence": true,
	"last_response": true, "last_event": true, "last_utterance": true, "vf_memory": true, "vf_chunks": true,
}

func firstValue(o object) any {
	text, ok := o["defaultValue"].(string)
	if !ok {
		return nil
	}
	if o.text("datatype") == "text" {
		return text
	}
	var v any
	if json.Unmarshal([]byte(text), &v) == nil && v != nil {
		return v
	}
	return text
}

func (p *project) readEntities() {
	p.entities, p.byName = make(map[string]*vfEntity), make(map[string]*vfEntity)
	add := func(id, name, classifier string) *vfEntity {
		e := &vfEntity{name: name, values: make(map[string][]string), regex: vfPatterns[classifier]}
		p.entities[id], p.byName[name] = e, e
		return e
	}
	list := p.file.objects("entities")
	for _, o := range list {
		add(o.text("id"), o.text("name"), o.text("classifier"))
	}
	for _, o := range p.file.objects("entityVariants") {
		if e := p.entities[o.text("entityID")]; e != nil {
			e.accept(append([]string{o.text("value")}, o.texts("synonyms")...))
		}
	}
	if len(list) > 0 {
		return
	}
	for _, o := range p.version.object("platformData").objects("slots") {
		e := add(o.text("key"), o.text("name"), o.object("type").text("value"))
		for _, input := range o.texts("inputs") {
			e.accept(strings.Split(input, ","))
		}
	}
}

// accept adds a value with its synonyms.
func (e *vfEntity) accept(words []string) {
	value := strings.TrimSpace(words[0])
	if value == "" {
		return
	}
	if _, known := e.values[value]; !known {
		e.order = append(e.order, value)
	}
	for _, s := range words[1:] {
		e.values[value] = append(e.values[value], strings.TrimSpace(s))
	}
}

// readResponses reads what newer steps say by id.
func (p *project) readResponses() {
	p.responses = make(map[string][]vfMessage)
	messages, variants := p.grouped("responseMessages", "discriminatorID"), p.grouped("responseVariants", "discriminatorID")
	for _, d := range p.file.objects("responseDiscriminators") {
		order := d.texts("variantOrder")
		list := slices.Concat(messages[d.text("id")], variants[d.text("id")])
		slices.SortStableFunc(list, func(a, b object) int {
			return slices.Index(order, a.text("id")) - slices.Index(order, b.text("id"))
		})
		for _, o := range list {
			ms, _ := o.number("delay")
			p.responses[d.text("responseID")] = append(p.responses[d.text("responseID")], vfMessage{
				text: p.prose(o["text"]), delay: milliseconds(ms), conditional: o.text("conditionID") != "",
			})
		}
	}
}

// milliseconds keeps a duration from a file within a day.
func milliseconds(ms float64) time.Duration {
	return time.Duration(min(max(ms, 0), 86_400_000) * float64(time.Millisecond))
}

// reprompts are the texts of a response, in order.
func (p *project) reprompts(id string) []string {
	var out []string
	for _, m := range p.responses[id] {
		if strings.TrimSpace(m.text) != "" && !m.conditional {
			out = append(out, m.text)
		}
	}
	return out
}

func (p *project) readIntents() {
	p.intents = make(map[string]string)
	list := p.file.objects("intents")
	utterances, required := p.grouped("utterances", "intentID"), p.grouped("requiredEntities", "intentID")
	for _, o := range list {
		id := o.text("id")
		var phrases []string
		for _, u := range utterances[id] {
			phrases = append(phrases, p.prose(u["text"]))
		}
		p.intent(id, o.text("name"), phrases, p.required(o, required[id]))
	}
	if len(list) > 0 {
		return
	}
	for _, o := range p.version.object("platformData").objects("intents") {
		var phrases []string
		for _, u := range o.objects("inputs") {
			phrases = append(phrases, p.braces(u.text("text")))
		}
		p.intent(o.text("key"), o.text("name"), phrases, p.slots(nil, o.objects("slots")))
	}
}

// grouped lists the objects of a part of the file by one of their members.
func (p *project) grouped(part, by string) map[string][]object {
	out := make(map[string][]object)
	for _, o := range p.file.objects(part) {
		out[o.text(by)] = append(out[o.text(by)], o)
	}
	return out
}

// required are the entities that the intent o cannot do without, in its order.
func (p *project) required(o object, list []object) []entity {
	order := o.texts("entityOrder")
	slices.SortStableFunc(list, func(a, b object) int {
		return slices.Index(order, a.text("id")) - slices.Index(order, b.text("id"))
	})
	var out []entity
	for _, r := range list {
		e := p.entities[r.text("entityID")]
		if e == nil {
			continue
		}
		prompts := p.reprompts(r.text("repromptID"))
		if len(prompts) == 0 {
			p.remark(nil, "the intent %q asks for its entity %q in generated words: it is not asked for", o.text("name"), e.name)
			prompts = []string{""}
		}
		out = append(out, e.with(prompts[0]))
	}
	return out
}

// slots are the entities of an intent or a capture step as older files have them.
func (p *project) slots(n *vfNode, list []object) []entity {
	var out []entity
	for _, o := range list {
		e := p.entities[o.text("id")]
		if e == nil {
			p.remark(n, "the entity %q is not in the file", o.text("id"))
			continue
		}
		prompts := p.prompts(o.object("dialog").objects("prompt"))
		if !o.flag("required") && n == nil || len(prompts) == 0 {
			prompts = []string{""}
		}
		out = append(out, e.with(prompts[0]))
	}
	return out
}

// intent makes an intent that callers may say.
func (p *project) intent(id, name string, phrases []string, entities []entity) {
	if name == "" || id == "" {
		return
	}
	p.intents[id] = name
	if name == "None" {
		return
	}
	f := p.flow
	in := f.intents[name]
	if in == nil {
		in = &intent{name: name}
		f.intents[name] = in
		f.intentOrder = append(f.intentOrder, name)
	}
	phrases = append(phrases, builtInPhrases(name)...)
	if len(phrases) == 0 {
		p.remark(nil, "the intent %q has no utterances: only buttons lead to it", name)
	}
	in.entities = append(in.entities, entities...)
	for _, text := range phrases {
		for _, m := range place.FindAllStringSubmatch(text, -1) {
			in.entities = p.withEntity(in.entities, m[1])
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		ph, err := parsePhrase(clip(text), in.entities)
		if err != nil {
			p.remark(nil, "the intent %q: %v", name, err)
			continue
		}
		in.phrases = append(in.phrases, ph)
	}
}

// withEntity adds the entity called name to a list that lacks it.
func (p *project) withEntity(list []entity, name string) []entity {
	if slices.ContainsFunc(list, func(e entity) bool { return e.name == name }) {
		return list
	}
	if e := p.byName[name]; e != nil {
		return append(list, e.with(""))
	}
	return list
}

// intentName returns the name of the intent with the id, which a step of n uses.
func (p *project) intentName(n *vfNode, id string) (string, bool) {
	if id == "" {
		return "", false
	}
	if name, ok := p.intents[id]; ok {
		return name, name != "None"
	}
	if builtInPhrases(id) != nil {
		p.intent(id, id, nil, nil)
		return id, true
	}
	p.remark(n, "the intent %q is not in the file", id)
	return "", false
}

// readSettings reads what all listening steps share.
func (p *project) readSettings() {
	settings := p.version.object("platformData").object("settings")
	g := &p.flow.global
	silence := settings.object("globalNoReply")
	if words := p.spoken(silence.object("prompt")); strings.TrimSpace(words) != "" {
		g.noReply, g.noReplyTimeout = words, defaultSilence
		if seconds, ok := silence.number("delay"); ok && seconds > 0 {
			g.noReplyTimeout = milliseconds(seconds * 1000)
		}
	}
	switch other := settings.object("globalNoMatch"); other.text("type") {
	case "static":
		g.noMatch = p.spoken(other.object("prompt"))
	case "generative":
		p.remark(nil, "the global no match is generated: nothing is said")
	}
}
