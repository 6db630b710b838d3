package asr_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/asr"
	"github.com/ivrbridge/ivrbridge/internal/registry"
	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// pipes is a network within the process, so that its time can be virtual.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error { return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p <- theirs
	return ours, nil
}

// The service ends a connection on which nothing comes for ten seconds.
func TestIdleConnectionIsKeptOpen(t *testing.T) {
	for model, want := range map[string]string{"nova-3": `{"type":"KeepAlive"}`, "flux-general-en": strings.Repeat("\xff", 800)} {
		t.Run(model, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := make(pipes)
				var got []string
				srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
					if err != nil {
						return
					}
					defer c.Close()
					for {
						_, b, err := c.ReadMessage()
						if err != nil {
							return
						}
						got = append(got, string(b))
					}
				})}
				go func() { _ = srv.Serve(network) }()
				r, err := asr.Providers.Open(t.Context(), "deepgram", func(into any) error {
					c := into.(*asr.DeepgramConfig)
					c.URL, c.Model, c.APIKey = "ws://deepgram.test", model, secret.New("key")
					return nil
				}, registry.Deps{Log: zap.NewNop(), HTTP: &http.Client{Transport: &http.Transport{DialContext: network.dial}}})
				require.NoError(t, err)
				s, err := r.Open(t.Context(), asr.Params{})
				require.NoError(t, err)
				time.Sleep(8500 * time.Millisecond)
				synctest.Wait()
				require.Equal(t, []string{want, want}, got)
				require.NoError(t, s.Begin(asr.Utterance{ID: 1}))
				for range 50 {
					require.NoError(t, s.Write(tone(800)))
					time.Sleep(100 * time.Millisecond)
				}
				synctest.Wait()
				require.Len(t, got, 52, "sound keeps it open by itself")
				require.NoError(t, s.Close())
				synctest.Wait()
				require.JSONEq(t, `{"type":"CloseStream"}`, got[52])
				close(network)
				require.NoError(t, srv.Close())
			})
		})
	}
}
