package sip

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// placed is the result of an Invite in a goroutine.
type placed struct {
	call *Call
	err  error
}

func (r *rig) invite(ctx context.Context, q InviteRequest, n Negotiator) <-chan placed {
	if q.To == "" {
		q.To = "sip:bob@10.0.0.9:5070"
	}
	done := make(chan placed, 1)
	go func() {
		c, err := r.server.Invite(ctx, q, n)
		done <- placed{c, err}
	}()
	return done
}

func TestOutboundCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		var mu sync.Mutex
		var steps []Progress
		m := newMedia()
		done := r.invite(context.Background(), InviteRequest{
			From: "sip:+1 555@us.example", Display: `A "B"`, Trunk: "local", Headers: []Header{{"X-A", "1"}},
			Progress: func(p Progress) { mu.Lock(); defer mu.Unlock(); steps = append(steps, p) },
		}, m)
		inv := p.recv()
		require.Equal(t, "INVITE sip:bob@10.0.0.9:5070 SIP/2.0", inv.start())
		require.Contains(t, inv.header("From"), `"A \"B\"" <sip:+1%20555@us.example>;tag=`)
		require.Equal(t, "<sip:bob@10.0.0.9:5070>", inv.header("To"))
		require.Equal(t, "1", inv.header("X-A"))
		require.Equal(t, anySDP, inv.body())
		require.Equal(t, 500*time.Millisecond, p.recv().at.Sub(inv.at)) // Timer A.
		p.send(answer(inv, 100, "Trying", "", ""))
		p.send(answer(inv, 180, "Ringing", "f1", ""))
		p.send(answer(inv, 183, "Progress", "f2", anySDP))
		ok := answer(inv, 200, "OK", "f2", anySDP, "Contact: <sip:desk@10.0.0.9:5070;x=y>",
			"Record-Route: <sip:10.0.0.9:5070;lr;n=2>, <sip:10.0.0.9:5070;lr;n=1>", "Server: Desk/1")
		p.send(ok)
		ack := p.recv()
		require.Equal(t, "ACK sip:desk@10.0.0.9:5070;x=y SIP/2.0", ack.start())
		require.Equal(t, []string{"<sip:10.0.0.9:5070;lr;n=1>", "<sip:10.0.0.9:5070;lr;n=2>"}, ack.headers("Route"))
		require.Equal(t, strings.TrimSuffix(inv.header("CSeq"), " INVITE")+" ACK", ack.header("CSeq"))
		got := <-done
		require.NoError(t, got.err)
		c := got.call
		require.Equal(t, Outbound, c.Direction())
		require.Equal(t, "Desk/1", c.UserAgent())
		mu.Lock()
		require.Len(t, steps, 2)
		require.Equal(t, Progress{Status: 183, Reason: "Progress", Fork: "f2", SDP: []byte(anySDP)}, steps[1])
		mu.Unlock()
		_, accepted := m.seen()
		require.Equal(t, []string{anySDP}, accepted)

		p.send(ok) // Our ACK was lost.
		require.Equal(t, "ACK", p.recv().method())
		p.send(answer(inv, 200, "OK", "f3", anySDP, "Contact: <sip:other@10.0.0.9:5070>"))
		other := p.recv()
		require.Equal(t, "ACK sip:other@10.0.0.9:5070 SIP/2.0", other.start())
		bye := p.recv()
		require.Equal(t, "BYE sip:other@10.0.0.9:5070 SIP/2.0", bye.start())
		p.send(answer(bye, 200, "OK", "", ""))
		require.NoError(t, c.Context().Err())

		c.Hangup(Cause{})
		require.ErrorIs(t, context.Cause(c.Context()), ErrLocalBye)
		bye = p.recv()
		require.Equal(t, "BYE", bye.method())
		require.Contains(t, bye.header("To"), "tag=f2")
		p.send(answer(bye, 200, "OK", "", ""))
		synctest.Wait()
		require.Zero(t, r.server.dialogs.len())
		require.Zero(t, r.server.Calls())
		time.Sleep(33 * time.Second)
		r.clean()
	})
}

func TestInviteRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		done := r.invite(context.Background(), InviteRequest{}, newMedia())
		inv := p.recv()
		busy := answer(inv, 486, "Busy", "b", "", "Warning: 399 x \"on the phone\"", "Retry-After: 7")
		p.send(busy)
		require.Equal(t, "ACK", p.recv().method())
		got := <-done
		var se *StatusError
		require.ErrorAs(t, got.err, &se)
		require.Equal(t, &StatusError{486, "Busy", "on the phone", 7 * time.Second}, se)
		p.send(busy) // The ACK was lost: another one comes at once.
		require.Equal(t, "ACK", p.recv().method())

		begin := time.Now()
		done = r.invite(context.Background(), InviteRequest{To: "sip:x@10.9.9.9"}, newMedia())
		got = <-done
		require.ErrorIs(t, got.err, ErrNoResponse)
		require.Equal(t, 32*time.Second, time.Since(begin))
	})
}

