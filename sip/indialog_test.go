package sip

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReinviteFromFarEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		m := newMedia()
		l, c := r.answerCall(p, m)

		// With an offer, and a new Contact.
		hold := strings.Replace(anySDP, "RTP/AVP 0", "RTP/AVP 0\r\na=sendonly", 1)
		p.send(strings.Replace(l.req("INVITE", hold), "Contact: <sip:al@10.0.0.2:5070>", "Contact: <sip:moved@10.0.0.2:5070>", 1))
		ok := p.expect("200")
		require.Equal(t, anySDP, ok.body())
		require.Equal(t, 200, p.recv().code()) // Repeated until the ACK.
		p.send(l.req("ACK", ""))
		p.silent(40 * time.Second)
		answered, _ := m.seen()
		require.Equal(t, []string{anySDP, hold}, answered)
		require.Equal(t, "sip:moved@10.0.0.2:5070", c.RemoteTarget())

		// Without: our offer in the 200, their answer in the ACK.
		p.send(l.req("INVITE", ""))
		require.Equal(t, anySDP, p.expect("200").body())
		p.send(l.req("ACK", hold))
		synctest.Wait()
		_, accepted := m.seen()
		require.Equal(t, []string{hold}, accepted)

		// A refusal leaves the call up.
		m.mu.Lock()
		m.err = &StatusError{Code: 488}
		m.mu.Unlock()
		p.send(l.req("INVITE", hold))
		require.Equal(t, 488, p.expect("488").code())
		p.send(strings.Replace(l.req("ACK", ""), "branch="+cookie, "branch="+l.branch+";x=", 1))
		p.silent(40 * time.Second)
		require.NoError(t, c.Context().Err())
	})
}

func TestUnacknowledgedReinviteEndsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l, c := r.answerCall(p, newMedia())
		p.send(l.req("INVITE", anySDP))
		<-c.Context().Done()
		require.ErrorIs(t, context.Cause(c.Context()), ErrNoAck)
	})
}

func TestReinviteWhileOthersArePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		m := newMedia()
		l, c := r.answerCall(p, m)
		goOn := make(chan struct{})
		m.mu.Lock()
		m.hook = func(ctx context.Context, what string) error {
			select {
			case <-goOn:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		m.mu.Unlock()
		first := l.req("INVITE", anySDP)
		p.send(first)
		require.Equal(t, 100, p.recv().code())
		p.send(l.req("INVITE", anySDP))
		overlap := p.recv()
		require.Equal(t, 500, overlap.code())
		n, err := strconv.Atoi(overlap.header("Retry-After"))
		require.NoError(t, err)
		require.LessOrEqual(t, n, 10)
		// A BYE does not wait for the negotiator.
		p.send(l.req("BYE", ""))
		got := []int{p.recv().code(), p.recv().code()}
		for overlapping := 500; got[0] == overlapping || got[1] == overlapping; {
			got = append(got[1:], p.recv().code()) // The 500 is repeated: it had no ACK.
		}
		require.ElementsMatch(t, []int{200, 487}, got)
		require.ErrorIs(t, context.Cause(c.Context()), ErrRemoteBye)
	})
}

func TestGlare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l, c := r.answerCall(p, newMedia())
		done := make(chan error, 1)
		go func() { done <- c.Reoffer(context.Background(), newMedia()) }()
		inv := p.recv()
		require.Equal(t, "INVITE", inv.method())
		p.send(l.req("INVITE", anySDP))
		m := p.expect("491")
		require.NotEmpty(t, m.raw)
		p.send(strings.Replace(l.req("ACK", ""), "branch="+cookie, "branch="+l.branch+";x=", 1))
		begin := time.Now()
		p.send(answer(inv, 491, "Pending", "", ""))
		require.Equal(t, "ACK", p.recv().method())
		again := p.recv()
		require.Equal(t, "INVITE", again.method())
		require.LessOrEqual(t, again.at.Sub(begin), 2*time.Second) // We do not own the Call-ID.
		p.send(answer(again, 200, "OK", "", anySDP, "Contact: <sip:new@10.0.0.2:5070>"))
		require.Equal(t, "ACK sip:new@10.0.0.2:5070 SIP/2.0", p.recv().start())
		require.NoError(t, <-done)
	})
}

func TestReofferOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		ends bool
		bye  bool
	}{
		"refused":  {code: 488},
		"unknown":  {code: 481, ends: true},
		"timeout":  {code: 408, ends: true, bye: true},
		"silence":  {code: 0, ends: true, bye: true},
		"proxy 50": {code: 502},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				_, c := r.answerCall(p, newMedia())
				done := make(chan error, 1)
				go func() { done <- c.Reoffer(context.Background(), newMedia()) }()
				inv := p.recv()
				if test.code > 0 {
					p.send(answer(inv, test.code, "No", "", ""))
					require.Equal(t, "ACK", p.recv().method())
				}
				err := <-done
				require.Error(t, err)
				synctest.Wait()
				require.Equal(t, test.ends, c.Context().Err() != nil)
				if test.ends {
					require.ErrorIs(t, context.Cause(c.Context()), ErrDialogGone)
				}
				seen := false
				for len(p.in) > 0 {
					seen = (<-p.in).method() == "BYE" || seen
				}
				require.Equal(t, test.bye, seen)
			})
		})
	}
}

