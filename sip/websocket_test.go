package sip

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

func TestBrowserRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, _ := w.page("10.0.0.9:4001")
		register := func(expires string) text {
			s := p.leg().req("REGISTER", "", "Expires: "+expires, "Supported: path,gruu,outbound", "Allow: INVITE,ACK,CANCEL,BYE",
				"Path: <sip:edge.example;lr;ob>")
			s = strings.Replace(s, "<sip:al@10.0.0.9:4001>", pageContact+
				`;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:8f6dcb52-b0d6-4a0e-9cd1-f8a5f0a0a0a0>";expires=`+expires, 1)
			p.send(s)
			return p.recv()
		}
		ok := register("600")
		require.Equal(t, 200, ok.code())
		require.Equal(t, pageContact+`;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:8f6dcb52-b0d6-4a0e-9cd1-f8a5f0a0a0a0>";expires=600`, ok.header("Contact"))
		require.Contains(t, ok.header("Via"), "SIP/2.0/WS df7jal23ls0d.invalid;branch=")
		require.Contains(t, ok.header("Via"), ";received=10.0.0.9")
		require.Equal(t, "<sip:edge.example;lr;ob>", ok.header("Path"))
		require.Empty(t, register("0").header("Contact"))
		w.clean()
	})
}

func TestBrowserRegistersAtAnyTrunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS, func(c *Config) { c.Trunks = []Trunk{trunkOf("office", "10.0.0.0/8")} })
		p, _ := w.page("10.0.0.9:4001")
		p.send(p.leg().req("REGISTER", ""))
		require.Equal(t, 200, p.recv().code())
		p.send(p.leg().req("INVITE", anySDP))
		require.Equal(t, "office", (<-w.calls).Trunk())
	})
}

func TestCallOverWebSocket(t *testing.T) {
	for _, transport := range []Transport{WS, WSS} {
		t.Run(string(transport), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWebRig(t, transport)
				p, _ := w.page("10.0.0.9:4001")
				l, m := p.leg(), newMedia()
				p.send(l.req("INVITE", anySDP))
				c := <-w.calls
				require.Equal(t, transport, c.Transport())
				require.Equal(t, "10.0.0.9:4001", c.Source().String())
				require.Equal(t, 100, p.recv().code())
				require.NoError(t, c.Accept(context.Background(), m))
				ok := p.recv()
				require.Equal(t, "<sip:ivr@10.0.0.1:5066;transport=ws>", ok.header("Contact"))
				l.remote = ok.toTag()
				p.send(l.req("ACK", ""))
				p.silent(time.Minute)

				p.send(l.req("INVITE", "v=0\r\nhold"))
				require.Equal(t, 200, p.expect("200").code())
				p.send(l.req("ACK", ""))
				answered, _ := m.seen()
				require.Equal(t, []string{anySDP, "v=0\r\nhold"}, answered)

				p.send(l.req("INFO", "Signal=5\r\nDuration=160\r\n", "Content-Type: application/dtmf-relay"))
				q := <-c.Requests()
				require.Equal(t, "application/dtmf-relay", q.ContentType)
				require.NoError(t, q.Respond(200, ""))
				require.Equal(t, 200, p.recv().code())

				done := make(chan error, 1)
				go func() { done <- c.Reoffer(context.Background(), m) }()
				again := p.recv()
				require.Equal(t, "INVITE sip:k3j9@df7jal23ls0d.invalid;transport=ws;ob SIP/2.0", again.start())
				require.Contains(t, again.header("Via"), "SIP/2.0/"+strings.ToUpper(string(transport))+" 10.0.0.1:5066;")
				require.Equal(t, "<sip:ivr@10.0.0.1:5066;transport=ws>", again.header("Contact"))
				p.send(answer(again, 200, "OK", "", anySDP, "Contact: "+pageContact))
				require.Equal(t, "ACK", p.recv().method())
				require.NoError(t, <-done)

				c.Hangup(Cause{})
				bye := p.recv()
				require.Equal(t, "BYE sip:k3j9@df7jal23ls0d.invalid;transport=ws;ob SIP/2.0", bye.start())
				p.send(answer(bye, 200, "OK", "", ""))
				p.silent(40 * time.Second)
				w.clean()
				require.Zero(t, w.counted("ivrbridge_sip_retransmissions_total"))
			})
		})
	}
}

