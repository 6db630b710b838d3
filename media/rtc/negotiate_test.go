package rtc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/media"
	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const print32 = "A0:A1:A2:A3:A4:A5:A6:A7:A8:A9:AA:AB:AC:AD:AE:AF:B0:B1:B2:B3:B4:B5:B6:B7:B8:B9:BA:BB:BC:BD:BE:BF"

// audioLines are those of a browser's audio after its m= line.
const audioLines = "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n" +
	"a=ice-options:trickle\r\na=fingerprint:sha-256 " + print32 + "\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n" +
	"a=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=ssrc:77 cname:x\r\n"

const head = "v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"

// pageOffer is what a browser offers.
const pageOffer = head + "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\n" + audioLines

func TestAnswerOfABrowsersOffer(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	answer, terms, err := p.Answer(t.Context(), []byte(pageOffer))
	require.NoError(t, err)
	require.Equal(t, Terms{Send: true, Recv: true, Codec: pcm.Mu}, terms)
	text := string(answer)
	port := netip.MustParseAddrPort(s.udp.LocalAddr().String()).Port()
	for _, want := range []string{
		fmt.Sprintf("m=audio %d UDP/TLS/RTP/SAVPF 0 8 126\r\nc=IN IP4 127.0.0.1\r\n", port),
		"a=group:BUNDLE 0\r\n", "a=mid:0\r\n", "a=sendrecv\r\n", "a=rtcp-mux\r\n", "a=setup:active\r\n", "a=rtpmap:126 telephone-event/8000\r\n",
		"a=fmtp:126 0-15\r\n", "a=fingerprint:sha-256 ", fmt.Sprintf("a=ssrc:%d cname:%s\r\n", p.ssrc, p.Leg().CNAME()), "a=end-of-candidates\r\n",
		fmt.Sprintf(" 127.0.0.1 %d typ host", port), "tcptype passive",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "opus")
	_, bad := read(answer)
	require.Nil(t, bad)
}

func TestAnswerHasALineForEachOfTheOffer(t *testing.T) {
	s := set(t, nil)
	offer := "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v 0 d b\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\na=sendrecv\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 126 8 0\r\n" + audioLines +
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\na=sctp-port:5000\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:b\r\na=sendrecv\r\na=rtcp-mux\r\n"
	p := s.peer(media.LegConfig{})
	answer, terms, err := p.Answer(t.Context(), []byte(offer))
	require.NoError(t, err)
	require.Equal(t, pcm.A, terms.Codec)
	lines := regexp.MustCompile(`(?m)^m=.*$`).FindAllString(strings.ReplaceAll(string(answer), "\r", ""), -1)
	require.Len(t, lines, 4)
	require.Equal(t, "m=video 0 UDP/TLS/RTP/SAVPF 96 97", lines[0])
	require.Regexp(t, `^m=audio [1-9]\d* UDP/TLS/RTP/SAVPF 126 8 0$`, lines[1])
	require.Equal(t, "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", lines[2])
	require.Equal(t, "m=audio 0 UDP/TLS/RTP/SAVPF 0", lines[3])
	require.Contains(t, string(answer), "a=group:BUNDLE 0\r\n")
	for _, mid := range []string{"v", "0", "d", "b"} {
		require.Contains(t, string(answer), "a=mid:"+mid+"\r\n")
	}
}

func TestRealBrowserWithVideo(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{event: 126})
	_, err := b.pc.CreateDataChannel("chat", nil)
	require.NoError(t, err)
	b.call(p)
	until(t, "sound comes", func() bool { return level(b.heard(1600), 440) > 6000 })
}

