package dialog

import (
	"encoding/json"
	"strings"
)

func readChoice(s *Step, o object, _ json.RawMessage) {
	s.Kind = KindChoice
	s.Buttons = buttonsOf(o["buttons"])
	if len(s.Buttons) == 0 {
		s.Buttons = buttonsOf(o["choices"])
	}
}

func readCards(s *Step, cards []object) {
	var words []string
	for _, c := range cards {
		description := c.str("description")
		if description == "" {
			description = members(c["description"]).str("text")
		}
		if description == "" {
			description = c.str("text")
		}
		for _, w := range []string{c.str("title"), description} {
			if w = strings.TrimSpace(w); w != "" {
				words = append(words, ended(w))
			}
		}
		s.Buttons = append(s.Buttons, buttonsOf(c["buttons"])...)
	}
	s.Text = strings.Join(words, " ")
	if s.Text != "" || len(s.Buttons) > 0 {
		s.Kind = KindCard
	}
}

// ended gives words a full stop, so that a title does not run into what follows.
func ended(words string) string {
	if strings.ContainsAny(words[len(words)-1:], ".!?:;,") {
		return words
	}
	return words + "."
}

func readCarousel(s *Step, o object, _ json.RawMessage) {
	var list []json.RawMessage
	if json.Unmarshal(o["cards"], &list) != nil {
		return
	}
	cards := make([]object, 0, len(list))
	for _, c := range list {
		cards = append(cards, members(c))
	}
	readCards(s, cards)
}

// buttonsOf reads a list of buttons. One that cannot be pressed is left out.
func buttonsOf(raw json.RawMessage) []Button {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	var buttons []Button
	for _, r := range list {
		if b, ok := buttonOf(members(r)); ok {
			buttons = append(buttons, b)
		}
	}
	return buttons
}

func buttonOf(o object) (Button, bool) {
	b := Button{Name: strings.TrimSpace(o.str("name"))}
	request := members(o["request"])
	if b.Name == "" {
		payload := members(request["payload"])
		b.Name = strings.TrimSpace(payload.str("label"))
	}
	if request.str("type") != "" {
		b.Request = o["request"]
		return b, true
	}
	// The documented form has an intent's name in place of a request.
	intent := o.str("intent")
	if intent == "" {
		intent = members(o["intent"]).str("name")
	}
	var a Action
	switch {
	case intent != "":
		a = Intent(intent, b.Name, nil, 0)
	case b.Name != "":
		a = Text(b.Name)
	default:
		return b, false
	}
	body, err := json.Marshal(a)
	if err != nil {
		return b, false
	}
	b.Request = body
	return b, true
}