func TestBrowserHangsUpAndIsToldOfStrangeDialogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, _ := w.page("10.0.0.9:4001")
		l, c := w.answerCall(p, newMedia())
		p.send(l.req("BYE", ""))
		require.Equal(t, 200, p.recv().code())
		<-c.Context().Done()
		require.ErrorIs(t, context.Cause(c.Context()), ErrRemoteBye)
		synctest.Wait()
		p.send(l.req("BYE", ""))
		require.Equal(t, 481, p.recv().code())
		p.send(p.leg().req("MESSAGE", ""))
		require.Equal(t, 405, p.recv().code())
		p.send(p.leg().req("OPTIONS", ""))
		require.Contains(t, p.recv().header("Allow"), "REGISTER")
		l = p.leg()
		p.send(l.req("INVITE", anySDP))
		c = <-w.calls
		p.send(l.req("CANCEL", ""))
		require.Equal(t, 200, p.expect("200").code())
		refused := p.recv()
		require.Equal(t, 487, refused.code())
		require.Contains(t, refused.header("CSeq"), "INVITE")
		<-c.Context().Done()
		require.ErrorIs(t, context.Cause(c.Context()), ErrCancelled)
		p.send(l.req("ACK", "")) // With a branch of its own it is nobody's: 487 waits for it until timer H.
		time.Sleep(time.Minute)
		w.clean()
	})
}

func TestAnswerToBrowserIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, _ := w.page("10.0.0.9:4001")
		p.send(p.leg().req("INVITE", anySDP))
		c := <-w.calls
		require.NoError(t, c.Accept(context.Background(), newMedia()))
		p.expect("200")
		p.silent(31 * time.Second)
		bye := p.recv()
		require.Equal(t, "BYE", bye.method())
		require.ErrorIs(t, context.Cause(c.Context()), ErrNoAck)
		p.send(answer(bye, 200, "OK", "", ""))
		// Behind a proxy, what follows may be UDP (RFC 3261 13.3.1.4).
		p.send(strings.Replace(p.leg().req("INVITE", anySDP), "Max-Forwards", "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\nMax-Forwards", 1))
		require.NoError(t, (<-w.calls).Accept(context.Background(), newMedia()))
		p.expect("200")
		require.Equal(t, 200, p.recv().code())
	})
}

func TestTransferOfBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, _ := w.page("10.0.0.9:4001")
		l, c := w.answerCall(p, newMedia())
		var steps []int
		done := startRefer(context.Background(), c, ReferRequest{To: "sip:human@example.com"}, &steps)
		refer := p.recv()
		require.Equal(t, "REFER sip:k3j9@df7jal23ls0d.invalid;transport=ws;ob SIP/2.0", refer.start())
		require.Equal(t, "<sip:ivr@10.0.0.1:5066;transport=ws>", refer.header("Contact"))
		p.send(answer(refer, 202, "Accepted", "", ""))
		for _, n := range [][2]string{{"100 Trying", "active;expires=60"}, {"180 Ringing", "active;expires=50"}, {"200 OK", "terminated;reason=noresource"}} {
			p.send(notify(l, refer, "SIP/2.0 "+n[0]+"\r\n", n[1]))
			require.Equal(t, 200, p.recv().code())
		}
		got := <-done
		require.NoError(t, got.err)
		require.True(t, got.out.Success())
		require.Equal(t, []int{100, 180, 200}, steps)
	})
}

func TestFramesOfWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		closed, prepare := awaitClose()
		p, conn := w.page("10.0.0.9:4001", prepare)
		options := func() []byte {
			return []byte(strings.Replace(p.leg().req("OPTIONS", ""), "UDP 10.0.0.9:4001", "WS a.invalid", 1))
		}
		send := func(kind int, b []byte) { require.NoError(t, conn.WriteMessage(kind, b)) }
		send(websocket.BinaryMessage, options())
		require.Equal(t, 200, p.recv().code())
		// Fragments of one byte.
		one := options()
		fragments, err := conn.NextWriter(websocket.TextMessage)
		require.NoError(t, err)
		_, err = fragments.Write([]byte(strings.Repeat("\r\n", 4096))) // Longer than a buffer of gorilla's.
		require.NoError(t, err)
		_, err = fragments.Write(one)
		require.NoError(t, err)
		require.NoError(t, fragments.Close())
		require.Equal(t, 200, p.recv().code())
		// Two messages in one: the second is thrown away.
		first, second := options(), options()
		send(websocket.TextMessage, append(first, second...))
		require.Equal(t, 200, p.recv().code())
		p.silent(time.Second)
		// One message in two.
		half := options()
		send(websocket.TextMessage, half[:len(half)/2])
		send(websocket.TextMessage, half[len(half)/2:])
		require.Equal(t, 400, p.recv().code())
		p.silent(time.Second)
		// No Content-Length is needed (RFC 7118 5).
		send(websocket.TextMessage, []byte(strings.Replace(string(options()), "Content-Length: 0\r\n", "", 1)))
		require.Equal(t, 200, p.recv().code())
		// Keep-alives and junk.
		send(websocket.TextMessage, []byte("\r\n\r\n"))
		require.Equal(t, "\r\n", p.recv().raw)
		for _, junk := range []string{"", "\r\n", "\x00\x00", "hello", "\xff\xfe", "GET / HTTP/1.1\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n", "ACK sip:a SIP/2.0\r\n\r\n"} {
			send(websocket.BinaryMessage, []byte(junk))
		}
		p.silent(time.Second)
		send(websocket.TextMessage, []byte(strings.Replace(string(options()), "CSeq: ", "CSeq: x", 1)))
		require.Equal(t, 400, p.recv().code())
		send(websocket.TextMessage, options())
		require.Equal(t, 200, p.recv().code())
		// Too long: answered, then closed.
		long := strings.Replace(string(options()), "Max-Forwards", "X-Long: "+strings.Repeat("a", maxStream)+"\r\nMax-Forwards", 1)
		send(websocket.TextMessage, []byte(long))
		require.Equal(t, 513, p.recv().code())
		require.Equal(t, websocket.CloseMessageTooBig, (<-closed).code)
		synctest.Wait()
		_, places := w.connections()
		require.Zero(t, places)
	})
}

func TestLongestMessageOfWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, _ := w.page("10.0.0.9:4001")
		l := p.leg()
		body := anySDP + strings.Repeat("a=x\r\n", 5000)
		p.send(l.req("INVITE", body))
		c := <-w.calls
		require.Equal(t, body, string(c.Offer()))
		m := newMedia()
		m.sdp = body
		require.NoError(t, c.Accept(context.Background(), m))
		require.Equal(t, body, p.expect("200").body())
	})
}

