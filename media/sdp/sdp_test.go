package sdp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ivrbridge/ivrbridge/media/sdp"
)

func us() sdp.Local {
	return sdp.Local{Addr: netip.MustParseAddr("192.0.2.10"), Port: 20000}
}

// body joins lines the way RFC 8866 wants them.
func body(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

// audio is a plain description around an m= line and attributes.
func audio(lines ...string) string {
	head := []string{"v=0", "o=- 1 1 IN IP4 198.51.100.7", "s=-", "c=IN IP4 198.51.100.7", "t=0 0"}
	return body(append(head, lines...)...)
}

func answer(t require.TestingT, offer string) (string, sdp.Media) {
	var s sdp.Session
	out, m, err := s.Answer([]byte(offer), us())
	require.NoError(t, err)
	return string(out), m
}

// has returns the values of all lines of a kind.
func has(text, kind string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.HasPrefix(line, kind+"=") {
			out = append(out, line[2:])
		}
	}
	return out
}

const (
	asterisk = "v=0\r\no=- 1894736483 1894736483 IN IP4 198.51.100.7\r\ns=Asterisk\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n" +
		"m=audio 14330 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n" +
		"a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n"
	twilio = "v=0\r\no=root 1463158416 1463158416 IN IP4 198.51.100.7\r\ns=Twilio Media Gateway\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n" +
		"m=audio 12066 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n" +
		"a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:20\r\na=sendrecv\r\n"
	linphone = "v=0\r\no=alice 2741 1823 IN IP4 198.51.100.7\r\ns=Talk\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n" +
		"a=ice-pwd:31e0d4d09bc4ab6f9e7b2e2d\r\na=ice-ufrag:f4ee23bb\r\na=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\n" +
		"a=record:off\r\nm=audio 7078 RTP/AVPF 96 97 98 0 8 18 99 100 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n" +
		"a=rtpmap:97 speex/16000\r\na=fmtp:97 vbr=on\r\na=rtpmap:98 speex/8000\r\na=fmtp:98 vbr=on\r\na=fmtp:18 annexb=yes\r\n" +
		"a=rtpmap:99 telephone-event/48000\r\na=rtpmap:100 telephone-event/16000\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:7079\r\n" +
		"a=candidate:1 1 UDP 2130706303 198.51.100.7 7078 typ host\r\na=rtcp-fb:* trr-int 5000\r\na=rtcp-fb:* ccm tmmbr\r\n" +
		"m=video 9078 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n"
	baresip = "v=0\r\no=- 2323 3434 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\na=tool:baresip 3.18.0\r\n" +
		"m=audio 11412 RTP/AVP 0 8 101\r\nb=AS:125\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n" +
		"a=fmtp:101 0-15\r\na=rtcp:11413\r\na=sendrecv\r\na=label:1\r\na=rtcp-rsize\r\na=ssrc:1234567 cname:x\r\na=ptime:20\r\n"
	teams = "v=0\r\no=- 0 0 IN IP4 198.51.100.7\r\ns=session\r\nc=IN IP4 198.51.100.7\r\nb=CT:10000000\r\nt=0 0\r\n" +
		"m=audio 51426 RTP/AVP 104 9 103 111 18 0 8 97 101 13 118\r\nc=IN IP4 198.51.100.8\r\na=rtcp:51427\r\n" +
		"a=rtpmap:104 SILK/16000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:103 SILK/8000\r\na=rtpmap:111 SIREN/16000\r\na=fmtp:111 bitrate=16000\r\n" +
		"a=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:97 RED/8000\r\n" +
		"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:13 CN/8000\r\na=rtpmap:118 CN/16000\r\n" +
		"a=rtpmap:102 telephone-event/48000\r\na=ptime:20\r\n"
)

