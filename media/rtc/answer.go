package rtc

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

// A local is what of our side a description says.
type local struct {
	ufrag, pwd string
	print      string   // hash and value
	setup      string   // our part in DTLS
	candidates []string // as they stand after a=candidate:
	send, recv bool
}

// shown writes the description of the far end that the peer connection is shown:
// one audio section, whatever there is, with the transport that was found. Its
// one codec and source are placeholders.
func (r *remote) shown() string {
	var b strings.Builder
	b.WriteString("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")
	if r.lite {
		b.WriteString("a=ice-lite\r\n")
	}
	b.WriteString("a=group:BUNDLE 0\r\na=ice-options:trickle\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1 cname:far\r\n")
	fmt.Fprintf(&b, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=fingerprint:%s %s\r\na=setup:%s\r\n", r.ufrag, r.pwd, r.hash, r.print, r.setup)
	for _, c := range r.candidates {
		fmt.Fprintf(&b, "a=candidate:%s\r\n", c)
	}
	return b.String()
}

// seen reads our side of what the peer connection describes.
func (l *local) seen(description string) {
	for line := range strings.Lines(description) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		switch key {
		case "a=ice-ufrag":
			l.ufrag = value
		case "a=ice-pwd":
			l.pwd = value
		case "a=fingerprint":
			l.print = value
		case "a=setup":
			l.setup = value
		case "a=candidate":
			l.candidates = append(l.candidates, value)
		}
	}
}

// addresses lets our candidates name the addresses that browsers reach us at.
func (a *API) addresses(all []string) []string {
	var out []string
	add := func(c string) {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	seen := map[string]bool{}
	for _, c := range all {
		f := strings.Fields(c)
		if len(f) < 8 || f[1] != "1" {
			continue
		}
		addr, err := netip.ParseAddr(f[4])
		if err != nil {
			continue
		}
		if f[7] != "host" {
			add(c)
			continue
		}
		if addr.IsLoopback() && !a.conf.Loopback || addr.IsLinkLocalUnicast() || addr.IsUnspecified() {
			continue
		}
		if len(a.conf.External) == 0 {
			add(c)
			continue
		}
		for _, e := range a.conf.External {
			e = e.Unmap()
			if place := f[2] + " " + e.String() + " " + f[5]; e.Is4() == addr.Unmap().Is4() && !seen[place] {
				seen[place] = true
				f[4] = e.String()
				add(strings.Join(f, " "))
			}
		}
	}
	if m := a.mapped.Load(); m != nil && !slices.ContainsFunc(out, func(c string) bool { return strings.Contains(c, fmt.Sprintf(" %s %d ", m.Addr(), m.Port())) }) {
		const preference = 100<<24 | 65535<<8 | 255 // RFC 8445 section 5.1.2
		add(fmt.Sprintf("stun 1 udp %d %s %d typ srflx raddr 0.0.0.0 rport 0", preference, m.Addr(), m.Port()))
	}
	return out
}

// A identity names our session in descriptions.
type identity struct {
	id, version uint64
	ssrc        uint32
	cname       string
}

// write makes our description with respect to the far end's: one section for each
// of its own, all but one rejected (RFC 3264 section 6, RFC 8843 section 7.3).
func (l *local) write(r *remote, who identity) []byte {
	var b strings.Builder
	addr, port := l.place()
	family := "IP4"
	if addr.Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "v=0\r\no=%s %d %d IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", streamID, who.id, who.version)
	if r.bundled {
		fmt.Fprintf(&b, "a=group:BUNDLE %s\r\n", r.mid)
	}
	if r.trickle {
		b.WriteString("a=ice-options:trickle\r\n")
	}
	fmt.Fprintf(&b, "a=msid-semantic: WMS %s\r\n", streamID)
	for i := range r.lines {
		s := &r.lines[i]
		if i != r.at {
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\nc=IN IP4 0.0.0.0\r\n", s.kind, s.proto, strings.Join(s.formats, " "))
			if mid, ok := s.get("mid"); ok && token(mid) {
				fmt.Fprintf(&b, "a=mid:%s\r\n", mid)
			}
			b.WriteString("a=inactive\r\n")
			continue
		}
		fmt.Fprintf(&b, "m=audio %d %s %s\r\nc=IN %s %s\r\n", port, s.proto, strings.Join(r.formats, " "), family, addr)
		if r.mid != "" {
			fmt.Fprintf(&b, "a=mid:%s\r\n", r.mid)
		}
		l.audio(&b, r, who)
	}
	return []byte(b.String())
}

// audio writes what belongs to the one section that is taken.
func (l *local) audio(b *strings.Builder, r *remote, who identity) {
	fmt.Fprintf(b, "a=%s\r\na=rtcp-mux\r\n", l.direction())
	for _, f := range r.formats {
		switch n, _ := strconv.Atoi(f); {
		case n == int(r.accept[pcm.Mu&1]):
			fmt.Fprintf(b, "a=rtpmap:%s PCMU/8000\r\n", f)
		case n == int(r.accept[pcm.A&1]):
			fmt.Fprintf(b, "a=rtpmap:%s PCMA/8000\r\n", f)
		default:
			fmt.Fprintf(b, "a=rtpmap:%s telephone-event/8000\r\na=fmtp:%s 0-15\r\n", f, f)
		}
	}
	fmt.Fprintf(b, "a=ptime:20\r\na=ssrc:%d cname:%s\r\na=ssrc:%d msid:%s audio\r\na=msid:%s audio\r\n",
		who.ssrc, who.cname, who.ssrc, streamID, streamID)
	fmt.Fprintf(b, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=fingerprint:%s\r\na=setup:%s\r\n", l.ufrag, l.pwd, l.print, l.setup)
	for _, c := range l.candidates {
		fmt.Fprintf(b, "a=candidate:%s\r\n", c)
	}
	b.WriteString("a=end-of-candidates\r\n")
}

// place is the default candidate (RFC 8839 section 4.2.1.2): the first over UDP.
func (l *local) place() (netip.Addr, uint16) {
	for _, c := range l.candidates {
		f := strings.Fields(c)
		addr, err := netip.ParseAddr(f[4])
		port, portErr := strconv.ParseUint(f[5], 10, 16)
		if err == nil && portErr == nil && strings.EqualFold(f[2], "udp") {
			return addr, uint16(port)
		}
	}
	return netip.IPv4Unspecified(), 9
}

func (l *local) direction() string {
	switch {
	case l.send && l.recv:
		return "sendrecv"
	case l.send:
		return "sendonly"
	case l.recv:
		return "recvonly"
	default:
		return "inactive"
	}
}
