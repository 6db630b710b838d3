package app

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/configs"
	"github.com/ivrbridge/ivrbridge/dialog"
	"github.com/ivrbridge/ivrbridge/dialog/localflow"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// TestEveryGenerationCanBeConfigured asks the demo's flow, over each.
func TestEveryGenerationCanBeConfigured(t *testing.T) {
	flow, err := localflow.Demo()
	require.NoError(t, err)
	srv := httptest.NewServer(localflow.New(flow, localflow.Options{}))
	defer srv.Close()
	for _, api := range dialog.Generations() {
		a := configs.DefaultAgent()
		a.Voiceflow.API, a.Voiceflow.URL, a.Voiceflow.Project, a.Voiceflow.APIKey = api, srv.URL, "p1", secret.New("VF.DM.a.b")
		if api == "stable" {
			a.Voiceflow.APIKey = secret.New("vfp_a")
		}
		c := configs.Default()
		c.Agents = []configs.Agent{a}
		require.Empty(t, Unavailable(&c), api)
		d := CheckLive(t.Context(), a)
		require.NoError(t, d.Err, api)
		require.True(t, d.OK)
	}
	a := configs.DefaultAgent()
	a.Voiceflow.API = "v4-socket"
	c := configs.Default()
	c.Agents = []configs.Agent{a}
	require.Len(t, Unavailable(&c), 1)
}