func TestInviteCancelled(t *testing.T) {
	for name, test := range map[string]struct {
		ringing bool // 180 before the end of the context
		late    bool // 200 behind the CANCEL
	}{
		"before any answer": {},
		"while ringing":     {ringing: true},
		"crossing 200":      {ringing: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.peer("10.0.0.9:5070")
				ctx, cancel := context.WithCancel(context.Background())
				done := r.invite(ctx, InviteRequest{}, newMedia())
				inv := p.recv()
				if test.ringing {
					p.send(answer(inv, 180, "Ringing", "f", ""))
				}
				synctest.Wait()
				cancel()
				got := <-done
				require.ErrorIs(t, got.err, context.Canceled)
				if !test.ringing {
					synctest.Wait()
					require.Empty(t, p.in) // RFC 3261 9.1: not before a provisional response.
					p.send(answer(inv, 100, "Trying", "", ""))
				}
				can := p.recv()
				require.Equal(t, "CANCEL", can.method())
				require.Equal(t, inv.header("Via"), can.header("Via"))
				p.send(answer(can, 200, "OK", "f", ""))
				if test.late {
					p.send(answer(inv, 200, "OK", "f", anySDP, "Contact: <sip:desk@10.0.0.9:5070>"))
					require.Equal(t, "ACK", p.recv().method())
					bye := p.recv()
					require.Equal(t, "BYE", bye.method())
					p.send(answer(bye, 200, "OK", "", ""))
				} else {
					p.send(answer(inv, 487, "Terminated", "f", ""))
					require.Equal(t, "ACK", p.recv().method())
				}
				time.Sleep(65 * time.Second)
				require.Empty(t, p.in)
				r.clean()
			})
		})
	}
}

func TestLateOfferOutbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		m := newMedia()
		done := r.invite(context.Background(), InviteRequest{LateOffer: true}, m)
		inv := p.recv()
		require.Empty(t, inv.body())
		p.send(answer(inv, 200, "OK", "f", anySDP, "Contact: <sip:desk@10.0.0.9:5070>"))
		ack := p.recv()
		require.Equal(t, anySDP, ack.body())
		require.NoError(t, (<-done).err)
	})
}

func TestByeRightBehindAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		done := r.invite(context.Background(), InviteRequest{}, newMedia())
		inv := p.recv()
		p.send(answer(inv, 200, "OK", "f", anySDP, "Contact: <sip:desk@10.0.0.9:5070>"))
		l := &leg{p: p, callID: inv.header("Call-ID"), tag: "f", uri: "sip:ivrbridge@10.0.0.1"}
		_, l.remote, _ = strings.Cut(inv.header("From"), ";tag=")
		p.send(l.req("BYE", ""))
		var kinds []string
		for range 2 {
			m := p.recv()
			kinds = append(kinds, m.start())
		}
		require.ElementsMatch(t, []string{"ACK sip:desk@10.0.0.9:5070 SIP/2.0", "SIP/2.0 200 OK"}, kinds)
		got := <-done
		require.NoError(t, got.err)
		<-got.call.Context().Done()
		require.ErrorIs(t, context.Cause(got.call.Context()), ErrRemoteBye)
	})
}

func TestBadAnswerHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.9:5070")
		done := r.invite(context.Background(), InviteRequest{}, newMedia())
		inv := p.recv()
		p.send(answer(inv, 200, "OK", "f", "", "Contact: <sip:desk@10.0.0.9:5070>"))
		require.Equal(t, "ACK", p.recv().method())
		require.Equal(t, "BYE", p.recv().method())
		require.ErrorIs(t, (<-done).err, ErrBadAnswer)
	})
}

func withAuth(c *Config) {
	c.Trunks[0].Username, c.Trunks[0].Password = "bridge", secret.New("pw")
}

