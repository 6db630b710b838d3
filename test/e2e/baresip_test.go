package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/record"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A softphone is a baresip without a sound card: it speaks a WAV file, writes
// what it hears beside its configuration, and is driven over TCP.
type softphone struct {
	t    *testing.T
	uri  string
	dir  string
	ctrl net.Conn

	mu     sync.Mutex
	events []string
	log    strings.Builder
}

// Write takes what baresip prints.
func (s *softphone) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// modulesDir is where Debian keeps baresip's modules on this machine.
func modulesDir(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/baresip/modules")
	for _, dir := range append(found, "/usr/lib/baresip/modules") {
		if _, err := os.Stat(filepath.Join(dir, "aufile.so")); err == nil {
			return dir
		}
	}
	missing(t, "baresip has no modules")
	return ""
}

// newSoftphone starts a baresip that answers by itself.
func newSoftphone(t *testing.T, user, wav string) *softphone {
	t.Helper()
	need(t, "baresip")
	s := &softphone{t: t, dir: t.TempDir()}
	sip, ctrl, rtp := freePorts(t, 2), freePorts(t, 2), freePorts(t, 20)
	s.uri = fmt.Sprintf("sip:%s@%s", user, local(sip))
	conf := []string{
		"sip_listen " + local(sip), "net_interface 127.0.0.1", "call_max_calls 4",
		"audio_source aufile," + wav, "audio_player aubridge,nil", "audio_alert aubridge,nil", "audio_txmode thread",
		"ausrc_srate 8000", "auplay_srate 8000", "ausrc_channels 1", "auplay_channels 1",
		fmt.Sprintf("rtp_ports %d-%d", rtp, rtp+19), "ringback_disabled yes", "snd_path " + s.dir,
		"module_path " + modulesDir(t), "module g711.so", "module sndfile.so", "module aufile.so", "module aubridge.so",
		"module_tmp uuid.so", "module_tmp account.so", "module_app menu.so", "module_app ctrl_tcp.so", "ctrl_tcp_listen " + local(ctrl),
	}
	for name, text := range map[string]string{
		"config":   strings.Join(conf, "\n") + "\n",
		"accounts": "<" + s.uri + ">;regint=0;answermode=auto;audio_codecs=PCMU/8000/1,PCMA/8000/1\n",
		"contacts": "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
	}
	cmd := exec.Command("baresip", "-f", s.dir)
	cmd.Stdout, cmd.Stderr = s, s
	require.NoError(t, cmd.Start())
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		quit := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		quit.Stop()
		if s.ctrl != nil {
			_ = s.ctrl.Close()
		}
		work.Wait()
		if t.Failed() {
			t.Logf("baresip %s: %v\n%s", user, s.happened(), tail(s.log.String(), 4000))
		}
	})
	await(t, 20*time.Second, "baresip's control port", func() bool {
		var err error
		s.ctrl, err = net.Dial("tcp", local(ctrl))
		return err == nil
	})
	work.Go(s.listen)
	return s
}

// listen notes what baresip tells: netstrings of JSON.
func (s *softphone) listen() {
	in := bufio.NewReader(s.ctrl)
	for {
		size, err := in.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
		if err != nil {
			return
		}
		text := make([]byte, n+1) // and a comma
		if _, err := io.ReadFull(in, text); err != nil {
			return
		}
		var e struct{ Type, Param string }
		if json.Unmarshal(text[:n], &e) == nil && e.Type != "" {
			s.mu.Lock()
			s.events = append(s.events, e.Type)
			s.mu.Unlock()
		}
	}
}

func (s *softphone) happened() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// do gives a command such as dial, hold or sndcode.
func (s *softphone) do(command, params string) {
	s.t.Helper()
	text, err := json.Marshal(map[string]string{"command": command, "params": params})
	require.NoError(s.t, err)
	_, err = fmt.Fprintf(s.ctrl, "%d:%s,", len(text), text)
	require.NoError(s.t, err)
}

// established waits until a call is up.
func (s *softphone) established(within time.Duration) {
	s.t.Helper()
	await(s.t, within, "baresip's call is up", func() bool { return slices.Contains(s.happened(), "CALL_ESTABLISHED") })
}

// heard counts the 20 ms in which something sounds in what baresip heard.
func (s *softphone) heard() int {
	files, _ := filepath.Glob(filepath.Join(s.dir, "dump-*-dec.wav"))
	n := 0
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		audio, err := pcm.Open(f, pcm.Limits{MaxInput: 100 << 20, MaxOutput: time.Hour})
		for err == nil {
			sound := make([]int16, frame)
			var m int
			if m, err = audio.Read(sound); m > 0 && pcm.Level(sound[:m]) > -45 {
				n++
			}
		}
		_ = f.Close()
	}
	return n
}

