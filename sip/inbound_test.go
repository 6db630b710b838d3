package sip

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestInboundCallRingsAnswersAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(l.req("INVITE", anySDP, "X-Test: 1", "k: timer"))
		c := <-r.calls
		require.Equal(t, 100, p.recv().code())
		require.NoError(t, c.Ring(context.Background()))
		ring := p.recv()
		require.Equal(t, 180, ring.code())
		require.NotEmpty(t, ring.toTag())
		require.Equal(t, "Al", c.From().Display)
		require.Equal(t, "al", c.From().User)
		require.Equal(t, "ivr", c.RequestURI().User)
		require.Equal(t, []string{"1"}, c.Header("x-test"))
		require.Equal(t, []string{"timer"}, c.Header("Supported"))
		require.Equal(t, anySDP, string(c.Offer()))
		require.Equal(t, "local", c.Trunk())

		m := newMedia()
		require.NoError(t, c.Accept(context.Background(), m))
		ok := p.recv()
		require.Equal(t, 200, ok.code())
		require.Equal(t, ring.toTag(), ok.toTag())
		require.Equal(t, anySDP, ok.body())
		require.Equal(t, "<sip:ivr@10.0.0.1:5060>", ok.header("Contact"))
		require.Contains(t, ok.header("Allow"), "REFER")
		l.remote = ok.toTag()
		p.send(l.req("ACK", ""))
		p.silent(time.Minute)

		p.send(l.req("BYE", "", `Reason: SIP;cause=200, Q.850;cause=16;text="bye \"now\""`))
		require.Equal(t, 200, p.recv().code())
		<-c.Context().Done()
		require.ErrorIs(t, context.Cause(c.Context()), ErrRemoteBye)
		require.Equal(t, Reason{"Q.850", 16, `bye "now"`}, c.EndReason())
		synctest.Wait()
		require.Zero(t, r.server.Calls())
		require.Zero(t, r.server.dialogs.len())
		p.send(l.req("BYE", ""))
		require.Equal(t, 481, p.recv().code())
		time.Sleep(33 * time.Second)
		r.clean()
	})
}

func TestMissingAckRepeatsAnswerThenHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(l.req("INVITE", anySDP))
		c := <-r.calls
		p.recv() // 100
		begin := time.Now()
		require.NoError(t, c.Accept(context.Background(), newMedia()))
		var at []time.Duration
		for {
			m := p.recv()
			if m.method() == "BYE" {
				require.Equal(t, 32*time.Second, m.at.Sub(begin))
				p.send(answer(m, 200, "OK", "", ""))
				break
			}
			require.Equal(t, 200, m.code())
			at = append(at, m.at.Sub(begin))
		}
		half := 500 * time.Millisecond
		require.Equal(t, []time.Duration{
			0, half, 3 * half, 7 * half, 15 * half, 23 * half, 31 * half, 39 * half, 47 * half, 55 * half, 63 * half,
		}, at)
		require.ErrorIs(t, context.Cause(c.Context()), ErrNoAck)
		synctest.Wait()
		require.Zero(t, r.server.dialogs.len())
		_ = l
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(l.req("INVITE", anySDP))
		c := <-r.calls
		p.recv()
		require.NoError(t, c.Ring(context.Background()))
		tag := p.expect("180").toTag()
		p.send(l.req("CANCEL", "", "Reason: SIP;cause=200;text=\"Call completed elsewhere\""))
		ok := p.recv()
		require.Equal(t, 200, ok.code())
		require.Contains(t, ok.header("CSeq"), "CANCEL")
		require.Equal(t, tag, ok.toTag())
		refused := p.recv()
		require.Equal(t, 487, refused.code())
		require.Equal(t, tag, refused.toTag())
		synctest.Wait()
		require.ErrorIs(t, context.Cause(c.Context()), ErrCancelled)
		require.Equal(t, 200, c.EndReason().Cause)
		require.ErrorIs(t, c.Accept(context.Background(), newMedia()), ErrCancelled)
		// Repeated until its ACK, which has the INVITE's branch.
		require.Equal(t, 487, p.recv().code())
		ack := strings.Replace(l.req("ACK", ""), "branch="+cookie, "branch="+l.branch+";x=", 1)
		p.send(ack)
		p.silent(40 * time.Second)

		// After the answer, CANCEL has no effect.
		l2, c2 := r.answerCall(p, newMedia())
		p.send(l2.req("CANCEL", ""))
		require.Equal(t, 200, p.recv().code())
		synctest.Wait()
		require.NoError(t, c2.Context().Err())
		// One for nothing.
		p.send(p.leg().req("CANCEL", ""))
		require.Equal(t, 481, p.recv().code())
	})
}

func TestInviteIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		invite := l.req("INVITE", anySDP)
		p.send(invite)
		c := <-r.calls
		require.Equal(t, 100, p.recv().code())
		p.send(invite)
		require.Equal(t, 100, p.recv().code())
		require.NoError(t, c.Ring(context.Background()))
		require.Equal(t, 180, p.recv().code())
		p.send(invite)
		require.Equal(t, 180, p.recv().code())
		// The same request by another way (RFC 3261 8.2.2.2).
		p.send(strings.Replace(invite, l.branch, cookie+"other", 1))
		require.Equal(t, 482, p.recv().code())
		synctest.Wait()
		require.Empty(t, r.calls)
		require.NoError(t, c.Reject(486, ""))
		require.Equal(t, 486, p.recv().code())
		require.ErrorIs(t, context.Cause(c.Context()), ErrRejected)
	})
}

func TestHangupWaitsForAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(l.req("INVITE", anySDP))
		c := <-r.calls
		p.recv()
		require.NoError(t, c.Accept(context.Background(), newMedia()))
		ok := p.expect("200")
		l.remote = ok.toTag()
		c.Hangup(Cause{Reason: Reason{"Q.850", 16, "bye"}, Headers: []Header{{"X-Note", "a"}}})
		require.ErrorIs(t, context.Cause(c.Context()), ErrLocalBye)
		require.Equal(t, 200, p.recv().code()) // RFC 3261 15: no BYE yet.
		p.send(l.req("ACK", ""))
		bye := p.recv()
		require.Equal(t, "BYE", bye.method())
		require.Equal(t, `Q.850;cause=16;text="bye"`, bye.header("Reason"))
		require.Equal(t, "a", bye.header("X-Note"))
		require.Equal(t, "BYE sip:al@10.0.0.2:5070 SIP/2.0", bye.start())
		// A BYE of theirs crosses.
		p.send(l.req("BYE", ""))
		require.Equal(t, 200, p.recv().code())
		p.send(answer(bye, 200, "OK", "", ""))
		synctest.Wait()
		require.Zero(t, r.server.dialogs.len())
	})
}

func TestDelayedOffer(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		fail error
		good bool
	}{
		"answered":   {body: anySDP, good: true},
		"no answer":  {},
		"bad answer": {body: anySDP, fail: errors.New("no codec")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				l := p.leg()
				p.send(l.req("INVITE", ""))
				c := <-r.calls
				require.Nil(t, c.Offer())
				m := newMedia()
				m.hook = func(_ context.Context, what string) error {
					if what == "accept" {
						return test.fail
					}
					return nil
				}
				require.NoError(t, c.Accept(context.Background(), m))
				ok := p.expect("200")
				require.Equal(t, anySDP, ok.body())
				l.remote = ok.toTag()
				p.send(l.req("ACK", test.body))
				if !test.good {
					require.Equal(t, "BYE", p.recv().method())
					require.ErrorIs(t, context.Cause(c.Context()), ErrBadAnswer)
					return
				}
				synctest.Wait()
				require.NoError(t, c.Context().Err())
				_, accepted := m.seen()
				require.Equal(t, []string{anySDP}, accepted)
			})
		})
	}
}

func TestRefusalsOfNegotiator(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int
	}{
		"status error": {&StatusError{Code: 488, Warning: "no codec"}, 488},
		"other error":  {errors.New("no port"), 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				p.send(p.leg().req("INVITE", anySDP))
				c := <-r.calls
				p.recv()
				m := newMedia()
				m.err = test.err
				require.ErrorIs(t, c.Accept(context.Background(), m), test.err)
				require.Equal(t, test.code, p.recv().code())
				require.ErrorIs(t, context.Cause(c.Context()), ErrRejected)
			})
		})
	}
}

func TestPanicEndsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan *Call, 8)
		r := newRig(t, HandlerFunc(func(ctx context.Context, c *Call) {
			if c.From().User == "al" && len(c.Header("X-Panic")) > 0 {
				if c.Header("X-Panic")[0] == "later" {
					_ = c.Accept(ctx, newMedia())
				}
				panic("boom")
			}
			calls <- c
			<-ctx.Done()
		}), func(c *Config) { c.Log = quietLog() })
		r.calls = calls
		p := r.peer("10.0.0.2:5070")
		_, good := r.answerCall(p, newMedia())
		p.send(p.leg().req("INVITE", anySDP, "X-Panic: now"))
		require.Equal(t, 500, p.expect("500").code())
		l := p.leg()
		p2 := r.peer("10.0.0.3:5070")
		l.p = p2
		p2.send(l.req("INVITE", anySDP, "X-Panic: later"))
		ok := p2.expect("200")
		l.remote = ok.toTag()
		p2.send(l.req("ACK", ""))
		bye := p2.recv()
		require.Equal(t, "BYE", bye.method())
		require.Contains(t, bye.header("Reason"), "SIP;cause=500")
		require.NoError(t, good.Context().Err())
	})
}

// TestHangupWhileTheAnswerLeaves hangs up between the 200 and the bookkeeping
// behind it: the caller must hear of it all the same.
func TestHangupWhileTheAnswerLeaves(t *testing.T) {
	for _, acknowledged := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.peer("10.0.0.2:5070")
			l := p.leg()
			p.send(l.req("INVITE", anySDP))
			c := <-r.calls
			r.net.drop = func(_, _ netip.AddrPort, data string) bool {
				if strings.HasPrefix(data, "SIP/2.0 200") {
					c.Hangup(Cause{})
				}
				return false
			}
			_ = c.Accept(context.Background(), newMedia())
			ok := p.expect("200")
			l.remote = ok.toTag()
			if acknowledged {
				p.send(l.req("ACK", ""))
			}
			bye := p.recv()
			for ; bye.method() != "BYE"; bye = p.recv() {
				require.False(t, acknowledged)
				require.Equal(t, 200, bye.code())
			}
			p.send(answer(bye, 200, "OK", "", ""))
			time.Sleep(time.Minute)
			r.clean()
		})
	}
}
