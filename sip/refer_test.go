package sip

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type referred struct {
	out Outcome
	err error
}

func startRefer(ctx context.Context, c *Call, q ReferRequest, steps *[]int) <-chan referred {
	done := make(chan referred, 1)
	go func() {
		out, err := c.Refer(ctx, q, func(p Progress) { *steps = append(*steps, p.Status) })
		done <- referred{out, err}
	}()
	return done
}

func notify(l *leg, refer text, frag, state string) string {
	seq, _, _ := strings.Cut(refer.header("CSeq"), " ")
	return l.req("NOTIFY", frag, "Event: refer;id="+seq, "Subscription-State: "+state, "Content-Type: message/sipfrag;version=2.0")
}

// TestReferOutcomes plays the far end of a transfer in many ways. A script is a
// list of steps: "202", "N180" for a NOTIFY with active state, "T200" for one
// that terminates, "BYE", "wait".
func TestReferOutcomes(t *testing.T) {
	for script, want := range map[string]struct {
		out   Outcome
		steps []int
		ends  bool
	}{
		"202 N100 N180 T200":     {Outcome{200, true, true, false}, []int{100, 180, 200}, false},
		"202 N100 T486":          {Outcome{486, true, true, false}, []int{100, 486}, false},
		"N100 202 T200":          {Outcome{200, true, true, false}, []int{100, 200}, false},
		"202 N200":               {Outcome{200, true, true, false}, []int{200}, false},
		"202 T100":               {Outcome{100, true, true, false}, []int{100}, false},
		"202 N100 Tx":            {Outcome{100, true, true, false}, []int{100}, false},
		"202 N100 BYE wait":      {Outcome{100, true, false, true}, []int{100}, true},
		"202 BYE T200":           {Outcome{200, true, true, false}, []int{200}, true},
		"202 BYE wait":           {Outcome{0, true, false, true}, nil, true},
		"BYE wait":               {Outcome{0, false, false, true}, nil, true},
		"BYE 202":                {Outcome{0, true, false, true}, nil, true},
		"BYE 202 T486":           {Outcome{486, true, true, false}, []int{486}, true},
		"N100 T200":              {Outcome{200, true, true, false}, []int{100, 200}, false},
		"N180 wait":              {Outcome{180, true, false, false}, []int{180}, false},
		"N100 603":               {Outcome{603, false, true, false}, []int{100}, false},
		"603":                    {Outcome{603, false, true, false}, nil, false},
		"405":                    {Outcome{405, false, true, false}, nil, false},
		"481":                    {Outcome{481, false, true, false}, nil, true},
		"202 wait":               {Outcome{0, true, false, false}, nil, false},
		"202 N180 wait":          {Outcome{180, true, false, false}, []int{180}, false},
		"202 N100 N100 N180 Tx ": {Outcome{180, true, true, false}, []int{100, 100, 180}, false},
	} {
		t.Run(strings.TrimSpace(script), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				l, c := r.answerCall(p, newMedia())
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				var steps []int
				done := startRefer(ctx, c, ReferRequest{To: "sip:desk@10.0.0.9"}, &steps)
				refer := p.recv()
				require.Equal(t, "REFER", refer.method())
				require.Equal(t, "<sip:desk@10.0.0.9>", refer.header("Refer-To"))
				require.Equal(t, "<sip:ivr@10.0.0.1>", refer.header("Referred-By"))
				for step := range strings.FieldsSeq(script) {
					switch {
					case step == "wait":
						time.Sleep(31 * time.Second)
					case step == "BYE":
						p.send(l.req("BYE", ""))
						require.Equal(t, 200, p.recv().code())
					case step == "Tx":
						p.send(notify(l, refer, "", "terminated;reason=noresource"))
						require.Equal(t, 200, p.recv().code())
					case step[0] == 'N':
						p.send(notify(l, refer, "SIP/2.0 "+step[1:]+" Text\r\n", "active;expires=60"))
						require.Equal(t, 200, p.recv().code())
					case step[0] == 'T':
						p.send(notify(l, refer, "SIP/2.0 "+step[1:]+" Text\r\nContact: x\r\n", "terminated;reason=noresource"))
						require.Equal(t, 200, p.recv().code())
					default:
						var code int
						_, err := fmt.Sscan(step, &code)
						require.NoError(t, err)
						p.send(answer(refer, code, "X", "", ""))
					}
					synctest.Wait()
				}
				got := <-done
				require.NoError(t, got.err)
				require.Equal(t, want.out, got.out)
				require.Equal(t, want.steps, steps)
				require.Equal(t, want.ends, c.Context().Err() != nil)
				if want.ends {
					time.Sleep(33 * time.Second)
					r.clean()
					return
				}
				for len(p.in) > 0 {
					require.Equal(t, "REFER", p.recv().method(), "repeated where it is not answered")
				}
				// The subscription is gone.
				p.send(notify(l, refer, "SIP/2.0 200 OK\r\n", "active"))
				require.Equal(t, 481, p.expect("481").code())
			})
		})
	}
}

func TestReferChallengedAndRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, withAuth)
		p := r.peer("10.0.0.2:5070")
		l, c := r.answerCall(p, newMedia())
		var steps []int
		done := startRefer(context.Background(), c, ReferRequest{To: "tel:+14155550111"}, &steps)
		refer := p.recv()
		require.Equal(t, "REFER", p.recv().method()) // Timer E.
		p.send(answer(refer, 401, "Auth", "", "", `WWW-Authenticate: Digest realm="x", nonce="1"`))
		refer = p.recv()
		require.Contains(t, refer.header("Authorization"), `username="bridge"`)
		require.Equal(t, "<tel:+14155550111>", refer.header("Refer-To"))
		p.send(answer(refer, 202, "Accepted", "", ""))
		p.send(notify(l, refer, "SIP/2.0 200 OK\r\n", "terminated;reason=noresource"))
		require.True(t, (<-done).out.Success())
	})
}

func TestReferToIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		_, c := r.answerCall(p, newMedia())
		evil := []string{
			"a\r\nX-Injected: 1", "a\nX: 1", "a\rb", "a\x00b", "a\x1bb", "a\x7f", "\tb", "a>\r\n", strings.Repeat("a", 300),
		}
		for _, e := range evil {
			for _, q := range []ReferRequest{
				{To: "sip:" + e + "@h"},
				{To: "sip:u@" + e},
				{To: e},
				{To: "tel:" + e},
				{To: "sip:a@h", ReferredBy: "sip:" + e + "@h"},
				{To: "sip:a@h", Headers: []Header{{"X-A", e + strings.Repeat("b", 1024)}}},
				{To: "sip:a@h", Headers: []Header{{e + ":", "1"}}},
				{To: "sip:a@h", Headers: []Header{{"Refer-To", "1"}}},
				{To: "sip:a@h", Display: e + strings.Repeat("b", 128)},
				{To: "sip:a@h", ToHeaders: []Header{{"User-to-User", e + strings.Repeat("b", 1024)}}},
			} {
				_, err := c.Refer(context.Background(), q, nil)
				require.ErrorIs(t, err, ErrInvalid, "%+v", q)
			}
			_, err := r.server.Invite(context.Background(), InviteRequest{To: "sip:" + e + "@h", From: "sip:a@b"}, newMedia())
			require.Error(t, err)
			if hasControl(e) {
				require.ErrorIs(t, c.Reject(486, e), ErrInvalid)
			}
		}
		synctest.Wait()
		require.Empty(t, p.in)
		for to, want := range map[string]string{
			"sip:a b%41<>@h:5061;x=y": "<sip:a%20bA%3C%3E@h:5061;x=y>",
			"SIP:queue7@sbc":          "<sip:queue7@sbc>",
			"tel:+1-415;ext=5":        "<tel:+1-415;ext=5>",
			"sip:[2001:db8::1]:5060":  "<sip:[2001:db8::1]:5060>",
		} {
			ctx, cancel := context.WithCancel(context.Background())
			var steps []int
			done := startRefer(ctx, c, ReferRequest{To: to, ToHeaders: uui(to)}, &steps)
			m := p.recv()
			require.Equal(t, want, strings.Replace(m.header("Refer-To"), "?User-to-User=00FA%3Bencoding%3Dhex", "", 1))
			p.send(answer(m, 202, "Accepted", "", "", "Refer-Sub: false"))
			synctest.Wait()
			require.Empty(t, done, "a BYE may still tell of success")
			cancel()
			require.Equal(t, Outcome{Accepted: true}, (<-done).out)
		}
	})
}