func TestRefusedOffers(t *testing.T) {
	cut := func(line string) string {
		return regexp.MustCompile(`(?m)^`+line+`.*\n`).ReplaceAllString(pageOffer, "")
	}
	swap := func(old, with string) string { return strings.ReplaceAll(pageOffer, old, with) }
	for _, tc := range []struct {
		name, offer string
		status      int
	}{
		{"nothing", "", 400},
		{"no description", "hello", 400},
		{"binary", "v=0\x00\xff\xfe", 400},
		{"no media", head, 400},
		{"too long", pageOffer + strings.Repeat("a=x\r\n", 20000), 400},
		{"too many media", head + strings.Repeat("m=audio 9 RTP/AVP 0\r\n", 65), 400},
		{"short m line", head + "m=audio 9\r\n", 400},
		{"no port", head + "m=audio x UDP/TLS/RTP/SAVPF 0\r\n", 400},
		{"odd characters", head + "m=au\x01dio 9 UDP/TLS/RTP/SAVPF 0\r\n", 400},
		{"no audio", swap("m=audio", "m=video"), 488},
		{"rejected audio", swap("m=audio 9", "m=audio 0"), 488},
		{"plain RTP", swap("UDP/TLS/RTP/SAVPF", "RTP/AVP"), 488},
		{"SDES", swap("UDP/TLS/RTP/SAVPF", "RTP/SAVP"), 488},
		{"no G.711", swap("111 63 9 0 8 13 110 126", "111 63 9 13 110 126"), 488},
		{"wideband G.711", strings.NewReplacer("PCMU/8000", "PCMU/16000", "PCMA/8000", "PCMA/8000/2").Replace(pageOffer), 488},
		{"no fingerprint", cut("a=fingerprint"), 488},
		{"no ufrag", cut("a=ice-ufrag"), 488},
		{"no pwd", cut("a=ice-pwd"), 488},
		{"no rtcp-mux", cut("a=rtcp-mux"), 488},
		{"short ufrag", swap("ice-ufrag:abcd", "ice-ufrag:ab"), 400},
		{"short pwd", swap("0123456789abcdef01234567", "0123"), 400},
		{"odd pwd", swap("0123456789abcdef01234567", "0123456789abcdef0123456 \x01"), 400},
		{"unknown hash", swap("sha-256", "md5"), 400},
		{"short fingerprint", swap(":BF", ""), 400},
		{"fingerprint without colons", swap(print32, strings.ReplaceAll(print32, ":", "")), 400},
		{"setup holdconn", swap("setup:actpass", "setup:holdconn"), 488},
		{"setup nonsense", swap("setup:actpass", "setup:maybe"), 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := set(t, nil)
			p := s.peer(media.LegConfig{})
			_, _, err := p.Answer(t.Context(), []byte(tc.offer))
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tc.status, refused.SIPStatus(), refused.Reason)
			_, _, err = p.Answer(t.Context(), []byte(pageOffer))
			require.NoError(t, err, "the next one is taken")
		})
	}
}

func TestAcceptedOddities(t *testing.T) {
	swap := strings.NewReplacer
	for _, tc := range []struct {
		name, offer, want string
	}{
		{"bare line feeds", swap("\r\n", "\n").Replace(pageOffer), "a=setup:active"},
		{"active", swap("setup:actpass", "setup:active").Replace(pageOffer), "a=setup:passive"},
		{"passive", swap("setup:actpass", "setup:passive").Replace(pageOffer), "a=setup:active"},
		{"no setup", swap("a=setup:actpass\r\n", "").Replace(pageOffer), "a=setup:passive"},
		{"no group and no mid", swap("a=group:BUNDLE 0\r\n", "", "a=mid:0\r\n", "").Replace(pageOffer), "a=sendrecv"},
		{"without feedback", swap("SAVPF", "SAVP").Replace(pageOffer), "UDP/TLS/RTP/SAVP 0 8 126"},
		{"static payload types", swap("a=rtpmap:0 PCMU/8000\r\n", "", "a=rtpmap:8 PCMA/8000\r\n", "").Replace(pageOffer), "SAVPF 0 8 126"},
		{"dynamic payload types", swap("SAVPF 111 63 9 0 8 13 110 126", "SAVPF 100 111", "rtpmap:0 ", "rtpmap:100 ").Replace(pageOffer), "SAVPF 100\r\n"},
		{"recvonly", swap("a=sendrecv", "a=recvonly").Replace(pageOffer), "a=sendonly"},
		{"inactive", swap("a=sendrecv", "a=inactive").Replace(pageOffer), "a=inactive"},
		{"transport of the session", func() string {
			moved := "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\na=fingerprint:sha-256 " + print32 + "\r\na=setup:actpass\r\n"
			bare := pageOffer
			for _, l := range strings.SplitAfter(moved, "\r\n") {
				bare = strings.ReplaceAll(bare, l, "")
			}
			return strings.Replace(bare, "m=audio", moved+"m=audio", 1)
		}(), "a=setup:active"},
		{"several fingerprints", swap("a=fingerprint:", "a=fingerprint:sha-1 00:01\r\na=fingerprint:md5 00\r\na=fingerprint:").Replace(pageOffer), "a=setup:active"},
		{"bundle-only behind video", "v=0\r\na=group:BUNDLE v 0\r\n" +
			"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + swap("a=mid:0", "a=mid:v").Replace(audioLines) +
			"m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=bundle-only\r\na=sendrecv\r\n", "m=video 0 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := set(t, nil)
			p := s.peer(media.LegConfig{})
			answer, _, err := p.Answer(t.Context(), []byte(tc.offer))
			require.NoError(t, err)
			require.Contains(t, string(answer), tc.want)
		})
	}
}