func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		m := newMedia()
		l, c := r.answerCall(p, m)
		p.send(strings.Replace(l.req("UPDATE", ""), "<sip:al@", "<sip:upd@", 2))
		require.Empty(t, p.expect("200").body())
		p.send(l.req("UPDATE", anySDP))
		require.Equal(t, anySDP, p.expect("200").body())
		m.mu.Lock()
		m.err = &StatusError{Code: 488}
		m.mu.Unlock()
		p.send(l.req("UPDATE", anySDP))
		require.Equal(t, 488, p.recv().code())
		require.NoError(t, c.Context().Err())
	})
}

func TestOrderOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l, c := r.answerCall(p, newMedia())
		l.seq += 10
		p.send(l.req("OPTIONS", ""))
		require.Equal(t, 200, p.recv().code())
		l.seq -= 5
		p.send(l.req("INFO", "x", "Content-Type: text/plain"))
		require.Equal(t, 500, p.recv().code())
		l.seq += 5
		// A burst of INFOs is delivered in order.
		for i := range 10 {
			p.send(l.req("INFO", fmt.Sprintf("Signal=%d\r\n", i), "Content-Type: application/dtmf-relay"))
		}
		for i := range 10 {
			q := <-c.Requests()
			require.Equal(t, "INFO", q.Method)
			require.Equal(t, "application/dtmf-relay", q.ContentType)
			require.Equal(t, fmt.Sprintf("Signal=%d\r\n", i), string(q.Body))
			require.NoError(t, q.Respond(200, ""))
			require.ErrorIs(t, q.Respond(200, ""), ErrState)
			require.Equal(t, 200, p.recv().code())
		}
		// One that nobody reads is answered all the same.
		p.send(l.req("INFO", "x", "Content-Type: text/plain"))
		begin := time.Now()
		require.Equal(t, 480, p.recv().code())
		require.Equal(t, askedTime, time.Since(begin))
		p.send(l.req("MESSAGE", "x", "Content-Type: text/plain"))
		m := p.recv()
		require.Equal(t, 405, m.code())
		require.Contains(t, m.header("Allow"), "INVITE")
		p.send(l.req("OPTIONS", "", "Require: foo"))
		m = p.recv()
		require.Equal(t, 420, m.code())
		require.Equal(t, "foo", m.header("Unsupported"))
		require.NoError(t, c.Context().Err())
	})
}

func TestInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		_, c := r.answerCall(p, newMedia())
		for _, test := range []struct {
			code int
			ends bool
		}{{200, false}, {415, false}, {481, true}} {
			done := make(chan error, 1)
			go func() { done <- c.Info(context.Background(), "application/dtmf-relay", []byte("Signal=5\r\n")) }()
			m := p.recv()
			require.Equal(t, "INFO", m.method())
			require.Equal(t, "Signal=5\r\n", m.body())
			p.send(answer(m, test.code, "X", "", ""))
			err := <-done
			require.Equal(t, test.code >= 300, err != nil)
			require.Equal(t, test.ends, c.Context().Err() != nil)
		}
	})
}

func TestRouteSetOfInboundCall(t *testing.T) {
	for name, test := range map[string]struct {
		routes []string
		uri    string
		route  []string
	}{
		"loose": {
			[]string{"<sip:10.0.0.2:5070;lr;a>", "<sip:10.0.0.7;lr>"},
			"sip:al@10.0.0.2:5070",
			[]string{"<sip:10.0.0.2:5070;lr;a>", "<sip:10.0.0.7;lr>"},
		},
		"strict": {
			[]string{"<sip:10.0.0.2:5070;a>", "<sip:10.0.0.7;lr>"},
			"sip:10.0.0.2:5070;a",
			[]string{"<sip:10.0.0.7;lr>", "<sip:al@10.0.0.2:5070>"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.2:5070")
				l := p.leg()
				p.send(l.req("INVITE", anySDP, "Record-Route: "+test.routes[0], "Record-Route: "+test.routes[1]))
				c := <-r.calls
				require.NoError(t, c.Accept(context.Background(), newMedia()))
				ok := p.expect("200")
				require.Equal(t, test.routes, ok.headers("Record-Route"))
				l.remote = ok.toTag()
				p.send(l.req("ACK", ""))
				synctest.Wait()
				c.Hangup(Cause{})
				bye := p.recv()
				require.Equal(t, "BYE "+test.uri+" SIP/2.0", bye.start())
				require.Equal(t, test.route, bye.headers("Route"))
			})
		})
	}
}

func TestPrivateContactGoesBackToSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(strings.Replace(l.req("INVITE", anySDP), "Contact: <sip:al@10.0.0.2:5070>", "Contact: <sip:al@192.168.1.5:5060>", 1))
		c := <-r.calls
		require.NoError(t, c.Accept(context.Background(), newMedia()))
		l.remote = p.expect("200").toTag()
		p.send(l.req("ACK", ""))
		synctest.Wait()
		c.Hangup(Cause{})
		require.Equal(t, "BYE sip:al@192.168.1.5:5060 SIP/2.0", p.recv().start())
	})
}