func TestInviteAnswersChallenges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, withAuth)
		p := r.peer("10.0.0.9:5070")
		done := r.invite(context.Background(), InviteRequest{Trunk: "local"}, newMedia())
		inv := p.recv()
		p.send(answer(inv, 407, "Auth", "a", "",
			`Proxy-Authenticate: Digest realm="x", nonce="n0", algorithm=AKAv1-MD5`,
			`Proxy-Authenticate: Digest realm="x", nonce="n1", algorithm=MD5, qop="auth"`,
			`Proxy-Authenticate: Digest realm="x", nonce="n2", algorithm=SHA-256, qop="auth-int, auth"`))
		require.Equal(t, "ACK", p.recv().method())
		inv2 := p.recv()
		require.Equal(t, inv.header("Call-ID"), inv2.header("Call-ID"))
		require.Equal(t, inv.header("From"), inv2.header("From"))
		require.NotEqual(t, inv.header("CSeq"), inv2.header("CSeq"))
		auth := inv2.header("Proxy-Authorization")
		require.Contains(t, auth, `algorithm=SHA-256`)
		require.Contains(t, auth, `nonce="n2"`)
		require.Contains(t, auth, `uri="sip:bob@10.0.0.9:5070"`)
		require.Contains(t, auth, `qop=auth,`)
		p.send(answer(inv2, 200, "OK", "f", anySDP, "Contact: <sip:desk@10.0.0.9:5070>"))
		require.Equal(t, auth, p.recv().header("Proxy-Authorization"))
		c := (<-done).call
		c.Hangup(Cause{})
		bye := p.recv()
		require.Contains(t, bye.header("Proxy-Authorization"), "nc=00000002")
		p.send(answer(bye, 407, "Auth", "", "", `Proxy-Authenticate: Digest realm="x", nonce="n3", algorithm=SHA-256, qop="auth", stale=true`))
		bye = p.recv()
		require.Contains(t, bye.header("Proxy-Authorization"), `nonce="n3"`)
		p.send(answer(bye, 200, "OK", "", ""))
		synctest.Wait()
		require.Zero(t, r.server.dialogs.len())
	})
}

func TestCredentialsStayWithTheirRealmAndTrunk(t *testing.T) {
	for name, test := range map[string]struct {
		peer      string
		realm     string
		challenge []string
	}{
		"wrong password": {"10.0.0.9:5070", "x", []string{
			`Digest realm="x", nonce="1"`, `Digest realm="x", nonce="2"`,
		}},
		"other realm":    {"10.0.0.9:5070", "y", []string{`Digest realm="x", nonce="1"`}},
		"other address":  {"192.0.2.9:5070", "", []string{`Digest realm="x", nonce="1"`}},
		"only algorithm": {"10.0.0.9:5070", "", []string{`Digest realm="x", nonce="1", algorithm=MD5-sess`}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil, withAuth, func(c *Config) { c.Trunks[0].Realm = test.realm })
				p := r.peer(test.peer)
				done := r.invite(context.Background(), InviteRequest{To: "sip:bob@" + test.peer, Trunk: "local"}, newMedia())
				for i, ch := range test.challenge {
					inv := p.recv()
					require.Equal(t, i == 0, inv.header("Authorization") == "")
					p.send(answer(inv, 401, "Auth", "a", "", "WWW-Authenticate: "+ch))
					require.Equal(t, "ACK", p.recv().method())
				}
				var se *StatusError
				require.ErrorAs(t, (<-done).err, &se)
				require.Equal(t, 401, se.Code)
				synctest.Wait()
				require.Empty(t, p.in)
			})
		})
	}
}

func TestTwoServersTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t, nil)
		in := make(chan *Call, 1)
		a.start(HandlerFunc(func(ctx context.Context, c *Call) {
			in <- c
			_ = c.Ring(ctx)
			_ = c.Accept(ctx, newMedia())
			<-ctx.Done()
		}), "10.0.0.9:5070")
		done := a.invite(context.Background(), InviteRequest{Trunk: "local"}, newMedia())
		got := <-done
		require.NoError(t, got.err)
		theirs := <-in
		synctest.Wait()
		local, remote := got.call.Tags()
		l2, r2 := theirs.Tags()
		require.Equal(t, []string{local, remote}, []string{r2, l2})
		require.NoError(t, got.call.Reoffer(context.Background(), newMedia()))
		require.NoError(t, theirs.Reoffer(context.Background(), newMedia()))
		// Both at once: glare, solved by the pauses of RFC 3261 14.1.
		both := make(chan error, 2)
		go func() { both <- got.call.Reoffer(context.Background(), newMedia()) }()
		go func() { both <- theirs.Reoffer(context.Background(), newMedia()) }()
		require.NoError(t, <-both)
		require.NoError(t, <-both)
		got.call.Hangup(Cause{Reason: Reason{Protocol: "Q.850", Cause: 17}})
		<-theirs.Context().Done()
		require.Equal(t, 17, theirs.EndReason().Cause)
	})
}