func TestWhoMayOpenWebSockets(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		edit func(*http.Request)
		code int
	}{
		"no browser":           {func(*http.Request) {}, 101},
		"same host":            {set("Origin", "http://10.0.0.1:5066"), 101},
		"same host over https": {set("Origin", "https://10.0.0.1:5066"), 101},
		"name that leads here": {func(r *http.Request) {
			r.Host = "evil.example:5066"
			r.Header.Set("Origin", "http://evil.example:5066")
		}, 403},
		"another port":       {set("Origin", "http://10.0.0.1"), 403},
		"listed":             {set("Origin", "https://Shop.example.com"), 101},
		"listed with a port": {set("Origin", "https://shop.example.com:443"), 101},
		"listed, no TLS":     {set("Origin", "http://shop.example.com"), 403},
		"foreign":            {set("Origin", "https://evil.example.com"), 403},
		"longer than listed": {set("Origin", "https://shop.example.com.evil.org"), 403},
		"null":               {set("Origin", "null"), 403},
		"empty":              {set("Origin", ""), 403},
		"two":                {func(r *http.Request) { r.Header["Origin"] = []string{"http://10.0.0.1:5066", "http://a"} }, 403},
		"no subprotocol":     {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Protocol") }, 400},
		"other subprotocol":  {set("Sec-WebSocket-Protocol", "chat, sipx"), 400},
		"no key":             {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, 400},
		"version":            {set("Sec-WebSocket-Version", "8"), 426},
		"no upgrade":         {func(r *http.Request) { r.Header.Del("Upgrade") }, 426},
		"plain":              {func(r *http.Request) { r.Header = nil }, 426},
		"post":               {func(r *http.Request) { r.Method = http.MethodPost }, 405},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWebRig(t, WS, func(c *Config) { c.Origins = []string{"https://shop.example.com/"} })
				code, header := w.ask("10.0.0.9:4001", test.edit)
				require.Equal(t, test.code, code)
				switch code {
				case 101:
					require.Equal(t, "sip", header.Get("Sec-Websocket-Protocol"))
				case 426:
					require.Equal(t, "websocket", header.Get("Upgrade"))
				}
				synctest.Wait()
				_, places := w.connections()
				require.Zero(t, places)
			})
		})
	}
}

func TestOriginsAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		edit := func(r *http.Request) { r.Header.Set("Origin", "https://a.example") }
		code, _ := w.ask("10.0.0.9:4001", edit)
		require.Equal(t, 403, code)
		require.NoError(t, w.server.SetOrigins([]string{"https://a.example"}))
		code, _ = w.ask("10.0.0.9:4002", edit)
		require.Equal(t, 101, code)
		for _, bad := range []string{"*", "null", "a.example", "ftp://a", "https://", "https://a/b", "https://u@a", "https://a?b"} {
			require.ErrorIs(t, w.server.SetOrigins([]string{bad}), ErrInvalid, bad)
		}
	})
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://a", "http://[::1]:80", "null", "https://a:443/", "HTTPS://A.b", "http://a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if site, ok := siteOf(s); ok {
			again, ok := siteOf(site)
			require.True(t, ok)
			require.Equal(t, site, again)
		}
	})
}

func TestStrangersGetNoWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		conn, err := w.listener.dial("192.0.2.9:4001")
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF) // Not a byte.
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/sip", nil)
		req.RemoteAddr = "192.0.2.9:4001"
		w.server.WebSocket(nil).ServeHTTP(rec, req)
		require.Equal(t, 403, rec.Code)
		require.Empty(t, rec.Body.String())
		require.InDelta(t, 2, w.counted("ivrbridge_sip_dropped_total"), 0)
	})
}

func TestSilentClientsBlockNoUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		var silent []net.Conn
		for range maxConnsPerIP - 1 {
			conn, err := w.listener.dial("10.0.0.9:4000")
			require.NoError(t, err)
			silent = append(silent, conn)
		}
		p, _ := w.page("10.0.0.9:4001")
		p.send(p.leg().req("OPTIONS", ""))
		require.Equal(t, 200, p.recv().code())
		extra, err := w.listener.dial("10.0.0.9:4002")
		require.NoError(t, err)
		_, err = extra.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF) // The limit for one address.
		begin := time.Now()
		for _, c := range silent {
			_, _ = io.Copy(io.Discard, c)
		}
		require.InDelta(t, handshakeTime.Seconds(), time.Since(begin).Seconds(), 2)
		w.page("10.0.0.9:4003")
	})
}

