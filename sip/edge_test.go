package sip

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
)

// TestAnswersOutsideDialogs sends one request each; the edits change a valid
// INVITE.
func TestAnswersOutsideDialogs(t *testing.T) {
	invite := func(old, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, to, 1) }
	}
	method := func(m string, extra ...string) func(string) string {
		return func(s string) string {
			s = strings.ReplaceAll(s, "INVITE", m)
			for _, e := range extra {
				s = strings.Replace(s, "Contact:", e+"\r\nContact:", 1)
			}
			return s
		}
	}
	for name, test := range map[string]struct {
		edit   func(string) string
		code   int
		header string // "Name: part of its value"
	}{
		"options":                {method("OPTIONS"), 200, "Allow: REFER"},
		"register":               {method("REGISTER", "Expires: 60"), 200, "Contact: expires=60"},
		"register too long":      {method("REGISTER", "Expires: 999999"), 200, "Expires: 7200"},
		"unregister":             {method("REGISTER", "Expires: 0"), 200, "Expires: 0"},
		"message":                {method("MESSAGE"), 405, "Allow: INVITE"},
		"subscribe":              {method("SUBSCRIBE"), 405, "Allow: INVITE"},
		"publish":                {method("PUBLISH"), 405, "Allow: INVITE"},
		"prack":                  {method("PRACK"), 405, "Allow: INVITE"},
		"unknown":                {method("JUMP"), 405, "Allow: INVITE"},
		"bye":                    {method("BYE"), 481, ""},
		"info":                   {method("INFO"), 481, ""},
		"update":                 {method("UPDATE"), 481, ""},
		"notify":                 {method("NOTIFY"), 481, ""},
		"refer":                  {method("REFER"), 403, ""},
		"foreign tag":            {invite("To: <sip:ivr@10.0.0.1>", "To: <sip:ivr@10.0.0.1>;tag=zz"), 481, ""},
		"require":                {method("INVITE", "Require: 100rel, x1", "Require: x2"), 420, "Unsupported: 100rel, x1, x2"},
		"norefersub is known":    {method("OPTIONS", "Require: norefersub"), 200, ""},
		"body type":              {invite("application/sdp", "text/plain"), 415, "Accept: application/sdp"},
		"encoding":               {method("INVITE", "Content-Encoding: gzip"), 415, "Accept-Encoding: identity"},
		"compact encoding":       {method("INVITE", "e: gzip"), 415, "Accept-Encoding: identity"},
		"accept":                 {method("INVITE", "Accept: text/plain"), 406, ""},
		"scheme":                 {invite("INVITE sip:ivr@10.0.0.1", "INVITE nobody:x"), 416, ""},
		"version":                {invite("SIP/2.0\r\n", "SIP/7.0\r\n"), 505, ""},
		"no hops left":           {invite("Max-Forwards: 70", "Max-Forwards: 0"), 483, ""},
		"options at last hop":    {func(s string) string { return method("OPTIONS")(strings.Replace(s, ": 70", ": 0", 1)) }, 200, ""},
		"hops":                   {invite("Max-Forwards: 70", "Max-Forwards: x"), 400, ""},
		"no contact":             {invite("Contact: <sip:al@10.0.0.2:5070>\r\n", ""), 400, ""},
		"contact":                {invite("Contact: <sip:al@10.0.0.2:5070>", "Contact: <mailto:a@b>"), 400, ""},
		"cseq method":            {invite("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"), 400, ""},
		"cseq number":            {invite("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE"), 400, ""},
		"two from":               {invite("To: ", "From: <sip:b@c>;tag=2\r\nTo: "), 400, ""},
		"two lengths":            {invite("Content-Length: ", "Content-Length: 5\r\nContent-Length: "), 400, ""},
		"negative length":        {invite("Content-Length: ", "Content-Length: -"), 400, ""},
		"long length":            {invite("Content-Length: ", "Content-Length: 9"), 400, ""},
		"header without a colon": {invite("To: ", "Nonsense\r\nTo: "), 400, ""},
		"no end of header":       {func(s string) string { h, _, _ := strings.Cut(s, "\r\n\r\n"); return h + "\r\n" }, 400, ""},
		"control character":      {invite("To: ", "X-A: a\x00b\r\nTo: "), 400, ""},
		"bracketed uri":          {invite("INVITE sip:ivr@10.0.0.1", "INVITE <sip:ivr@10.0.0.1>"), 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				p.send(test.edit(p.leg().req("INVITE", anySDP)))
				m := p.recv()
				require.Equal(t, test.code, m.code(), m.raw)
				require.NotEmpty(t, m.toTag())
				if test.header != "" {
					n, part, _ := strings.Cut(test.header, ": ")
					require.Contains(t, m.header(n), part)
				}
				require.InDelta(t, 1, r.counted("ivrbridge_sip_responses_total"), 0)
				synctest.Wait()
				r.clean()
			})
		})
	}
}