func TestHoldAndResume(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	b := open(t, browserConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b.call(p)
	until(t, "sound comes", func() bool { return b.packets() > 5 })
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })

	for _, direction := range []string{"sendonly", "inactive"} {
		answer, terms, err := p.Answer(t.Context(), []byte(strings.Replace(b.offer(nil), "a=sendrecv", "a="+direction, 1)))
		require.NoError(t, err)
		require.True(t, terms.Held)
		require.False(t, terms.Send)
		require.Equal(t, direction == "sendonly", terms.Recv)
		require.Contains(t, string(answer), map[string]string{"sendonly": "a=recvonly", "inactive": "a=inactive"}[direction])
		b.take(answer)
		quiet(t, b)
	}
	answer, terms, err := p.Answer(t.Context(), []byte(b.offer(nil)))
	require.NoError(t, err)
	require.Equal(t, Terms{Send: true, Recv: true}, terms)
	require.Contains(t, string(answer), "a=sendrecv")
	b.take(answer)
	n := b.packets()
	until(t, "sound comes again", func() bool { return b.packets() > n+10 })
}

// quiet waits until no sound has come for a while.
func quiet(t *testing.T, b *browser) {
	t.Helper()
	n, since := b.packets(), time.Now()
	until(t, "quiet", func() bool {
		if now := b.packets(); now != n {
			n, since = now, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	})
}

func TestOurHold(t *testing.T) {
	s := set(t, nil)
	heard := &ear{}
	p := s.peer(media.LegConfig{})
	defer p.Leg().Attach(heard)()
	_, err := p.Offer(t.Context(), false)
	require.Error(t, err, "there is no session")
	b := open(t, browserConfig{event: 126})
	b.call(p)
	goes(t, func(ctx context.Context) { b.talk(ctx, pcm.Mu, 1000) })
	until(t, "the leg hears", func() bool { return level(heard.last(1600), 1000) > 6000 })

	_, err = p.Accept(t.Context(), []byte(pageOffer))
	require.Error(t, err, "nothing was offered")
	exchange := func(recv bool) Terms {
		offer, err := p.Offer(t.Context(), recv)
		require.NoError(t, err)
		require.Contains(t, string(offer), "a=setup:actpass")
		require.NoError(t, b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)}))
		answer, err := b.pc.CreateAnswer(nil)
		require.NoError(t, err)
		require.NoError(t, b.pc.SetLocalDescription(answer))
		// A browser leaves no doubt about its direction; pion's would go on sending.
		text := answer.SDP
		if !recv {
			text = regexp.MustCompile(`a=(sendrecv|sendonly|inactive)`).ReplaceAllString(text, "a=recvonly")
		}
		terms, err := p.Accept(t.Context(), []byte(text))
		require.NoError(t, err)
		return terms
	}
	require.Equal(t, Terms{Send: true}, exchange(false))
	until(t, "the leg hears nothing", func() bool { return level(heard.last(1600), 1000) < 100 })

	// An offer of the page meanwhile does not end our hold.
	answer, terms, err := p.Answer(t.Context(), []byte(b.offer(nil)))
	require.NoError(t, err)
	require.Equal(t, Terms{Send: true}, terms)
	require.Contains(t, string(answer), "a=sendonly")
	b.take(answer)
	require.True(t, exchange(true).Recv)
	until(t, "the leg hears again", func() bool { return level(heard.last(1600), 1000) > 6000 })
}