func uui(to string) []Header {
	if strings.HasPrefix(to, "tel:") {
		return nil
	}
	return []Header{{"User-to-User", "00FA;encoding=hex"}}
}

func TestReceivedRefer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l, c := r.answerCall(p, newMedia())
		p.send(l.req("REFER", "", "r: \"Desk\" <sip:desk@10.0.0.9?Replaces=a%3Bto-tag%3Db>", "b: <sip:x@y>"))
		q := <-c.Requests()
		require.Equal(t, "REFER", q.Method)
		require.Equal(t, "sip:desk@10.0.0.9", q.ReferTo)
		require.Equal(t, []Header{{"Replaces", "a;to-tag=b"}}, q.ReferHeaders)
		require.Equal(t, "sip:x@y", q.ReferredBy)
		errs := make(chan error, 3)
		go func() {
			errs <- q.Accept(context.Background())
			errs <- q.Notify(context.Background(), 180, "")
			errs <- q.Notify(context.Background(), 486, "")
		}()
		require.Equal(t, 202, p.recv().code())
		for _, want := range []string{"100 Trying", "180 Ringing", "486 Busy Here"} {
			n := p.recv()
			require.Equal(t, "NOTIFY", n.method())
			require.Equal(t, "SIP/2.0 "+want+"\r\n", n.body())
			require.Equal(t, "refer;id=2", n.header("Event"))
			p.send(answer(n, 200, "OK", "", ""))
			require.NoError(t, <-errs)
			if strings.HasPrefix(want, "486") {
				require.Equal(t, "terminated;reason=noresource", n.header("Subscription-State"))
			} else {
				require.Contains(t, n.header("Subscription-State"), "active")
			}
		}
		require.ErrorIs(t, q.Notify(context.Background(), 200, ""), ErrState)
		p.send(l.req("REFER", ""))
		require.Equal(t, 400, p.recv().code())
		p.send(l.req("REFER", "", "Refer-To: <sip:a@b>"))
		require.Equal(t, 603, p.recv().code()) // Nobody reads.
	})
}

func TestNotifyForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l, _ := r.answerCall(p, newMedia())
		p.send(l.req("NOTIFY", "", "Event: refer", "Subscription-State: active"))
		require.Equal(t, 481, p.recv().code())
		p.send(l.req("NOTIFY", "", "Event: presence"))
		require.Equal(t, 489, p.recv().code())
		p.send(l.req("NOTIFY", ""))
		require.Equal(t, 489, p.recv().code())
	})
}

func TestTwoServersTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		in := make(chan *Call, 1)
		r.start(HandlerFunc(func(ctx context.Context, c *Call) {
			_ = c.Accept(ctx, newMedia())
			in <- c
			<-ctx.Done()
		}), "10.0.0.9:5070")
		got := <-r.invite(context.Background(), InviteRequest{}, newMedia())
		require.NoError(t, got.err)
		theirs := <-in
		synctest.Wait()
		var steps []int
		done := startRefer(context.Background(), got.call, ReferRequest{To: "sip:desk@10.0.0.7", Replaces: got.call}, &steps)
		q := <-theirs.Requests()
		require.Equal(t, "Replaces", q.ReferHeaders[0].Name)
		require.Equal(t, got.call.Replaces(), q.ReferHeaders[0].Value)
		require.NoError(t, q.Accept(context.Background()))
		require.NoError(t, q.Notify(context.Background(), 183, ""))
		require.NoError(t, q.Notify(context.Background(), 200, ""))
		require.True(t, (<-done).out.Success())
		require.Equal(t, []int{100, 183, 200}, steps)
	})
}