func TestMultipartBody(t *testing.T) {
	part := func(kind, disposition, body string) string {
		return "--b\r\nContent-Type: " + kind + "\r\n" + disposition + "\r\n" + body + "\r\n"
	}
	for name, test := range map[string]struct {
		body string
		sdp  string
		code int
	}{
		"sdp and isup": {part("application/isup", "Content-Disposition: signal;handling=optional\r\n", "\x01\x02") +
			part("application/sdp", "", anySDP) + "--b--\r\n", anySDP, 0},
		"sdp and required": {part("application/sdp", "", anySDP) + part("application/x", "", "y") + "--b--\r\n", anySDP, 0},
		"nested": {"--b\r\nContent-Type: multipart/alternative;boundary=c\r\n\r\n--c\r\nContent-Type: application/sdp\r\n\r\n" +
			anySDP + "\r\n--c--\r\n--b--\r\n", anySDP, 0},
		"only optional": {part("application/isup", "Content-Disposition: signal;handling=optional\r\n", "x") + "--b--\r\n", "", 0},
		"no sdp":        {part("application/x", "", "y") + "--b--\r\n", "", 415},
		"broken":        {"--b\r\nContent", "", 415},
		"empty":         {"--b--\r\n", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				p.send(p.leg().req("INVITE", test.body, "Content-Type: multipart/mixed;boundary=b"))
				if test.code != 0 {
					require.Equal(t, test.code, p.expect(strconv.Itoa(test.code)).code())
					return
				}
				require.Equal(t, test.sdp, string((<-r.calls).Offer()))
			})
		})
	}
}

func TestStrangersGetNoByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("192.0.2.2:5070")
		for _, m := range []string{"INVITE", "OPTIONS", "REGISTER", "BYE", "MESSAGE", "CANCEL", "ACK"} {
			p.send(p.leg().req(m, ""))
		}
		p.send("nonsense")
		p.silent(time.Minute)
		require.InDelta(t, 8, r.counted("ivrbridge_sip_dropped_total"), 0)
		require.NoError(t, r.server.SetTrunks(append(testTrunks(), trunkOf("new", "192.0.2.0/24"))))
		p.send(p.leg().req("OPTIONS", ""))
		require.Equal(t, 200, p.recv().code())
		p.send(p.leg().req("REGISTER", ""))
		require.Equal(t, 405, p.recv().code()) // Not a local trunk.
		p.send(p.leg().req("INVITE", anySDP))
		require.Equal(t, "new", (<-r.calls).Trunk())
	})
}

func TestCallLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 3
		r := newRig(t, nil, func(c *Config) { c.MaxCalls = func() int { return limit } })
		p := r.peer("10.0.0.2:5070")
		var last *leg
		for range limit {
			last, _ = r.answerCall(p, newMedia())
		}
		for range 20 {
			p.send(p.leg().req("INVITE", anySDP))
			m := p.recv()
			require.Equal(t, 503, m.code())
			n, err := strconv.Atoi(m.header("Retry-After"))
			require.NoError(t, err)
			require.True(t, n >= 2 && n <= 10)
			p.send(p.leg().req("OPTIONS", ""))
			require.Equal(t, 503, p.recv().code())
		}
		require.Equal(t, limit, r.server.Calls())
		p.send(last.req("BYE", ""))
		require.Equal(t, 200, p.recv().code())
		synctest.Wait()
		r.answerCall(p, newMedia())
	})
}

func TestShutdownDrainsThenHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l1, _ := r.answerCall(p, newMedia())
		_, c2 := r.answerCall(p, newMedia())
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() { done <- r.server.Shutdown(ctx) }()
		synctest.Wait()
		p.send(p.leg().req("INVITE", anySDP))
		m := p.recv()
		require.Equal(t, 503, m.code())
		require.NotEmpty(t, m.header("Retry-After"))
		p.send(p.leg().req("OPTIONS", ""))
		require.Equal(t, 503, p.recv().code())
		p.send(l1.req("BYE", ""))
		require.Equal(t, 200, p.recv().code())
		begin := time.Now()
		bye := p.recv()
		require.Equal(t, "BYE", bye.method())
		require.InDelta(t, 60, time.Since(begin).Seconds(), 1)
		require.ErrorIs(t, context.Cause(c2.Context()), ErrServerDown)
		p.send(answer(bye, 200, "OK", "", ""))
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
		require.Zero(t, r.server.Calls())
	})
}

func TestShutdownRefusesRingingCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		p.send(p.leg().req("INVITE", anySDP))
		<-r.calls
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, r.server.Shutdown(ctx), context.Canceled)
		require.Equal(t, 503, p.expect("503").code())
	})
}

// TestShutdownSendsCancels gives a call up while it rings and ends at once: the
// far end must not ring on.
func TestShutdownSendsCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		ctx, cancel := context.WithCancel(context.Background())
		done := r.invite(ctx, InviteRequest{}, newMedia())
		p.send(answer(p.recv(), 180, "Ringing", "f", ""))
		synctest.Wait()
		cancel()
		require.ErrorIs(t, (<-done).err, context.Canceled)
		require.NoError(t, r.server.Shutdown(ctx))
		require.Equal(t, "CANCEL", p.recv().method())
	})
}

func TestKeepAlivesAndJunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		for _, s := range []string{"\r\n\r\n", "\r\n", "\x00", "\x00\x00\x00\x00", "x", "SIP/2.0", "SIP/2.0 999 X\r\n\r\n", "INVITE", strings.Repeat("a", 20000)} {
			p.send(s)
		}
		p.send("SIP/2.0 200 OK\r\n\r\n")
		p.send(answer(text{raw: p.leg().req("INVITE", "")}, 200, "OK", "x", ""))
		p.silent(time.Minute)
		r.answerCall(p, newMedia())
	})
}

func TestReplyAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		via := r.peer("10.0.0.2:5099")
		req := p.leg().req("OPTIONS", "")
		// Without rport the port of the Via is used (RFC 3261 18.2.2).
		p.send(strings.Replace(req, "UDP 10.0.0.2:5070;", "UDP host.example:5099;", 1))
		require.Contains(t, via.recv().header("Via"), ";received=10.0.0.2")
		// With it, the source (RFC 3581).
		p.send(strings.Replace(req, "UDP 10.0.0.2:5070;branch=", "UDP 192.168.0.9:5099;rport;branch=2", 1))
		v := p.recv().header("Via")
		require.Contains(t, v, ";received=10.0.0.2")
		require.Contains(t, v, ";rport=5070")
		// Several hops in one line are echoed, the top one stamped.
		p.send(strings.Replace(req, "UDP 10.0.0.2:5070;branch=", "UDP 10.0.0.2:5070;branch=z9hG4bKa, SIP/2.0/TCP b.c;branch=", 1))
		require.Len(t, p.recv().headers("Via"), 2)
	})
}

func TestOldUserAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		old := func(s string) string { // RFC 2543: no cookie, no tag.
			s = strings.Replace(s, cookie, "", 1)
			return strings.Replace(s, ";tag="+l.tag, "", 1)
		}
		p.send(old(l.req("INVITE", anySDP)))
		c := <-r.calls
		require.NoError(t, c.Accept(context.Background(), newMedia()))
		l.remote = p.expect("200").toTag()
		p.send(old(l.req("ACK", "")))
		p.silent(time.Minute)
		p.send(old(l.req("BYE", "")))
		require.Equal(t, 200, p.recv().code())
	})
}

// torture reads the messages of RFC 4475 and RFC 5118 where they are at hand.
func torture(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/torture/*.dat")
	require.NoError(tb, err)
	more, err := filepath.Glob(os.Getenv("SIP_TORTURE") + "/*/*.dat")
	require.NoError(tb, err)
	all := make(map[string][]byte)
	for _, f := range append(files, more...) {
		b, err := os.ReadFile(f)
		require.NoError(tb, err)
		all[strings.TrimSuffix(filepath.Base(f), ".dat")] = b
	}
	return all
}

