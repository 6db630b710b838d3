package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/record"
)

// A wire is SIP over UDP by hand, for what a well-behaved peer cannot do.
type wire struct {
	t    *testing.T
	conn *net.UDPConn
	to   string
	at   string

	mu  sync.Mutex
	got []string
}

func (b *bridge) wire(t *testing.T) *wire {
	t.Helper()
	port := freePorts(t, 2)
	w := &wire{t: t, conn: udp(t, port), to: b.sip, at: local(port)}
	var work sync.WaitGroup
	work.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := w.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.got = append(w.got, string(buf[:n]))
			w.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = w.conn.Close()
		work.Wait()
		if t.Failed() {
			t.Logf("SIP received:\n%s", strings.Join(w.received(), "\n"))
		}
	})
	return w
}

func (w *wire) received() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// A request is what makes one differ from another.
type request struct {
	method, call, branch, toTag, more, body string
	cseq                                    int
}

func (w *wire) send(r request) {
	w.t.Helper()
	text := fmt.Sprintf("%s sip:1000@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:ada@%s>;tag=%s\r\nTo: <sip:1000@%s>%s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:ada@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		r.method, w.to, w.at, r.branch, w.at, r.call, w.to, r.toTag, r.call, r.cseq, r.method, w.at, r.more, len(r.body), r.body)
	to, err := net.ResolveUDPAddr("udp", w.to)
	require.NoError(w.t, err)
	_, err = w.conn.WriteToUDP([]byte(text), to)
	require.NoError(w.t, err)
}

func (w *wire) invite(call, branch string, e *earpiece) {
	w.t.Helper()
	w.send(request{method: "INVITE", call: call, branch: branch, cseq: 1, more: "Content-Type: application/sdp\r\n", body: offer(e)})
}

func offer(e *earpiece) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"+
		"a=rtpmap:101 telephone-event/8000\r\n", e.port)
}