func TestWebSocketsStayAsLongAsTheyAreUsed(t *testing.T) {
	for name, test := range map[string]struct {
		deaf bool
		use  func(w *webRig, p *peer)
		from time.Duration
	}{
		"no pongs":   {true, func(*webRig, *peer) {}, pongTime},
		"no message": {false, func(*webRig, *peer) {}, socketIdle},
		"registered": {false, func(_ *webRig, p *peer) {
			p.send(p.leg().req("REGISTER", "", "Expires: 3600"))
			p.recv()
		}, time.Hour},
		"in a call": {false, func(w *webRig, p *peer) {
			_, c := w.answerCall(p, newMedia())
			time.AfterFunc(2*time.Hour+time.Second, func() { c.Hangup(Cause{}) })
			go func() { p.send(answer(p.recvWithin(3*time.Hour), 200, "OK", "", "")) }()
		}, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWebRig(t, WS)
				closed, prepare := awaitClose()
				begin := time.Now()
				p, _ := w.page("10.0.0.9:4001", prepare, func(conn *websocket.Conn) {
					if test.deaf {
						conn.SetPingHandler(func(string) error { return nil })
					}
				})
				test.use(w, p)
				end := (<-closed).at.Sub(begin)
				require.GreaterOrEqual(t, end, test.from)
				require.LessOrEqual(t, end, test.from+socketIdle+2*pingEvery)
			})
		})
	}
}

// recvWithin waits longer than recv.
func (p *peer) recvWithin(d time.Duration) text {
	select {
	case m := <-p.in:
		return m
	case <-time.After(d):
		return text{}
	}
}

func TestMessageThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		_, conn := w.page("10.0.0.9:4001")
		begin := time.Now()
		frames, err := conn.NextWriter(websocket.TextMessage)
		require.NoError(t, err)
		for err == nil { // Pongs in between do not help.
			_, err = frames.Write([]byte(strings.Repeat("\r\n", 3000)))
			if err == nil {
				err = conn.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second))
				time.Sleep(10 * time.Second)
			}
		}
		require.LessOrEqual(t, time.Since(begin), messageTime+10*time.Second)
	})
}

func TestBrowserThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		slow := w.open("10.0.0.8:4001") // Nobody reads its pipe.
		p, _ := w.page("10.0.0.9:4001")
		request := strings.ReplaceAll(p.leg().req("OPTIONS", ""), "10.0.0.9:4001", "a.invalid")
		require.NoError(t, slow.WriteMessage(websocket.TextMessage, []byte(request)))
		synctest.Wait()
		begin := time.Now()
		for range 20 {
			p.send(p.leg().req("OPTIONS", ""))
			require.Equal(t, 200, p.recv().code())
		}
		require.Equal(t, begin, time.Now())
		open, _ := w.connections()
		require.Equal(t, 2, open)
		time.Sleep(writeTime + 2*time.Second)
		open, _ = w.connections()
		require.Equal(t, 1, open)
	})
}

func TestCallsWhoseWebSocketIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		p, conn := w.page("10.0.0.9:4001")
		p.send(p.leg().req("INVITE", anySDP))
		early := <-w.calls
		l, c := w.answerCall(p, newMedia())
		var steps []int
		refer := startRefer(context.Background(), c, ReferRequest{To: "sip:human@example.com"}, &steps)
		p.recv()
		p.send(l.req("INFO", "Signal=5\r\n", "Content-Type: application/dtmf-relay")) // Unanswered.
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, conn.NetConn().Close())
		<-early.Context().Done()
		require.ErrorIs(t, context.Cause(early.Context()), ErrDialogGone)
		require.ErrorIs(t, (<-refer).err, ErrNoResponse)
		require.ErrorIs(t, c.Probe(context.Background()), ErrNoResponse)
		require.Equal(t, begin, time.Now())
		require.NoError(t, c.Context().Err())
		<-c.Context().Done()
		require.ErrorIs(t, context.Cause(c.Context()), ErrDialogGone)
		require.Equal(t, 32*time.Second, time.Since(begin))
		synctest.Wait()
		w.clean()
	})
}

