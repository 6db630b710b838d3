package configs

import "github.com/ivrbridge/ivrbridge/internal/target"

// Route returns the first route that takes a call, and its place in the file
// from 0. Numbers are in E.164, or as dialled where they are no such number.
func (c *Config) Route(trunk, to, from string) (Route, int, bool) {
	for i, r := range c.Routes {
		if (r.Trunk == "" || r.Trunk == trunk) && matches(r.To, to) && matches(r.From, from) {
			return r, i, true
		}
	}
	return Route{}, 0, false
}

func matches(pattern, text string) bool { return pattern == "" || target.Match(pattern, text) }