func TestCodecChange(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{event: 126})
	b.call(p)
	until(t, "sound comes", func() bool { return b.packets() > 5 })
	offer := regexp.MustCompile(`SAVPF 0 8 126`).ReplaceAllString(b.offer(nil), "SAVPF 8 101")
	offer = strings.ReplaceAll(offer, ":126 ", ":101 ")
	answer, terms, err := p.Answer(t.Context(), []byte(offer))
	require.NoError(t, err)
	require.Equal(t, pcm.A, terms.Codec)
	require.Contains(t, string(answer), "SAVPF 8 101\r\n")
	until(t, "A-law comes", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.got[len(b.got)-1].PayloadType == 8
	})
	p.Leg().SendDigits(1, "3", media.DigitsAuto)
	until(t, "keys have the new payload type", func() bool { return len(b.events(101)) > 3 })
}

func TestRefusedReofferLeavesEverything(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	p.Leg().Play(media.Cue{Clip: tone(), Loop: true})
	b := open(t, browserConfig{event: 126})
	b.call(p)
	offer := b.offer(nil)
	for name, bad := range map[string]string{
		"garbage":                 "garbage",
		"no G.711":                strings.Replace(offer, "SAVPF 0 8 126", "SAVPF 126", 1),
		"another fingerprint":     regexp.MustCompile(`a=fingerprint:sha-256 ..:..`).ReplaceAllString(offer, "a=fingerprint:sha-256 00:00"),
		"our own part":            strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:active"),
		"no audio at its place":   strings.Replace(offer, "m=audio", "m=video", 1),
		"audio switched off":      strings.Replace(offer, "m=audio 9", "m=audio 0", 1),
		"another mid":             strings.NewReplacer("a=mid:0", "a=mid:7", "BUNDLE 0", "BUNDLE 7").Replace(offer),
		"restart without a codec": strings.NewReplacer("SAVPF 0 8 126", "SAVPF 126", "a=ice-ufrag:", "a=ice-ufrag:zz").Replace(offer),
	} {
		if name == "our own part" {
			bad = strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:"+p.talk.ours.setup)
		}
		_, _, err := p.Answer(t.Context(), []byte(bad))
		var refused *Error
		require.ErrorAs(t, err, &refused, name)
	}
	n := b.packets()
	until(t, "sound goes on", func() bool { return b.packets() > n+10 })
	answer, _, err := p.Answer(t.Context(), []byte(offer))
	require.NoError(t, err)
	b.take(answer)
}