func TestTortureMessages(t *testing.T) {
	// What each valid request must at least lead to; a 4xx of the far end's
	// making is asked for by name in RFC 4475 3.1.2 and 3.3.
	want := map[string]int{
		"wsinv": 481, "intmeth": 405, "esc01": 0, "escnull": 200, "esc02": 405, "longreq": 0, "dblreq": 200, "semiuri": 200,
		"transports": 200, "mpart01": 405, "noreason": -1, "unreason": -1, "inv2543": 400,
		"badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "ltgtruri": 400, "lwsruri": 400, "lwsstart": 400,
		"escruri": 400, "badvers": 505, "mismatch01": 400, "mismatch02": 400, "unkscm": 416, "novelsc": 416, "unksm2": 400,
		"bext01": 420, "invut": 415, "regbadct": 400, "multi01": 400, "mcl01": 400, "zeromf": 200, "cparam01": 200,
		"cparam02": 200, "regescrt": 200, "sdp01": 406, "badbranch": 200, "insuf": 400, "quotbal": 400, "trws": 400, "ipv4-mapped-ipv6": 0,
		"mult-ip-in-header": 481, "bcast": -1, "baddn": 400, "ipv6-bad": 400, "ipv6-good": 200, "badaspec": 200, "regaut01": 200,
		"lwsdisp": 200, "baddate": 0, "port-ambiguous": 200, "port-unambiguous": 200, "mult-ip-in-sdp": 0, "ipv6-in-sdp": 0,
		"ipv6-bug-abnf-3-colons": 400, "via-received-param-with-delim": 481, "via-received-param-no-delim": 200, "scalarlg": -1, "bigcode": -1,
	}
	for name, data := range torture(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil, func(c *Config) { c.Log = quietLog() })
				p := r.peer("10.0.0.2:5060")
				var sent []text
				r.net.drop = func(_, to netip.AddrPort, data string) bool {
					if to.Addr() == p.at.Addr() {
						sent = append(sent, text{raw: data})
					}
					return false
				}
				p.send(string(data))
				synctest.Wait()
				code := -1
				for _, m := range sent {
					code = m.code()
					require.NotContains(t, m.raw, "\x00")
				}
				if code == 100 {
					code = 0
					require.Len(t, r.calls, 1)
				}
				if expected, ok := want[name]; ok {
					require.Equal(t, expected, code)
				} else {
					t.Logf("%s: %d", name, code)
				}
				p2 := r.peer("10.0.0.3:5060")
				p2.send(p2.leg().req("OPTIONS", ""))
				require.Equal(t, 200, p2.recv().code())
			})
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, data := range torture(f) {
		f.Add(data, false)
	}
	p := &peer{}
	f.Add([]byte(p.leg().req("INVITE", anySDP, "Record-Route: <sip:a;lr>,\r\n <sip:b;lr>")), true)
	f.Fuzz(func(t *testing.T, data []byte, stream bool) {
		m, err := scan(data, stream)
		if err != nil {
			return
		}
		again, err := scan(m.bytes(nil), true)
		require.NoError(t, err)
		require.Equal(t, m.method, again.method)
		require.True(t, bytes.Equal(m.body, again.body))
		for _, h := range m.headers {
			require.False(t, hasControl(h.Value))
		}
	})
}

// FuzzDatagram gives a running server what it likes; it must go on.
func FuzzDatagram(f *testing.F) {
	for _, data := range torture(f) {
		f.Add(data)
	}
	seed := (&peer{at: netip.MustParseAddrPort("10.0.0.2:5070")}).leg()
	for _, m := range []string{"INVITE", "CANCEL", "BYE", "REFER", "NOTIFY", "REGISTER"} {
		f.Add([]byte(seed.req(m, anySDP)))
	}
	network := newMemNet()
	s, err := NewServer(Config{Log: quietLog(), Trunks: testTrunks(), Handler: HandlerFunc(func(ctx context.Context, c *Call) {
		_ = c.Ring(ctx)
		_ = c.Accept(ctx, newMedia())
	})})
	require.NoError(f, err)
	done := make(chan error, 1)
	go func() { done <- s.ServePacket(context.Background(), network.listen("10.0.0.1:5060")) }()
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		require.NoError(f, <-done)
	})
	require.NoError(f, s.Ready(f.Context(), 1))
	from := route{transport: UDP, addr: netip.MustParseAddrPort("10.0.0.2:5070"), socket: netip.MustParseAddrPort("10.0.0.1:5060")}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, _ := s.vet(data, nil, from, func(res *gosip.Response) error { return checkMessage(res) })
		if out == nil {
			return
		}
		m, err := s.parser.ParseSIP(out)
		require.NoError(t, err)
		m.SetTransport("UDP")
		switch m := m.(type) {
		case *gosip.Request:
			s.onRequest(m, nil) // Unlike onMessage, it does not recover.
		case *gosip.Response:
			s.onResponse(m)
		}
	})
}
