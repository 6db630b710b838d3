package dialog

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// Advanced reports whether a turn ran between two reads of a conversation's
// state: anything in it changed. It is for a turn whose answer was lost
// (ExecutedMaybe): only one that did not advance may be sent again. A runtime
// that still works on the turn has often not saved it yet, so read the second
// state late, not at once.
func Advanced(before, after State) bool {
	if len(before.Stack) != len(after.Stack) || len(before.Variables) != len(after.Variables) {
		return true
	}
	for i := range before.Stack {
		if !sameJSON(before.Stack[i], after.Stack[i]) {
			return true
		}
	}
	for name, v := range before.Variables {
		w, ok := after.Variables[name]
		if !ok || !sameJSON(v, w) {
			return true
		}
	}
	return !sameJSON(before.Storage, after.Storage)
}

// sameJSON compares meanings: neither the order of members nor space counts.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return reflect.DeepEqual(valueOf(a), valueOf(b))
}

func valueOf(raw json.RawMessage) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(raw)
	}
	return v
}
