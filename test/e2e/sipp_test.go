package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/record"
)

// sipp plays a scenario of testdata/sipp against the bridge and returns the RTP
// end that its descriptions name.
func (b *bridge) sipp(t *testing.T, scenario string, args ...string) *earpiece {
	t.Helper()
	need(t, "sipp")
	e := newEarpiece(t, false)
	dir := t.TempDir()
	errs, messages := filepath.Join(dir, "errors"), filepath.Join(dir, "messages")
	cmd := exec.Command("sipp", append([]string{
		"-sf", filepath.Join("testdata", "sipp", scenario+".xml"), "-s", "1000", "-m", "1", "-l", "1", "-nostdin",
		"-i", "127.0.0.1", "-p", strconv.Itoa(freePorts(t, 2)), "-cp", strconv.Itoa(freePorts(t, 2)), "-key", "rtp", strconv.Itoa(e.port),
		"-recv_timeout", "15000", "-timeout", "80", "-timeout_error", "-trace_err", "-error_file", errs, "-trace_msg", "-message_file", messages,
		b.sip,
	}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=dumb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		for _, f := range []string{errs, messages} {
			text, _ := os.ReadFile(f)
			t.Logf("%s:\n%s", filepath.Base(f), tail(string(text), 12000))
		}
		require.NoError(t, err, "%s", tail(string(out), 2000))
	}
	return e
}

func TestSippBasicCall(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"u1", "t1"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, menu)
			b := serve(t, settings{agent: a})
			e := b.sipp(t, "basic", "-t", transport)
			all := e.packets()
			require.Greater(t, len(all), 40)
			requireOneStream(t, all)
			require.Positive(t, loud(all), "the welcome is heard")
			require.Equal(t, "caller_hangup", b.ended(10*time.Second).value("end_class"))
			require.Equal(t, []string{"launch"}, a.actions())
		})
	}
}

func TestSippLateOffer(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	e := b.sipp(t, "late_offer")
	all := e.packets()
	require.Greater(t, len(all), 40)
	for _, p := range all {
		require.EqualValues(t, 8, p.payload, "the answer takes PCMA alone")
	}
}

func TestSippLostAck(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	began := time.Now()
	e := b.sipp(t, "no_ack")
	took := time.Since(began)
	require.Greater(t, took, 28*time.Second, "64 T1 are 32 s")
	require.Less(t, took, 50*time.Second)
	require.Greater(t, len(e.packets()), 100, "media runs meanwhile")
	end := b.ended(10 * time.Second)
	require.Equal(t, "client_error", end.value("end_class"))
	require.Contains(t, end.value("why"), "never acknowledged")
	require.GreaterOrEqual(t, b.metric("ivrbridge_sip_retransmissions_total"), 7.0)
}

func TestSippHold(t *testing.T) {
	t.Parallel()
	a := newAgent(t, long())
	b := serve(t, settings{agent: a})
	e := b.sipp(t, "hold")
	require.GreaterOrEqual(t, len(e.gaps(time.Second)), 3, "nothing is sent while held")
	all := e.packets()
	last := all[len(all)-1].at
	tail := all
	for i, p := range all {
		if last.Sub(p.at) < 2*time.Second {
			tail = all[i:]
			break
		}
	}
	require.Greater(t, loud(tail), 20, "the prompt goes on after the last hold")
	requireOneStream(t, all)
	require.Len(t, b.log.find("caller holds"), 3)
	require.Len(t, b.log.find("caller resumes"), 3)
	require.Equal(t, []string{"launch"}, a.actions())
}

func TestSippReoffers(t *testing.T) {
	t.Parallel()
	a := newAgent(t, long())
	b := serve(t, settings{agent: a})
	for _, scenario := range []string{"reoffer_without_offer", "reoffer_refused"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			e := b.sipp(t, scenario)
			requireOneStream(t, e.packets())
			require.Empty(t, e.gaps(time.Second), "the prompt plays throughout")
		})
	}
}

func TestSippRefusals(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	for _, scenario := range []string{
		"options", "unknown_method", "require", "no_dialog", "content_type", "no_codec", "no_audio", "bad_sdp",
	} {
		t.Run(scenario, func(t *testing.T) { b.sipp(t, scenario) })
	}
	for _, r := range b.records(3) {
		require.Equal(t, record.ClientError, r.Class, r.Why)
	}
}

// referred is a call of sipp's that the flow hands over at once.
func referred(t *testing.T, scenario string) (*agent, *bridge, *earpiece) {
	t.Helper()
	a := newAgent(t, handover)
	b := serve(t, settings{agent: a, conf: human("192.0.2.5:5060", ", timeout: 4s")})
	e := b.sipp(t, scenario)
	b.ended(10 * time.Second)
	return a, b, e
}

func transferOf(b *bridge) string {
	r := b.records(1)[0]
	if len(r.Transfers) == 0 {
		return ""
	}
	return r.Transfers[0].Outcome
}

func TestSippReferConnected(t *testing.T) {
	t.Parallel()
	a, b, _ := referred(t, "refer_connected")
	require.Equal(t, []string{"launch", "success"}, a.actions())
	require.Equal(t, "connected", transferOf(b))
	require.Equal(t, record.Transferred, b.records(1)[0].Class)
}

func TestSippReferBusy(t *testing.T) {
	t.Parallel()
	a, b, e := referred(t, "refer_busy")
	require.Equal(t, []string{"launch", "busy"}, a.actions())
	require.Equal(t, "busy", transferOf(b))
	require.Contains(t, b.heard(), "Everybody is busy.")
	all := e.packets()
	require.Greater(t, loud(all[len(all)-140:]), 20, "the caller hears the flow again")
	require.Equal(t, record.CallerHangup, b.records(1)[0].Class)
}

func TestSippReferRefused(t *testing.T) {
	t.Parallel()
	for code, want := range map[string][2]string{
		"405": {"failed", "That did not work."}, "603": {"declined", "Nobody wants to."}, "500": {"failed", "That did not work."},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			a, b, _ := referred(t, "refer_"+code)
			require.Equal(t, []string{"launch", want[0]}, a.actions())
			require.Contains(t, b.heard(), want[1])
		})
	}
}

func TestSippReferWithoutWord(t *testing.T) {
	t.Parallel()
	a, b, _ := referred(t, "refer_silent")
	require.Equal(t, []string{"launch", "failed"}, a.actions())
	require.Equal(t, "unconfirmed", transferOf(b))
	require.Contains(t, b.heard(), "That did not work.")
	took := a.turns()[1].At.Sub(a.turns()[0].At)
	require.Greater(t, took, 4*time.Second, "dial.timeout")
	require.Less(t, took, 20*time.Second)
}

func TestSippReferThenBye(t *testing.T) {
	t.Parallel()
	a, b, _ := referred(t, "refer_bye")
	require.Equal(t, []string{"launch", "success"}, a.actions())
	require.Equal(t, record.Transferred, b.records(1)[0].Class)
	require.NotContains(t, b.log.String(), "turn failed")
}