func TestAnswerOfACancelledRequest(t *testing.T) {
	s := set(t, nil)
	p := s.peer(media.LegConfig{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the page has gone")
	cancel(gone)
	_, _, err := p.Answer(ctx, []byte(pageOffer))
	require.ErrorIs(t, err, gone)
	require.Nil(t, p.talk.far)
}

func TestExternalAddressesTakeThePlaceOfOurs(t *testing.T) {
	s := set(t, func(c *Config) {
		c.External = []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8::5")}
	})
	p := s.peer(media.LegConfig{})
	answer, _, err := p.Answer(t.Context(), []byte(pageOffer))
	require.NoError(t, err)
	var places []string
	for _, m := range regexp.MustCompile(`a=candidate:\S+ 1 (\S+) \d+ (\S+) \d+ typ host`).FindAllStringSubmatch(string(answer), -1) {
		places = append(places, m[1]+" "+m[2])
	}
	require.ElementsMatch(t, []string{"udp 203.0.113.5", "tcp 203.0.113.5"}, places)
	require.Contains(t, string(answer), "c=IN IP4 203.0.113.5")
}

func TestLoopbackOnlyWhereAsked(t *testing.T) {
	s := set(t, func(c *Config) { c.Loopback = false })
	p := s.peer(media.LegConfig{})
	answer, _, err := p.Answer(t.Context(), []byte(pageOffer))
	require.NoError(t, err)
	require.NotContains(t, string(answer), strings.Replace(s.udp.LocalAddr().String(), ":", " ", 1)+" typ host")
}

func TestCandidates(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"candidate:1 1 udp 2 192.0.2.1 5000 typ host", "1 1 udp 2 192.0.2.1 5000 typ host"},
		{"1 1 UDP 2 2001:db8::1 5000 typ host generation 0 ufrag abcd network-cost 10", "1 1 udp 2 2001:db8::1 5000 typ host"},
		{"candidate:1 1 udp 2 192.0.2.1 5000 typ srflx raddr 10.0.0.1 rport 7", "1 1 udp 2 192.0.2.1 5000 typ srflx raddr 0.0.0.0 rport 0"},
		{"candidate:1 2 udp 2 192.0.2.1 5000 typ host", ""},
		{"candidate:1 1 tcp 2 192.0.2.1 9 typ host tcptype active", ""},
		{"candidate:1 1 udp 2 4c2a.local 5000 typ host", ""},
		{"candidate:1 1 udp 2 example.com 5000 typ host", ""},
		{"candidate:1 1 udp 2 0.0.0.0 5000 typ host", ""},
		{"candidate:1 1 udp 2 224.0.0.1 5000 typ host", ""},
		{"candidate:1 1 udp 2 255.255.255.255 5000 typ host", ""},
		{"candidate:1 1 udp 2 240.0.0.1 5000 typ host", ""},
		{"candidate:1 1 udp 2 0.0.0.7 5000 typ host", ""},
		{"candidate:1 1 udp 2 ::ffff:255.255.255.255 5000 typ host", ""},
		{"candidate:1 1 udp 2 169.254.169.254 80 typ host", ""},
		{"candidate:1 1 udp 2 127.0.0.1 5000 typ host", ""},
		{"candidate:1 1 udp 2 ::ffff:127.0.0.1 5000 typ host", ""},
		{"candidate:1 1 udp 2 fe80::1%eth0 5000 typ host", ""},
		{"candidate:1 1 udp 2 192.0.2.1 0 typ host", ""},
		{"candidate:1 1 udp 99999999999 192.0.2.1 5000 typ host", ""},
		{"candidate:1 1 udp 2 192.0.2.1 5000 typ odd", ""},
		{"candidate:1 1 udp 2 192.0.2.1", ""},
		{"", ""},
	} {
		clean, ufrag, ok := candidate(tc.in, false)
		require.Equal(t, tc.want, clean, tc.in)
		require.Equal(t, tc.want != "", ok)
		if strings.Contains(tc.in, "ufrag") {
			require.Equal(t, "abcd", ufrag)
		}
	}
	_, _, ok := candidate("candidate:1 1 udp 2 127.0.0.1 5000 typ host", true)
	require.True(t, ok)
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte(pageOffer))
	f.Add([]byte("v=0\na=group:BUNDLE a b\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:a\nm=audio 0 UDP/TLS/RTP/SAVPF 0\na=bundle-only\na=mid:b\n"))
	f.Add([]byte(strings.ReplaceAll(pageOffer, "sendrecv", "inactive")))
	f.Add([]byte(pageOffer + "a=candidate:1 1 udp 2 192.0.2.1 5000 typ host\r\nm=audio 9 RTP/AVP 0\r\n"))
	s := set(f, nil)
	f.Fuzz(func(t *testing.T, offer []byte) {
		d, bad := read(offer)
		if bad == nil {
			_, bad = d.understand(-1, true)
		}
		p, err := s.api.NewPeer(media.LegConfig{})
		require.NoError(t, err)
		defer p.Close()
		answer, _, err := p.Answer(t.Context(), offer)
		if bad != nil {
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.Contains(t, []int{400, 488}, refused.SIPStatus())
			return
		}
		require.NoError(t, err)
		mine, bad := read(answer)
		require.Nil(t, bad)
		require.Len(t, mine.sections, len(d.sections))
		_, _, err = p.Answer(t.Context(), offer)
		require.NoError(t, err, "the same again")
	})
}
