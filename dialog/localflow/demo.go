package localflow

import _ "embed"

//go:embed flows/demo.yaml
var demo []byte

// Demo returns the flow of the demo: a shop's line with the status of orders,
// opening hours and a way to a human.
func Demo() (*Flow, error) { return Parse(demo) }