func TestPageThatComesBackKeepsItsCall(t *testing.T) {
	for name, test := range map[string]struct {
		again  func(w *webRig, l *leg, p *peer)
		closed bool
	}{
		"registers": {func(w *webRig, _ *leg, p *peer) {
			p.send(p.leg().req("REGISTER", ""))
			require.Equal(w.t, 200, p.recv().code())
		}, true},
		"registers while the old one hangs": {func(w *webRig, _ *leg, p *peer) {
			p.send(p.leg().req("REGISTER", ""))
			require.Equal(w.t, 200, p.recv().code())
		}, false},
		"renegotiates": {func(w *webRig, l *leg, p *peer) {
			l.p = p
			p.send(l.req("INVITE", anySDP))
			require.Equal(w.t, 200, p.expect("200").code())
			p.send(l.req("ACK", ""))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWebRig(t, WS)
				p, conn := w.page("10.0.0.9:4001")
				l, c := w.answerCall(p, newMedia())
				if test.closed {
					require.NoError(t, conn.NetConn().Close())
					time.Sleep(10 * time.Second)
				}
				again, _ := w.page("10.0.0.7:4009")
				test.again(w, l, again)
				if !test.closed {
					require.NoError(t, conn.NetConn().Close())
				}
				time.Sleep(time.Minute)
				require.NoError(t, c.Context().Err())
				c.Hangup(Cause{})
				bye := again.recv()
				require.Equal(t, "BYE", bye.method())
				again.send(answer(bye, 200, "OK", "", ""))
				synctest.Wait()
				w.clean()
			})
		})
	}
}

// TestCancelsAreForgotten holds for each transport: sipgo never ends the
// transaction of a CANCEL.
func TestCancelsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.peer("10.0.0.2:5070")
		l := p.leg()
		p.send(l.req("INVITE", anySDP))
		<-r.calls
		for range 2 {
			p.send(l.req("CANCEL", ""))
			require.Equal(t, "1 CANCEL", p.expect("200").header("CSeq"))
			for m := p.recv(); m.code() != 487; m = p.recv() {
				require.Equal(t, 200, m.code())
			}
		}
		time.Sleep(time.Minute)
		r.clean()
	})
}

func TestBrowsersAreNotLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *Config) { c.Resolver = nil })
		for _, host := range []string{"df7jal23ls0d.invalid", "a.INVALID.", "invalid"} {
			_, err := r.server.Invite(context.Background(), InviteRequest{To: "sip:a@" + host}, newMedia())
			require.ErrorIs(t, err, ErrNoResponse)
		}
		_, err := r.server.Invite(context.Background(), InviteRequest{To: "sip:a@10.0.0.9;transport=ws"}, newMedia())
		require.ErrorIs(t, err, ErrTransport)
	})
}

func TestShutdownClosesWebSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWebRig(t, WS)
		closed, prepare := awaitClose()
		p, _ := w.page("10.0.0.9:4001", prepare)
		w.answerCall(p, newMedia())
		half, err := w.listener.dial("10.0.0.9:4002")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		done := make(chan error, 1)
		go func() { done <- w.server.Shutdown(ctx) }()
		bye := p.recv()
		require.Equal(t, "BYE", bye.method())
		p.send(answer(bye, 200, "OK", "", ""))
		require.ErrorIs(t, <-done, context.Canceled)
		require.Equal(t, websocket.CloseGoingAway, (<-closed).code)
		_, err = half.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		_, places := w.connections()
		require.Zero(t, places)
		require.ErrorIs(t, w.server.Serve(context.Background(), newPipeListener("10.0.0.1:5067"), WS), ErrServerDown)
	})
}