// spoken is a WAV file of two minutes in which somebody speaks after a while:
// baresip hangs up at its end.
func spoken(t *testing.T, after time.Duration, text string) string {
	t.Helper()
	const length = 120 * pcm.Rate
	sound := make([]int16, length)
	at := int(after.Seconds() * pcm.Rate)
	if text != "" {
		f, err := os.Open(speechFile(t, "slt", text))
		require.NoError(t, err)
		defer f.Close()
		audio, err := pcm.Open(f, pcm.Limits{MaxInput: 10 << 20, MaxOutput: time.Minute})
		require.NoError(t, err)
		source := pcm.Resample(audio, pcm.Rate)
		for err == nil {
			var n int
			n, err = source.Read(sound[at:])
			at += n
		}
		require.ErrorIs(t, err, io.EOF)
	}
	name := filepath.Join(t.TempDir(), "spoken.wav")
	out, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, pcm.WriteWAV(out, pcm.Rate, 1, sound))
	require.NoError(t, out.Close())
	return name
}

func TestBaresipSpeaks(t *testing.T) {
	t.Parallel()
	needRecogniser(t)
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a, conf: listening})
	s := newSoftphone(t, "ada", spoken(t, 5*time.Second, "opening hours"))
	s.do("dial", "sip:1000@"+b.sip)
	s.established(20 * time.Second)
	said := a.await(t, 30*time.Second, "intent")
	require.Contains(t, said.payload, "hours_intent")
	before := s.heard()
	await(t, 20*time.Second, "answer heard", func() bool { return s.heard() > before+40 })
	s.do("hangup", "")
	require.Equal(t, "caller_hangup", b.ended(15*time.Second).value("end_class"))
	require.Contains(t, b.heard(), "nine to five")
}

func TestBaresipPressesAndHolds(t *testing.T) {
	t.Parallel()
	a := newAgent(t, long())
	b := serve(t, settings{agent: a})
	s := newSoftphone(t, "ada", spoken(t, 0, ""))
	s.do("dial", "sip:1000@"+b.sip)
	s.established(20 * time.Second)
	await(t, 20*time.Second, "prompt heard", func() bool { return s.heard() > 25 })
	s.do("hold", "")
	b.log.await(t, 15*time.Second, "caller holds")
	s.do("resume", "")
	b.log.await(t, 15*time.Second, "caller resumes")
	sent := func() float64 { return b.metric("ivrbridge_rtp_packets_total", `dir="out"`, `kind="audio"`) }
	before := sent()
	await(t, 20*time.Second, "sound sent again", func() bool { return sent() > before+50 })
	s.do("sndcode", "2")
	pressed := a.await(t, 15*time.Second, "intent")
	require.Contains(t, pressed.payload, "hours_intent")
	s.do("hangup", "")
	b.ended(15 * time.Second)
	require.Equal(t, []string{"launch", "intent"}, a.actions())
	require.InDelta(t, 1, b.metric("ivrbridge_dtmf_digits_total"), 0)
}

func TestBaresipObeysRefer(t *testing.T) {
	t.Parallel()
	anna := newSoftphone(t, "anna", spoken(t, 0, ""))
	a := newAgent(t, handover)
	b := serve(t, settings{agent: a, conf: "dial: {directory: {human: [\"" + anna.uri + "\"]}}"})
	ada := newSoftphone(t, "ada", spoken(t, 0, ""))
	ada.do("dial", "sip:1000@"+b.sip)
	ada.established(20 * time.Second)
	anna.established(30 * time.Second)
	a.await(t, 20*time.Second, "success")
	r := b.records(1)[0]
	require.Equal(t, record.Transferred, r.Class, r.Why)
	require.Equal(t, "connected", r.Transfers[0].Outcome)
}

func TestBaresipFindsNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t, handover)
	desk := demo(t, "--busy")
	b := serve(t, settings{agent: a, conf: human(desk.desk(), ", timeout: 10s")})
	ada := newSoftphone(t, "ada", spoken(t, 0, ""))
	ada.do("dial", "sip:1000@"+b.sip)
	a.await(t, 40*time.Second, "busy")
	before := ada.heard()
	await(t, 20*time.Second, "the flow heard again", func() bool { return ada.heard() > before+25 })
	ada.do("hangup", "")
	b.ended(15 * time.Second)
	require.Contains(t, b.heard(), "Everybody is busy.")
}
