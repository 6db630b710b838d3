package configs

import (
	"embed"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed profiles/*.yaml
var profileFiles embed.FS

//go:embed ivrbridge.example.yaml
var example string

// Example returns the example file: every key with its default and a comment.
func Example() string { return example }

// Profiles returns the names of the carrier profiles in order.
func Profiles() []string {
	files, err := fs.Glob(profileFiles, "profiles/*.yaml")
	if err != nil {
		return nil // the pattern is well-formed
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// Profile returns the text of a carrier profile: keys of a trunk with comments.
func Profile(name string) (string, bool) {
	if strings.ContainsAny(name, "/\\") {
		return "", false
	}
	b, err := profileFiles.ReadFile("profiles/" + name + ".yaml")
	return string(b), err == nil
}

// withProfile lays a trunk's block over its profile.
func (d *decoder) withProfile(n *yaml.Node, at string) *yaml.Node {
	p := child(n, "profile")
	if p == nil || p.Kind != yaml.ScalarNode || isNull(p) {
		return n
	}
	text, ok := Profile(p.Value)
	if !ok {
		d.complain(p, join(at, "profile"), "%q is unknown, write one of %s", p.Value, strings.Join(Profiles(), ", "))
		return n
	}
	base, problems := parseText([]byte(text))
	if base == nil || problems.err() != nil {
		return n
	}
	relocate(base, p.Line)
	return overlay(base, n)
}

// relocate gives every node of a profile the line that names the profile.
func relocate(n *yaml.Node, line int) {
	n.Line = line
	for _, c := range n.Content {
		relocate(c, line)
	}
}