// final waits for the final response to a request, by its branch and method.
func (w *wire) final(branch, method string) string {
	w.t.Helper()
	var found string
	await(w.t, 15*time.Second, "answer to "+method, func() bool {
		for _, m := range w.received() {
			if strings.HasPrefix(m, "SIP/2.0 ") && m[8] != '1' && strings.Contains(m, "branch=z9hG4bK"+branch) && strings.Contains(header(m, "CSeq"), method) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func status(m string) string { return strings.Fields(m)[1] }

func header(m, name string) string {
	for line := range strings.SplitSeq(m, "\r\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}

// tag is the To tag of a response, with its semicolon.
func tag(m string) string {
	_, after, _ := strings.Cut(header(m, "To"), ";tag=")
	return ";tag=" + after
}

// end acknowledges an answer and hangs up.
func (w *wire) end(call, branch, answer string) {
	w.t.Helper()
	w.send(request{method: "ACK", call: call, branch: branch + "a", toTag: tag(answer), cseq: 1})
	w.send(request{method: "BYE", call: call, branch: branch + "b", toTag: tag(answer), cseq: 2})
	require.Equal(w.t, "200", status(w.final(branch+"b", "BYE")))
}

// CANCEL crosses the answer: either the INVITE ends with 487 or the call is up,
// and never both. Each of the calls has a record.
func TestCancelCrossesAnswer(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	e := newEarpiece(t, false)
	answered := 0
	for i := range 12 {
		call := fmt.Sprintf("cancel-%d", i)
		w.invite(call, call, e)
		w.send(request{method: "CANCEL", call: call, branch: call, cseq: 1})
		require.Equal(t, "200", status(w.final(call, "CANCEL")))
		final := w.final(call, "INVITE")
		if status(final) == "200" {
			answered++
			w.end(call, call, final)
			continue
		}
		require.Equal(t, "487", status(final))
		w.send(request{method: "ACK", call: call, branch: call, toTag: tag(final), cseq: 1})
	}
	gaveUp := 0
	for _, r := range b.records(12) {
		require.Equal(t, record.CallerHangup, r.Class, r.Why)
		if r.Why == "the caller gave up before the answer" {
			gaveUp++
			require.Zero(t, r.Answered)
			require.Empty(t, r.Turns)
		}
	}
	require.Equal(t, 12-answered, gaveUp)
	t.Logf("%d of 12 were answered first", answered)
}

// The same INVITE by two ways is one call (RFC 3261 section 8.2.2.2).
func TestMergedInvite(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	e := newEarpiece(t, false)
	w.invite("merged", "first", e)
	w.invite("merged", "second", e)
	require.Equal(t, "482", status(w.final("second", "INVITE")))
	answer := w.final("first", "INVITE")
	require.Equal(t, "200", status(answer))
	w.end("merged", "first", answer)
	require.Len(t, b.records(1), 1)
}

// A repeated INVITE is answered as before, and is no second call.
func TestRepeatedInvite(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	e := newEarpiece(t, false)
	for range 3 {
		w.invite("again", "again", e)
	}
	answer := w.final("again", "INVITE")
	w.invite("again", "again", e)
	w.end("again", "again", answer)
	require.Len(t, b.records(1), 1)
	for _, m := range w.received() {
		if strings.Contains(header(m, "CSeq"), "INVITE") && status(m) == "200" {
			require.Equal(t, tag(answer), tag(m))
		}
	}
}

// Requests in the dialog that are wrong are refused, and the call goes on.
func TestWrongRequestsInDialog(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a})
	w := b.wire(t)
	e := newEarpiece(t, false)
	w.invite("call", "invite", e)
	answer := w.final("invite", "INVITE")
	require.Equal(t, "200", status(answer))
	to := tag(answer)
	w.send(request{method: "ACK", call: "call", branch: "ack", toTag: to, cseq: 1})
	for _, c := range []struct {
		name, want string
		r          request
	}{
		{"a key by INFO", "200", request{method: "INFO", cseq: 5, more: "Content-Type: application/dtmf-relay\r\n", body: "Signal=2\r\nDuration=160\r\n"}},
		{"a lower CSeq", "500", request{method: "INFO", cseq: 4, more: "Content-Type: application/dtmf-relay\r\n", body: "Signal=2\r\nDuration=160\r\n"}},
		{"another type", "415", request{method: "INFO", cseq: 6, more: "Content-Type: text/plain\r\n", body: "hello"}},
		{"no type", "", request{method: "INFO", cseq: 7, body: "hello"}},
		{"an unknown extension", "420", request{method: "INFO", cseq: 8, more: "Require: teleport\r\n"}},
		{"an unknown method", "405", request{method: "JUMP", cseq: 9}},
		{"a REFER", "603", request{method: "REFER", cseq: 10, more: "Refer-To: <sip:eve@127.0.0.1>\r\n"}},
		{"a NOTIFY of nothing", "481", request{method: "NOTIFY", cseq: 11, more: "Event: refer\r\nSubscription-State: active\r\n"}},
		{"a strange tag", "481", request{method: "BYE", cseq: 12, toTag: ";tag=nobody"}},
		{"OPTIONS", "200", request{method: "OPTIONS", cseq: 13}},
	} {
		c.r.call = "call"
		c.r.branch = strings.ReplaceAll(c.name, " ", "-")
		if c.r.toTag == "" {
			c.r.toTag = to
		}
		w.send(c.r)
		got := status(w.final(c.r.branch, c.r.method))
		if c.want != "" {
			require.Equal(t, c.want, got, c.name)
		} else {
			require.GreaterOrEqual(t, got, "200", c.name)
		}
	}
	a.await(t, 10*time.Second, "intent")
	require.Equal(t, []string{"launch", "intent"}, a.actions(), "the one key by INFO counts")
	w.send(request{method: "BYE", call: "call", branch: "bye", toTag: to, cseq: 20})
	require.Equal(t, "200", status(w.final("bye", "BYE")))
}

// Sources that no trunk admits get no answer.
func TestStrangersGetNoAnswer(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a, trunks: "- {name: carrier, peers: [127.0.0.9]}\n"})
	w := b.wire(t)
	e := newEarpiece(t, false)
	for i, method := range []string{"OPTIONS", "INVITE", "REGISTER", "BYE", "JUMP"} {
		w.send(request{method: method, call: "stranger", branch: method, cseq: i + 1, more: "Content-Type: application/sdp\r\n", body: offer(e)})
	}
	await(t, 10*time.Second, "drops counted", func() bool { return b.metric("ivrbridge_sip_dropped_total") >= 5 })
	require.Empty(t, w.received())
	require.Empty(t, a.turns())
}

// asked waits for a request of the far end.
func (w *wire) asked(within time.Duration, method string) string {
	w.t.Helper()
	var found string
	await(w.t, within, method+" comes", func() bool {
		all := w.received()
		i := slices.IndexFunc(all, func(m string) bool { return strings.HasPrefix(m, method+" ") })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// answer responds to a request of the far end.
func (w *wire) answer(request, line string) {
	w.t.Helper()
	lines := []string{"SIP/2.0 " + line}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+header(request, name))
	}
	text := strings.Join(append(lines, "Contact: <sip:ada@"+w.at+">", "Content-Length: 0", "", ""), "\r\n")
	to, err := net.ResolveUDPAddr("udp", w.to)
	require.NoError(w.t, err)
	_, err = w.conn.WriteToUDP([]byte(text), to)
	require.NoError(w.t, err)
}

// News of a transfer may overtake the acceptance of the REFER.
func TestNotifyBeforeAccepted(t *testing.T) {
	t.Parallel()
	a := newAgent(t, handover)
	b := serve(t, settings{agent: a, conf: human("192.0.2.5:5060", ", timeout: 8s")})
	w := b.wire(t)
	w.invite("early", "early", newEarpiece(t, false))
	answer := w.final("early", "INVITE")
	w.send(request{method: "ACK", call: "early", branch: "ack", toTag: tag(answer), cseq: 1})
	refer := w.asked(20*time.Second, "REFER")
	w.send(request{
		method: "NOTIFY", call: "early", branch: "notify", toTag: tag(answer), cseq: 2,
		more: "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\nContent-Type: message/sipfrag\r\n", body: "SIP/2.0 486 Busy Here\r\n",
	})
	require.Equal(t, "200", status(w.final("notify", "NOTIFY")))
	w.answer(refer, "202 Accepted")
	a.await(t, 15*time.Second, "busy")
	w.send(request{method: "BYE", call: "early", branch: "bye", toTag: tag(answer), cseq: 3})
	require.Equal(t, "200", status(w.final("bye", "BYE")))
	require.Equal(t, []string{"launch", "busy"}, a.actions())
}

// A bridge that is full says so, and when to try again.
func TestFullBridgeRefuses(t *testing.T) {
	t.Parallel()
	a := newAgent(t, menu)
	b := serve(t, settings{agent: a, sip: "max_calls: 1"})
	w := b.wire(t)
	e := newEarpiece(t, false)
	end := w.up("first", e)
	require.Equal(t, 503, b.status("/readyz"))
	w.invite("second", "second", e)
	refused := w.final("second", "INVITE")
	require.Equal(t, "503", status(refused))
	require.NotEmpty(t, header(refused, "Retry-After"))
	w.send(request{method: "ACK", call: "second", branch: "second", toTag: tag(refused), cseq: 1})
	end()
	await(t, 10*time.Second, "ready again", func() bool { return b.status("/readyz") == 200 })
	w.up("third", e)()
}