func TestAnswerTelephones(t *testing.T) {
	for name, tc := range map[string]struct {
		offer    string
		codec    sdp.Codec
		event    int // -1 none
		ptime    int
		remote   string
		rtcp     string
		mlines   []string
		payloads [2]int16
	}{
		"asterisk":   {asterisk, sdp.PCMA, 101, 20, "198.51.100.7:14330", "198.51.100.7:14331", []string{"audio 20000 RTP/AVP 8 0 101"}, [2]int16{0, 8}},
		"twilio":     {twilio, sdp.PCMU, 101, 20, "198.51.100.7:12066", "198.51.100.7:12067", []string{"audio 20000 RTP/AVP 0 8 101"}, [2]int16{0, 8}},
		"linphone":   {linphone, sdp.PCMU, 101, 20, "198.51.100.7:7078", "198.51.100.7:7079", []string{"audio 20000 RTP/AVPF 0 8 101", "video 0 RTP/AVPF 96"}, [2]int16{0, 8}},
		"baresip":    {baresip, sdp.PCMU, 101, 20, "198.51.100.7:11412", "198.51.100.7:11413", []string{"audio 20000 RTP/AVP 0 8 101"}, [2]int16{0, 8}},
		"teams":      {teams, sdp.PCMU, 101, 20, "198.51.100.8:51426", "198.51.100.8:51427", []string{"audio 20000 RTP/AVP 0 8 101"}, [2]int16{0, 8}},
		"no rtpmap":  {audio("m=audio 4000 RTP/AVP 8 0"), sdp.PCMA, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 8 0"}, [2]int16{0, 8}},
		"line feeds": {strings.ReplaceAll(asterisk, "\r\n", "\n"), sdp.PCMA, 101, 20, "198.51.100.7:14330", "198.51.100.7:14331", []string{"audio 20000 RTP/AVP 8 0 101"}, [2]int16{0, 8}},
		"no newline": {strings.TrimSpace(audio("m=audio 4000 RTP/AVP 0 96", "a=rtpmap:96 telephone-event/8000")), sdp.PCMU, 96, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0 96"}, [2]int16{0, -1}},
		"bare minimum": {
			"v=0\nc=IN IP4 198.51.100.7\nm=audio 4000 RTP/AVP 0", sdp.PCMU, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 20000 RTP/AVP 0"},
			[2]int16{0, -1},
		},
		"events at 96 of two rates": {
			audio("m=audio 4000 RTP/AVP 0 97 96", "a=rtpmap:97 telephone-event/48000", "a=rtpmap:96 telephone-event/8000"), sdp.PCMU, 96, 20,
			"198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 20000 RTP/AVP 0 96"},
			[2]int16{0, -1},
		},
		"events first": {
			audio("m=audio 4000 RTP/AVP 101 8", "a=rtpmap:101 Telephone-Event/8000"), sdp.PCMA, 101, 20, "198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 20000 RTP/AVP 8 101"},
			[2]int16{-1, 8},
		},
		"g.711 at dynamic types": {
			audio("m=audio 4000 RTP/AVP 110 111", "a=rtpmap:110 pcma/8000/1", "a=rtpmap:111 PCMU/8000"), sdp.PCMA, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 20000 RTP/AVP 110 111"},
			[2]int16{111, 110},
		},
		"twice the same": {audio("m=audio 4000 RTP/AVP 0 8 0 110", "a=rtpmap:110 PCMU/8000"), sdp.PCMU, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0 8"}, [2]int16{0, 8}},
		"wide pcmu":      {audio("m=audio 4000 RTP/AVP 110 8", "a=rtpmap:110 PCMU/16000"), sdp.PCMA, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 8"}, [2]int16{-1, 8}},
		"stereo pcmu":    {audio("m=audio 4000 RTP/AVP 110 8", "a=rtpmap:110 PCMU/8000/2"), sdp.PCMA, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 8"}, [2]int16{-1, 8}},
		"ptime 10":       {audio("m=audio 4000 RTP/AVP 0", "a=ptime:10"), sdp.PCMU, -1, 10, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"ptime 30":       {audio("m=audio 4000 RTP/AVP 0", "a=ptime:30"), sdp.PCMU, -1, 30, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"ptime 60":       {audio("m=audio 4000 RTP/AVP 0", "a=ptime: 60 "), sdp.PCMU, -1, 60, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"ptime 120":      {audio("m=audio 4000 RTP/AVP 0", "a=ptime:120"), sdp.PCMU, -1, 60, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"ptime 5":        {audio("m=audio 4000 RTP/AVP 0", "a=ptime:5"), sdp.PCMU, -1, 10, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"ptime nonsense": {audio("m=audio 4000 RTP/AVP 0", "a=ptime:-7"), sdp.PCMU, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"maxptime 10":    {audio("m=audio 4000 RTP/AVP 0", "a=maxptime:10"), sdp.PCMU, -1, 10, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"maxptime wins":  {audio("m=audio 4000 RTP/AVP 0", "a=ptime:60", "a=maxptime:30"), sdp.PCMU, -1, 30, "198.51.100.7:4000", "198.51.100.7:4001", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"fax beside": {
			audio("m=image 5000 udptl t38", "a=T38FaxVersion:0", "m=audio 4000 RTP/AVP 0"), sdp.PCMU, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"image 0 udptl t38", "audio 20000 RTP/AVP 0"},
			[2]int16{0, -1},
		},
		"secure first": {
			audio("m=audio 4002 RTP/SAVP 0", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "m=audio 4000 RTP/AVP 8"), sdp.PCMA, -1, 20, "198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 0 RTP/SAVP 0", "audio 20000 RTP/AVP 8"},
			[2]int16{-1, 8},
		},
		"first audio unusable": {
			audio("m=audio 4002 RTP/AVP 18", "m=audio 0 RTP/AVP 0", "m=audio 4000 RTP/AVP 8", "m=audio 4006 RTP/AVP 0"), sdp.PCMA, -1, 20,
			"198.51.100.7:4000", "198.51.100.7:4001",
			[]string{"audio 0 RTP/AVP 18", "audio 0 RTP/AVP 0", "audio 20000 RTP/AVP 8", "audio 0 RTP/AVP 0"},
			[2]int16{-1, 8},
		},
		"control elsewhere": {audio("m=audio 4000/2 RTP/AVP 0", "a=rtcp:53020 IN IP4 198.51.100.9"), sdp.PCMU, -1, 20, "198.51.100.7:4000", "198.51.100.9:53020", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
		"last port":         {audio("m=audio 65535 RTP/AVP 0"), sdp.PCMU, -1, 20, "198.51.100.7:65535", "198.51.100.7:0", []string{"audio 20000 RTP/AVP 0"}, [2]int16{0, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			out, m := answer(t, tc.offer)
			require.Equal(t, tc.mlines, has(out, "m"))
			require.Equal(t, tc.codec, m.Codec)
			require.Equal(t, tc.payloads, m.Payloads)
			require.Equal(t, int16(m.PayloadType), m.Payloads[m.Codec])
			require.Equal(t, tc.event >= 0, m.HasEvent)
			if m.HasEvent {
				require.Equal(t, tc.event, int(m.Event))
				require.Contains(t, out, fmt.Sprintf("a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", m.Event, m.Event))
			}
			require.Equal(t, time.Duration(tc.ptime)*time.Millisecond, m.Ptime)
			require.Contains(t, out, fmt.Sprintf("a=ptime:%d\r\n", tc.ptime))
			require.Equal(t, tc.remote, m.Remote.String())
			require.Equal(t, tc.rtcp, m.RTCP.String())
			require.Equal(t, sdp.SendRecv, m.Direction)
			require.False(t, m.Held)
			require.Equal(t, []string{"IN IP4 192.0.2.10"}, has(out, "c"))
			require.Equal(t, []string{"0 0"}, has(out, "t"))
			require.True(t, strings.HasSuffix(out, "\r\n"))
		})
	}
}

func TestAnswerRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		offer  string
		status int
		code   int
	}{
		"nothing":               {"", 400, 307},
		"text":                  {"hello world", 400, 307},
		"no stream":             {audio(), 488, 304},
		"video only":            {audio("m=video 4000 RTP/AVP 31"), 488, 304},
		"fax only":              {audio("m=image 4000 udptl t38"), 488, 304},
		"g.729 only":            {audio("m=audio 4000 RTP/AVP 18 101", "a=rtpmap:101 telephone-event/8000"), 488, 305},
		"telephone events only": {audio("m=audio 4000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"), 488, 305},
		"secure only":           {audio("m=audio 4000 RTP/SAVP 0"), 488, 302},
		"browser":               {audio("m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8"), 488, 302},
		"port 0":                {audio("m=audio 0 RTP/AVP 0"), 488, 304},
		"no c=":                 {body("v=0", "o=- 1 1 IN IP4 1.2.3.4", "s=-", "t=0 0", "m=audio 4000 RTP/AVP 0"), 400, 307},
		"c= of another stream":  {body("v=0", "m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 31", "c=IN IP4 198.51.100.7"), 400, 307},
		"c= half":               {body("v=0", "c=IN IP4", "m=audio 4000 RTP/AVP 0"), 400, 307},
		"c= of atm":             {body("v=0", "c=ATM NSAP 47.0091", "m=audio 4000 RTP/AVP 0"), 400, 307},
		"c= by name":            {body("v=0", "c=IN IP4 example.com", "m=audio 4000 RTP/AVP 0"), 488, 301},
		"multicast":             {body("v=0", "c=IN IP4 224.2.1.1/127", "m=audio 4000 RTP/AVP 0"), 488, 330},
		"other version of ip":   {body("v=0", "c=IN IP6 2001:db8::7", "m=audio 4000 RTP/AVP 0"), 488, 301},
		"port too large":        {audio("m=audio 70000 RTP/AVP 0"), 400, 307},
		"port negative":         {audio("m=audio -1 RTP/AVP 0"), 400, 307},
		"port no number":        {audio("m=audio $ RTP/AVP 0"), 400, 307},
		"m= short":              {audio("m=audio 4000"), 400, 307},
		"no formats":            {audio("m=audio 4000 RTP/AVP"), 400, 307},
		"odd characters":        {audio("m=audio 4000 RTP/AVP\x01 0"), 400, 307},
		"too many streams":      {audio(strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", 40)), 400, 307},
		"too many formats":      {audio("m=audio 4000 RTP/AVP" + strings.Repeat(" 0", 200)), 400, 307},
		"too large":             {audio("a=x:" + strings.Repeat("x", 70000)), 400, 307},
	} {
		t.Run(name, func(t *testing.T) {
			var s sdp.Session
			_, _, err := s.Answer([]byte(tc.offer), us())
			var e *sdp.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, tc.status, e.SIPStatus())
			require.Equal(t, tc.code, e.Code)
			require.True(t, strings.HasPrefix(e.Warning("bridge"), fmt.Sprintf(`%d bridge "`, tc.code)), e.Warning("bridge"))
			_, agreed := s.Current()
			require.False(t, agreed)
		})
	}
}

func TestDirections(t *testing.T) {
	for name, tc := range map[string]struct {
		lines  []string
		local  sdp.Direction
		want   sdp.Direction
		held   bool
		before []string
	}{
		"plain":                {nil, sdp.SendRecv, sdp.SendRecv, false, nil},
		"sendrecv":             {[]string{"a=sendrecv"}, sdp.SendRecv, sdp.SendRecv, false, nil},
		"they hold":            {[]string{"a=sendonly"}, sdp.SendRecv, sdp.RecvOnly, true, nil},
		"they hold both ways":  {[]string{"a=inactive"}, sdp.SendRecv, sdp.Inactive, true, nil},
		"they only listen":     {[]string{"a=recvonly"}, sdp.SendRecv, sdp.SendOnly, false, nil},
		"session level":        {nil, sdp.SendRecv, sdp.RecvOnly, true, []string{"a=sendonly"}},
		"stream level wins":    {[]string{"a=sendrecv"}, sdp.SendRecv, sdp.SendRecv, false, []string{"a=inactive"}},
		"old hold":             {[]string{"c=IN IP4 0.0.0.0"}, sdp.SendRecv, sdp.RecvOnly, true, nil},
		"old hold, inactive":   {[]string{"c=IN IP4 0.0.0.0", "a=inactive"}, sdp.SendRecv, sdp.Inactive, true, nil},
		"old hold, new idea":   {[]string{"c=IN IP4 0.0.0.0", "a=sendonly"}, sdp.SendRecv, sdp.RecvOnly, true, nil},
		"we hold":              {nil, sdp.SendOnly, sdp.SendOnly, false, nil},
		"both hold":            {[]string{"a=sendonly"}, sdp.SendOnly, sdp.Inactive, true, nil},
		"we want silence":      {nil, sdp.Inactive, sdp.Inactive, false, nil},
		"we only listen":       {[]string{"a=recvonly"}, sdp.RecvOnly, sdp.Inactive, false, nil},
		"unknown beside":       {[]string{"a=sendonly:x", "a=x-sendonly"}, sdp.SendRecv, sdp.RecvOnly, true, nil},
		"two: the first holds": {[]string{"a=inactive", "a=sendrecv"}, sdp.SendRecv, sdp.Inactive, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lines := append(append(append([]string{}, tc.before...), "m=audio 4000 RTP/AVP 0"), tc.lines...)
			l := us()
			l.Direction = tc.local
			var s sdp.Session
			out, m, err := s.Answer([]byte(audio(lines...)), l)
			require.NoError(t, err)
			require.Equal(t, tc.want, m.Direction)
			require.Equal(t, tc.held, m.Held)
			require.Equal(t, []string{"audio 20000 RTP/AVP 0"}, has(string(out), "m"), "the port stays")
			require.Contains(t, string(out), "a="+tc.want.String()+"\r\n")
		})
	}
}

func TestIPv6(t *testing.T) {
	l := us()
	l.Addr = netip.MustParseAddr("2001:db8::10")
	var s sdp.Session
	offer := body("v=0", "o=- 1 1 IN IP6 2001:db8::7", "s=-", "c=IN IP6 2001:db8::7", "t=0 0", "m=audio 4000 RTP/AVP 0")
	out, m, err := s.Answer([]byte(offer), l)
	require.NoError(t, err)
	require.Equal(t, "[2001:db8::7]:4000", m.Remote.String())
	require.Equal(t, []string{"IN IP6 2001:db8::10"}, has(string(out), "c"))
	require.True(t, strings.HasSuffix(has(string(out), "o")[0], " IN IP6 2001:db8::10"))

	held := strings.Replace(offer, "c=IN IP6 2001:db8::7", "c=IN IP6 ::", 1)
	_, m, err = s.Answer([]byte(held), l)
	require.NoError(t, err)
	require.True(t, m.Held)
}

// origin is the id and version of o=.
func origin(t *testing.T, text []byte) (id, version uint64) {
	t.Helper()
	_, err := fmt.Sscanf(has(string(text), "o")[0], "- %d %d IN", &id, &version)
	require.NoError(t, err)
	return id, version
}

func TestVersionGrowsWithChangesOnly(t *testing.T) {
	var s sdp.Session
	first, _, err := s.Answer([]byte(asterisk), us())
	require.NoError(t, err)
	id, version := origin(t, first)
	again, _, err := s.Answer([]byte(asterisk), us())
	require.NoError(t, err)
	require.Equal(t, string(first), string(again), "a session refresh changes nothing")

	_, _, err = s.Answer([]byte(audio("m=audio 4000 RTP/AVP 18")), us())
	require.Error(t, err)
	hold, m, err := s.Answer([]byte(strings.Replace(asterisk, "a=sendrecv", "a=sendonly", 1)), us())
	require.NoError(t, err)
	require.True(t, m.Held)
	id2, version2 := origin(t, hold)
	require.Equal(t, id, id2)
	require.Equal(t, version+1, version2)

	resume, m, err := s.Answer([]byte(asterisk), us())
	require.NoError(t, err)
	require.False(t, m.Held)
	_, version3 := origin(t, resume)
	require.Equal(t, version+2, version3)

	offer, err := s.Offer(us())
	require.NoError(t, err)
	id4, version4 := origin(t, offer)
	require.Equal(t, id, id4)
	require.Equal(t, version3, version4, "our refresh says the same")
}

func TestFailureLeavesTheOldState(t *testing.T) {
	var s sdp.Session
	_, before, err := s.Answer([]byte(asterisk), us())
	require.NoError(t, err)
	for _, bad := range []string{"", audio("m=audio 4000 RTP/AVP 18"), audio("m=audio 4000 RTP/SAVP 0"), audio("m=audio 0 RTP/AVP 0")} {
		_, _, err := s.Answer([]byte(bad), us())
		require.Error(t, err)
		now, agreed := s.Current()
		require.True(t, agreed)
		require.Equal(t, before, now)
	}
	_, err = s.Offer(us())
	require.NoError(t, err)
	_, err = s.Accept([]byte(audio("m=audio 0 RTP/AVP 0")))
	require.Error(t, err)
	now, _ := s.Current()
	require.Equal(t, before, now)
}

func TestReofferChangesCodecAndPort(t *testing.T) {
	var s sdp.Session
	_, _, err := s.Answer([]byte(audio("m=audio 4000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000")), us())
	require.NoError(t, err)
	out, m, err := s.Answer([]byte(audio("m=audio 4100 RTP/AVP 8 97", "a=rtpmap:97 telephone-event/8000")), us())
	require.NoError(t, err)
	require.Equal(t, sdp.PCMA, m.Codec)
	require.Equal(t, uint8(97), m.Event)
	require.Equal(t, uint16(4100), m.Remote.Port())
	require.Equal(t, []string{"audio 20000 RTP/AVP 8 97"}, has(string(out), "m"))
	now, _ := s.Current()
	require.Equal(t, m, now)
}

func TestStreamInUseIsKept(t *testing.T) {
	var s sdp.Session
	_, _, err := s.Answer([]byte(audio("m=audio 4000 RTP/AVP 18", "m=audio 4002 RTP/AVP 0")), us())
	require.NoError(t, err)
	_, m, err := s.Answer([]byte(audio("m=audio 4000 RTP/AVP 0", "m=audio 4002 RTP/AVP 0")), us())
	require.NoError(t, err)
	require.Equal(t, uint16(4002), m.Remote.Port())
}

func TestOfferAndAccept(t *testing.T) {
	var s sdp.Session
	l := us()
	l.Name = "ivrbridge\r\nm=evil"
	offer, err := s.Offer(l)
	require.NoError(t, err)
	require.Equal(t, []string{"audio 20000 RTP/AVP 0 8 101"}, has(string(offer), "m"))
	require.Equal(t, []string{"ivrbridgem=evil"}, has(string(offer), "s"))
	_, agreed := s.Current()
	require.False(t, agreed)

	var far sdp.Session
	theirs := sdp.Local{Addr: netip.MustParseAddr("198.51.100.7"), Port: 4000, Codecs: []sdp.Codec{sdp.PCMA}}
	ans, farMedia, err := far.Answer(offer, theirs)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.10:20000", farMedia.Remote.String())
	m, err := s.Accept(ans)
	require.NoError(t, err)
	require.Equal(t, sdp.PCMA, m.Codec)
	require.Equal(t, uint8(8), m.PayloadType)
	require.True(t, m.HasEvent)
	require.Equal(t, "198.51.100.7:4000", m.Remote.String())
	again, err := s.Accept(ans)
	require.NoError(t, err, "the 200 repeats what the 183 said")
	require.Equal(t, m, again)

	// Hold and resume, by us and by them.
	l.Direction = sdp.SendOnly
	offer, err = s.Offer(l)
	require.NoError(t, err)
	require.Equal(t, []string{"audio 20000 RTP/AVP 8 0 101"}, has(string(offer), "m"), "the codec in use comes first")
	ans, farMedia, err = far.Answer(offer, theirs)
	require.NoError(t, err)
	require.True(t, farMedia.Held)
	m, err = s.Accept(ans)
	require.NoError(t, err)
	require.Equal(t, sdp.SendOnly, m.Direction)
	require.False(t, m.Held, "it is we who hold")
	l.Direction = sdp.SendRecv
	offer, err = s.Offer(l)
	require.NoError(t, err)
	theirs.Direction = sdp.SendOnly
	ans, _, err = far.Answer(offer, theirs)
	require.NoError(t, err)
	m, err = s.Accept(ans)
	require.NoError(t, err)
	require.Equal(t, sdp.RecvOnly, m.Direction)
	require.True(t, m.Held)
}

func TestReofferRepeatsAllStreamsAndTheirPayloadTypes(t *testing.T) {
	var s sdp.Session
	_, _, err := s.Answer([]byte(audio("m=image 5000 udptl t38", "m=audio 4000 RTP/AVPF 110 97", "a=rtpmap:110 PCMA/8000", "a=rtpmap:97 telephone-event/8000", "m=video 6000 RTP/AVP 31 34")), us())
	require.NoError(t, err)
	offer, err := s.Offer(us())
	require.NoError(t, err)
	require.Equal(t, []string{"image 0 udptl t38", "audio 20000 RTP/AVPF 110 0 97", "video 0 RTP/AVP 31 34"}, has(string(offer), "m"))
}

func TestAcceptRefuses(t *testing.T) {
	var s sdp.Session
	_, err := s.Accept([]byte(asterisk))
	require.ErrorIs(t, err, sdp.ErrNoOffer)
	l := us()
	l.Codecs = []sdp.Codec{sdp.PCMU}
	_, err = s.Offer(l)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"nothing":      "",
		"no stream":    audio(),
		"port 0":       audio("m=audio 0 RTP/AVP 0"),
		"not offered":  audio("m=audio 4000 RTP/AVP 8"),
		"other stream": audio("m=video 4000 RTP/AVP 31"),
		"no address":   body("v=0", "m=audio 4000 RTP/AVP 0"),
	} {
		_, err := s.Accept([]byte(text))
		var e *sdp.Error
		require.ErrorAs(t, err, &e, name)
	}
	_, err = s.Accept([]byte(audio("m=audio 4000 RTP/AVP 0")))
	require.NoError(t, err)
	_, _, err = s.Answer([]byte(asterisk), us())
	require.NoError(t, err)
	_, err = s.Accept([]byte(asterisk))
	require.ErrorIs(t, err, sdp.ErrNoOffer, "their offer came after ours")
}

func TestOfferNeedsAnAddress(t *testing.T) {
	var s sdp.Session
	_, err := s.Offer(sdp.Local{Port: 4})
	require.Error(t, err)
	_, err = s.Offer(sdp.Local{Addr: us().Addr})
	require.Error(t, err)
}

func TestOurCodecs(t *testing.T) {
	l := us()
	l.Codecs = []sdp.Codec{sdp.PCMA}
	var s sdp.Session
	out, m, err := s.Answer([]byte(twilio), l)
	require.NoError(t, err)
	require.Equal(t, sdp.PCMA, m.Codec)
	require.Equal(t, []string{"audio 20000 RTP/AVP 8 101"}, has(string(out), "m"))
}

func TestControlIsMultiplexedWhereBothCan(t *testing.T) {
	offer := []byte(audio("m=audio 4000 RTP/AVP 0", "a=rtcp-mux"))
	var s sdp.Session
	out, m, err := s.Answer(offer, us())
	require.NoError(t, err)
	require.False(t, m.RTCPMux)
	require.NotContains(t, string(out), "rtcp-mux")
	l := us()
	l.RTCPMux = true
	out, m, err = s.Answer(offer, l)
	require.NoError(t, err)
	require.True(t, m.RTCPMux)
	require.Equal(t, m.Remote, m.RTCP)
	require.Contains(t, string(out), "a=rtcp-mux\r\n")
}

func TestTimesAreRepeated(t *testing.T) {
	for times, want := range map[string]string{"2873397496 2873404696": "2873397496 2873404696", "0 0": "0 0", "now": "0 0", "1 x": "0 0"} {
		out, _ := answer(t, body("v=0", "c=IN IP4 198.51.100.7", "t="+times, "m=audio 4000 RTP/AVP 0"))
		require.Equal(t, []string{want}, has(out, "t"))
	}
}

func TestDirectionAlgebra(t *testing.T) {
	for d := sdp.SendRecv; d <= sdp.Inactive; d++ {
		require.Equal(t, d, d.Reverse().Reverse())
		require.Equal(t, d, d.And(sdp.SendRecv))
		require.Equal(t, sdp.Inactive, d.And(sdp.Inactive))
		require.Equal(t, d.Send(), d.Reverse().Recv())
	}
}

// Every answer has as many streams as the offer, of the same kind and in the
// same order, at most one of them in use, and can be parsed by the other side.
func TestAnswerProperty(t *testing.T) {
	kinds := []string{"audio", "video", "image", "application"}
	protos := []string{"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "udptl", "TCP/MRCPv2"}
	rapid.Check(t, func(t *rapid.T) {
		lines := []string{"v=0", "o=- 1 1 IN IP4 198.51.100.7", "s=-", "c=IN IP4 198.51.100.7", "t=0 0"}
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "streams") {
			kind, proto := rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.SampledFrom(protos).Draw(t, "proto")
			formats := rapid.SliceOfN(rapid.SampledFrom([]string{"0", "8", "18", "9", "101", "96", "t38"}), 1, 5).Draw(t, "formats")
			port := rapid.SampledFrom([]int{0, 4000, 65535}).Draw(t, "port")
			lines = append(lines, fmt.Sprintf("m=%s %d %s %s", kind, port, proto, strings.Join(formats, " ")))
			lines = append(lines, rapid.SliceOfN(rapid.SampledFrom([]string{
				"a=rtpmap:101 telephone-event/8000", "a=rtpmap:96 PCMU/8000", "a=sendonly", "a=inactive", "a=ptime:30", "a=rtcp-mux", "a=rtcp:9", "a=x", "c=IN IP4 0.0.0.0", "b=AS:64",
			}), 0, 4).Draw(t, "attributes")...)
			want = append(want, kind+" "+proto)
		}
		var s, far sdp.Session
		_, err := far.Offer(us())
		require.NoError(t, err)
		out, m, err := s.Answer([]byte(body(lines...)), us())
		if err != nil {
			var e *sdp.Error
			require.ErrorAs(t, err, &e)
			return
		}
		used := 0
		mlines := has(string(out), "m")
		require.Len(t, mlines, len(want))
		for i, line := range mlines {
			fields := strings.Fields(line)
			require.Equal(t, want[i], fields[0]+" "+fields[2])
			if fields[1] != "0" {
				used++
			}
		}
		require.Equal(t, 1, used)
		require.Contains(t, string(out), "a="+m.Direction.String()+"\r\n")
		if want[0] == "audio RTP/AVP" && strings.HasPrefix(mlines[0], "audio 20000") {
			_, err = far.Accept(out)
			require.NoError(t, err)
		}
		again, err := s.Offer(us())
		require.NoError(t, err)
		require.Len(t, has(string(again), "m"), len(want))
	})
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{asterisk, twilio, linphone, baresip, teams, audio("m=image 1 udptl t38", "m=audio 4000/2 RTP/AVP 0", "a=rtcp:1 IN IP6 ::1"), ""} {
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, accept bool) {
		var s sdp.Session
		if accept {
			if _, err := s.Offer(us()); err != nil {
				t.Fatal(err)
			}
			_, _ = s.Accept(text)
			return
		}
		out, m, err := s.Answer(text, us())
		if err != nil {
			var e *sdp.Error
			if !errors.As(err, &e) || (e.Status != 400 && e.Status != 488) {
				t.Fatalf("%v", err)
			}
			return
		}
		if m.Ptime < 10*time.Millisecond || m.Ptime > 60*time.Millisecond || m.Remote.Port() == 0 {
			t.Fatalf("%+v", m)
		}
		var far sdp.Session
		if _, _, err := far.Answer(out, sdp.Local{Addr: us().Addr, Port: 9}); err != nil {
			t.Fatalf("our own answer is refused: %v\n%s", err, out)
		}
	})
}
