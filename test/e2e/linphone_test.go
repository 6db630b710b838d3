package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// linphone starts a linphonec with files for a sound card. What is written to
// the result are its commands.
func linphone(t *testing.T, keys, wav string) io.Writer {
	t.Helper()
	need(t, "linphonec")
	dir := t.TempDir()
	for _, d := range []string{".local/share/linphone", ".config/linphone"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	info, events := 0, 1
	if keys == "info" {
		info, events = 1, 0
	}
	sip, rtp := freePorts(t, 2), freePorts(t, 4)
	conf := fmt.Sprintf(`[sip]
sip_port=%d
sip_tcp_port=0
sip_tls_port=-1
default_proxy=-1
use_info=%d
use_rfc2833=%d
use_ipv6=0
guess_hostname=0
register_only_when_network_is_up=0
auto_net_state_mon=1
ipv6_migration_done=1
media_encryption=none
[rtp]
audio_rtp_port=%d
[sound]
echocancellation=0
disable_ringing=1
[video]
enabled=0
capture=0
display=0
[audio_codec_0]
mime=PCMU
rate=8000
enabled=1
channels=1
`, sip, info, events, rtp)
	file := filepath.Join(dir, "linphonerc")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	cmd := exec.Command("linphonec", "-c", file)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "TERM=dumb")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out := &journal{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_, _ = io.WriteString(in, "terminate\nquit\n")
		quit := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		quit.Stop()
		if t.Failed() {
			t.Logf("linphonec:\n%s", tail(out.String(), 4000))
		}
	})
	_, err = fmt.Fprintf(in, "soundcard use files\nrecord %s\nplay %s\n", filepath.Join(dir, "heard.wav"), wav)
	require.NoError(t, err)
	return in
}

// Keys of a linphone come as telephone-events or by SIP INFO.
func TestLinphonePresses(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"rfc2833", "info"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, menu)
			b := serve(t, settings{agent: a})
			phone := linphone(t, way, spoken(t, 0, ""))
			_, err := fmt.Fprintf(phone, "call sip:1000@%s\n", b.sip)
			require.NoError(t, err)
			b.log.await(t, 30*time.Second, "media latched")
			_, err = io.WriteString(phone, "2\n")
			require.NoError(t, err)
			pressed := a.await(t, 20*time.Second, "intent")
			require.Contains(t, pressed.payload, "hours_intent")
			source := map[string]string{"rfc2833": "rtp", "info": "info"}[way]
			require.InDelta(t, 1, b.metric("ivrbridge_dtmf_digits_total"), 0)
			require.InDelta(t, 1, b.metric("ivrbridge_dtmf_digits_total", `source="`+source+`"`), 0)
			_, err = io.WriteString(phone, "terminate\n")
			require.NoError(t, err)
			require.Equal(t, "caller_hangup", b.ended(20*time.Second).value("end_class"))
			require.Equal(t, []string{"launch", "intent"}, a.actions())
		})
	}
}