// TestWebSocketInTheProgramsOwnServer goes by real sockets, and by a proxy that
// the program trusts.
func TestWebSocketInTheProgramsOwnServer(t *testing.T) {
	l := startLive(t, "127.0.0.1", func(c *Config) {
		c.Trunks = []Trunk{trunkOf("office", "192.0.2.0/24"), trunkOf("local", "127.0.0.0/8")}
		c.Origins = []string{"https://shop.example.com"}
	})
	proxied := l.server.WebSocket(func(r *http.Request) WebSocketClient {
		return WebSocketClient{
			Addr: netip.MustParseAddr(r.Header.Get("X-Forwarded-For")), TLS: r.Header.Get("X-Forwarded-Proto") == "https",
			Host: r.Header.Get("X-Forwarded-Host"),
		}
	})
	mux := http.NewServeMux()
	mux.Handle("/sip", l.server.WebSocket(nil))
	mux.Handle("/proxied", proxied)
	web := httptest.NewServer(mux)
	defer web.Close()
	dialer := &websocket.Dialer{Subprotocols: []string{subprotocol}}
	forwarded := http.Header{
		"X-Forwarded-For": {"192.0.2.44"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"phone.example.com"},
		"Origin": {"https://phone.example.com"},
	}
	for path, test := range map[string]struct {
		header    http.Header
		transport Transport
		trunk     string
	}{
		"/sip":     {http.Header{"Origin": {web.URL}}, WS, "local"},
		"/proxied": {forwarded, WSS, "office"},
	} {
		conn, res, err := dialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+path, test.header)
		require.NoError(t, err)
		_ = res.Body.Close()
		p := newPeer(t, &pagePackets{Conn: conn, via: "SIP/2.0/WSS df7jal23ls0d.invalid"}, l.addr)
		leg := p.leg()
		p.send(leg.req("INVITE", anySDP))
		c := <-l.calls
		require.Equal(t, test.transport, c.Transport())
		require.Equal(t, test.trunk, c.Trunk())
		ok := p.expect("200")
		require.Equal(t, "<sip:ivr@"+strings.TrimPrefix(web.URL, "http://")+";transport=ws>", ok.header("Contact"))
		leg.remote = ok.toTag()
		p.send(leg.req("ACK", ""))
		c.Hangup(Cause{})
		bye := p.recv()
		require.Equal(t, "BYE", bye.method())
		p.send(answer(bye, 200, "OK", "", ""))
	}
	forwarded.Set("Origin", "https://evil.example.com")
	_, res, err := dialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/proxied", forwarded)
	require.ErrorIs(t, err, websocket.ErrBadHandshake)
	require.Equal(t, 403, res.StatusCode)
	_ = res.Body.Close()
}

func TestSecureWebSocket(t *testing.T) {
	l := startLive(t, "127.0.0.1")
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // For its certificate.
	defer certified.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- l.server.Serve(context.Background(), tls.NewListener(tcp, certified.TLS), WSS) }()
	require.NoError(t, l.server.Ready(t.Context(), 3))
	silent, err := net.Dial("tcp", tcp.Addr().String()) // Its handshake is nobody's to wait for.
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	trust := certified.Client().Transport.(*http.Transport).TLSClientConfig
	conn, res, err := (&websocket.Dialer{Subprotocols: []string{subprotocol}, TLSClientConfig: trust}).
		Dial("wss://"+tcp.Addr().String()+"/ws", http.Header{"Origin": {"https://" + tcp.Addr().String()}})
	require.NoError(t, err)
	_ = res.Body.Close()
	p := newPeer(t, &pagePackets{Conn: conn, via: "SIP/2.0/WSS df7jal23ls0d.invalid"}, l.addr)
	p.send(p.leg().req("INVITE", anySDP))
	c := <-l.calls
	require.Equal(t, WSS, c.Transport())
	require.Equal(t, "<sip:ivr@"+tcp.Addr().String()+";transport=ws>", p.expect("200").header("Contact"))
	require.NoError(t, tcp.Close())
	require.NoError(t, <-done)
}

func TestTooLongForAStream(t *testing.T) {
	s := startLive(t, "127.0.0.1")
	p := s.dial(t)
	_, err := p.conn.Write([]byte(strings.Replace(overTCP(p).tcp(""), "Content-Length: 0", "Content-Length: 40000", 1)))
	require.NoError(t, err)
	require.Equal(t, 513, p.recv().code())
	_, err = p.r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}
