package localflow

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// An import that lacks one of its own parts fails on the designer's screen, so
// the sample names nothing that it does not have, and nothing twice.
func TestSampleProjectIsWhole(t *testing.T) {
	document, err := os.ReadFile("../../docs/guides/sample-project.vf")
	require.NoError(t, err)
	var file object
	require.NoError(t, json.Unmarshal(document, &file))
	version, diagrams := file.object("version"), file.object("diagrams")
	require.Equal(t, file.object("project").text("devVersion"), version.text("_id"))
	require.Equal(t, file.object("project").text("_id"), version.text("projectID"))
	require.Equal(t, []string{version.text("rootDiagramID")}, slices.Collect(maps.Keys(diagrams)))
	require.Equal(t, version.text("rootDiagramID"), file.objects("workflows")[0].text("diagramID"))

	seen := make(map[string]bool)
	once := func(id string) {
		require.NotEmpty(t, id)
		require.False(t, seen[id], "the id %s is used twice", id)
		seen[id] = true
	}
	for _, key := range []string{"workflows", "intents", "utterances", "variables"} {
		for _, o := range file.objects(key) {
			once(o.text("id"))
		}
	}
	intents, variables := make(map[string]string), make(map[string]string)
	for _, o := range file.objects("intents") {
		intents[o.text("id")] = o.text("name")
	}
	for _, o := range file.objects("variables") {
		variables[o.text("id")] = o.text("name")
	}
	for _, o := range file.objects("utterances") {
		require.Contains(t, intents, o.text("intentID"))
	}
	for _, o := range version.object("platformData").objects("intents") {
		require.Equal(t, intents[o.text("key")], o.text("name"))
	}
	for _, m := range vfReference.FindAllStringSubmatch(string(document), -1) {
		require.Equal(t, variables[m[2]], m[1])
	}

	diagram := diagrams.object(version.text("rootDiagramID"))
	require.Equal(t, version.text("_id"), diagram.text("versionID"))
	nodes := diagram.object("nodes")
	used := map[string]bool{startID: true}
	for id := range nodes {
		n := nodes.object(id)
		once(n.text("nodeID"))
		require.Equal(t, id, n.text("nodeID"))
		for _, s := range n.object("data").texts("steps") {
			require.Contains(t, nodes, s)
			used[s] = true
		}
		for _, b := range n.object("data").objects("buttons") {
			require.Contains(t, intents, b.text("intent"))
		}
		ports := n.object("data").object("portsV2")
		all := ports.objects("dynamic")
		for name := range ports.object("builtIn") {
			all = append(all, ports.object("builtIn").object(name))
		}
		for _, p := range all {
			once(p.text("id"))
			require.Contains(t, nodes, p.text("target"), "from %s", id)
			used[p.text("target")] = true
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(nodes)), slices.Collect(maps.Keys(used)), "nothing is left over")
}
