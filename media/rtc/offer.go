package rtc

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/media/pcm"
)

const (
	offerMost     = 64 << 10 // bytes of a description
	sectionsMost  = 64       // m= lines
	candidateMost = 32       // candidates of a far end that are tried: each costs checks
)

// An Error refuses a description and leaves everything as it was.
type Error struct {
	Status int    // SIP status to answer with: 400 for a malformed description, 488 for one that cannot be accepted
	Reason string // one sentence without its period, free of the peer's words
}

// Error implements error.
func (e *Error) Error() string { return "rtc: " + e.Reason }

// SIPStatus is the status code that refuses the request.
func (e *Error) SIPStatus() int { return e.Status }

func malformed(format string, args ...any) *Error {
	return &Error{Status: 400, Reason: fmt.Sprintf(format, args...)}
}

func unacceptable(reason string) *Error {
	return &Error{Status: 488, Reason: reason}
}

// A section is one m= line with what belongs to it, or what stands before all of
// them.
type section struct {
	kind, proto string
	port        int
	formats     []string
	attrs       []attribute
}

type attribute struct{ key, value string }

// get returns the first value of an attribute.
func (s *section) get(key string) (string, bool) {
	for _, a := range s.attrs {
		if a.key == key {
			return a.value, true
		}
	}
	return "", false
}

func (s *section) has(key string) bool {
	_, ok := s.get(key)
	return ok
}

// used reports whether the far end means the section: one of port 0 is rejected,
// unless it shares the transport of another (RFC 8843 section 6).
func (s *section) used() bool { return s.port != 0 || s.has("bundle-only") }

// A description is a session description, taken apart and not judged.
type description struct {
	session  section
	sections []section
	bundle   []string // mids of the group, the first is the one whose transport counts
}

// read takes a description apart. What it does not know it passes over.
func read(sdp []byte) (*description, *Error) {
	if len(sdp) > offerMost {
		return nil, malformed("a description of more than %d bytes is not read", offerMost)
	}
	if !strings.HasPrefix(strings.TrimLeft(string(sdp), "\r\n\t "), "v=0") {
		return nil, malformed("this is no session description")
	}
	d := &description{}
	in := &d.session
	for line := range strings.Lines(string(sdp)) {
		line = strings.TrimRight(line, "\r\n\t ")
		if len(line) < 2 || line[1] != '=' {
			continue
		}
		switch line[0] {
		case 'm':
			if len(d.sections) == sectionsMost {
				return nil, malformed("a description of more than %d media is not read", sectionsMost)
			}
			m, err := readMedia(line[2:])
			if err != nil {
				return nil, err
			}
			d.sections = append(d.sections, m)
			in = &d.sections[len(d.sections)-1]
		case 'a':
			key, value, _ := strings.Cut(line[2:], ":")
			in.attrs = append(in.attrs, attribute{strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)})
		}
	}
	if len(d.sections) == 0 {
		return nil, malformed("the description has no media")
	}
	for _, a := range d.session.attrs {
		if group, mids, _ := strings.Cut(a.value, " "); a.key == "group" && strings.EqualFold(group, "BUNDLE") {
			d.bundle = strings.Fields(mids)
			break
		}
	}
	return d, nil
}

func readMedia(line string) (section, *Error) {
	f := strings.Fields(line)
	if len(f) < 4 {
		return section{}, malformed("an m= line has too few fields")
	}
	number, _, _ := strings.Cut(f[1], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return section{}, malformed("an m= line has no port")
	}
	if !token(f[0]) || !token(strings.ReplaceAll(f[2], "/", "")) || slices.ContainsFunc(f[3:], func(s string) bool { return !token(s) }) {
		return section{}, malformed("an m= line has odd characters")
	}
	return section{kind: strings.ToLower(f[0]), proto: f[2], port: int(port), formats: f[3:]}, nil
}

// token tells the characters of RFC 8866 section 9.
func token(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7F || strings.IndexByte("\"(),/:;<=>?@[\\]", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// A remote is what of a far end's description matters.
type remote struct {
	lines   []section // all m= lines, for ours
	at      int       // which of them is the audio that is taken
	mid     string
	bundled bool
	mids    []string // whose candidates are the audio's
	trickle bool
	lite    bool

	ufrag, pwd  string
	hash, print string
	setup       string // active, passive or actpass
	candidates  []string

	formats []string // payload types that are taken, in the far end's order
	law     pcm.Law
	pt      uint8
	accept  [2]int16
	event   uint8
	hasEvnt bool
	ptime   time.Duration
	send    bool // what the far end wants to do
	recv    bool
}

// understand judges a description. The audio that was agreed on stays at its
// place, at; -1 takes the first that fits.
func (d *description) understand(at int, loopback bool) (*remote, *Error) {
	r := &remote{lines: d.sections, at: at}
	if at < 0 {
		err := d.choose(r)
		if err != nil {
			return nil, err
		}
	} else if at >= len(d.sections) || d.sections[at].kind != "audio" {
		return nil, malformed("the audio is not at its place any more")
	}
	s := &d.sections[r.at]
	if !s.used() {
		return nil, unacceptable("the audio is switched off")
	}
	if !secure(s.proto) {
		return nil, unacceptable("the audio is not DTLS-SRTP")
	}
	if !r.codecs(s) {
		return nil, unacceptable("the audio has no G.711")
	}
	r.mid, _ = s.get("mid")
	if r.mid != "" && !token(r.mid) {
		return nil, malformed("a mid has odd characters")
	}
	r.bundled = r.mid != "" && slices.Contains(d.bundle, r.mid)
	r.mids = []string{r.mid}
	if r.bundled {
		r.mids = append(r.mids, d.bundle[0])
	}
	r.send, r.recv = directions(&d.session, s)
	r.lite = d.session.has("ice-lite")
	options, _ := d.inherited(r, "ice-options")
	r.trickle = slices.Contains(strings.Fields(options), "trickle")
	if _, ok := d.inherited(r, "rtcp-mux"); !ok {
		return nil, unacceptable("RTCP is not multiplexed with RTP (rtcp-mux)")
	}
	if err := d.transport(r); err != nil {
		return nil, err
	}
	r.candidates = d.reachable(r, loopback)
	return r, nil
}

// choose finds the first audio that can be taken, else what is wrong with all.
func (d *description) choose(r *remote) *Error {
	why := unacceptable("there is no audio")
	for i := range d.sections {
		s := &d.sections[i]
		switch {
		case s.kind != "audio" || !s.used():
		case !secure(s.proto):
			why = unacceptable("the audio is not DTLS-SRTP")
		case !(&remote{}).codecs(s):
			why = unacceptable("the audio has no G.711")
		default:
			r.at = i
			return nil
		}
	}
	return why
}

// secure tells the profiles of DTLS-SRTP (RFC 5764 section 8, RFC 7850), with
// feedback or without.
func secure(proto string) bool {
	switch strings.ToUpper(proto) {
	case "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP":
		return true
	}
	return false
}

// codecs finds the payload types of G.711 and of telephone events at 8 kHz, and
// reports whether there is G.711. The far end's first law is the one we send.
func (r *remote) codecs(s *section) bool {
	r.accept = [2]int16{-1, -1}
	found := false
	for _, f := range s.formats {
		n, err := strconv.ParseUint(f, 10, 7)
		if err != nil || n >= 64 && n <= 95 { // RFC 5761 section 4
			continue
		}
		switch name := s.encoding(f); {
		case name == "pcmu/8000" || name == "" && n == 0:
			found = r.take(pcm.Mu, n, f, found)
		case name == "pcma/8000" || name == "" && n == 8:
			found = r.take(pcm.A, n, f, found)
		case name == "telephone-event/8000" && !r.hasEvnt:
			r.event, r.hasEvnt = uint8(n), true
			r.formats = append(r.formats, f)
		}
	}
	if text, ok := s.get("ptime"); ok {
		if ms, err := strconv.ParseFloat(text, 64); err == nil && ms >= 10 && ms <= 60 {
			r.ptime = time.Duration(int(ms)/10*10) * time.Millisecond
		}
	}
	return found
}

// take notes the payload type of a law.
func (r *remote) take(law pcm.Law, n uint64, format string, found bool) bool {
	if r.accept[law&1] >= 0 {
		return found
	}
	r.accept[law&1] = int16(n)
	r.formats = append(r.formats, format)
	if !found {
		r.law, r.pt = law, uint8(n)
	}
	return true
}

// encoding is what a payload type stands for, in lower case and without the
// number of channels, which is one; "" where it is not said.
func (s *section) encoding(format string) string {
	for _, a := range s.attrs {
		if n, name, _ := strings.Cut(a.value, " "); a.key == "rtpmap" && n == format {
			return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), "/1")
		}
	}
	return ""
}

// directions is what the far end wants to do.
func directions(session, s *section) (send, recv bool) {
	for _, part := range []*section{s, session} {
		for _, a := range part.attrs {
			switch a.key {
			case "sendrecv":
				return true, true
			case "sendonly":
				return true, false
			case "recvonly":
				return false, true
			case "inactive":
				return false, false
			}
		}
	}
	return true, true
}

// inherited is an attribute of the audio, of the session, or of the section whose
// transport the audio shares.
func (d *description) inherited(r *remote, key string) (string, bool) {
	for _, s := range d.places(r) {
		if v, ok := s.get(key); ok {
			return v, true
		}
	}
	return "", false
}

// places are the sections where the transport of the audio may be described.
func (d *description) places(r *remote) []*section {
	all := []*section{&d.sections[r.at], &d.session}
	if r.bundled {
		for i := range d.sections {
			if mid, _ := d.sections[i].get("mid"); mid == d.bundle[0] && i != r.at {
				all = append(all, &d.sections[i])
			}
		}
	}
	return all
}

// transport finds the values of ICE and DTLS.
func (d *description) transport(r *remote) *Error {
	var ok bool
	if r.ufrag, ok = d.inherited(r, "ice-ufrag"); !ok {
		return unacceptable("the audio has no ICE (ice-ufrag)")
	}
	if r.pwd, ok = d.inherited(r, "ice-pwd"); !ok {
		return unacceptable("the audio has no ICE (ice-pwd)")
	}
	if len(r.ufrag) < 4 || len(r.ufrag) > 256 || !iceChars(r.ufrag) || len(r.pwd) < 22 || len(r.pwd) > 256 || !iceChars(r.pwd) {
		return malformed("ice-ufrag or ice-pwd is malformed")
	}
	switch r.setup, ok = d.inherited(r, "setup"); {
	case !ok:
		r.setup = "active" // RFC 4145 section 4
	case r.setup == "holdconn":
		return unacceptable("the audio has no DTLS connection now (setup)")
	case r.setup != "active" && r.setup != "passive" && r.setup != "actpass":
		return malformed("setup is malformed")
	}
	return d.fingerprint(r)
}

// strength orders the hashes of fingerprints, with their lengths.
var strength = []struct {
	name string
	size int
}{{"sha-256", 32}, {"sha-384", 48}, {"sha-512", 64}, {"sha-224", 28}, {"sha-1", 20}}

// fingerprint finds the certificate's hash.
func (d *description) fingerprint(r *remote) *Error {
	best := len(strength)
	seen := false
	for _, s := range d.places(r) {
		for _, a := range s.attrs {
			if a.key != "fingerprint" {
				continue
			}
			seen = true
			hash, value, _ := strings.Cut(a.value, " ")
			hash, value = strings.ToLower(hash), strings.ToUpper(strings.TrimSpace(value))
			for i, h := range strength[:best] {
				if raw, err := hex.DecodeString(strings.ReplaceAll(value, ":", "")); h.name == hash && err == nil &&
					len(raw) == h.size && len(value) == 3*h.size-1 {
					best, r.hash, r.print = i, hash, value
					break
				}
			}
		}
		if r.print != "" {
			return nil
		}
	}
	if seen {
		return malformed("no fingerprint is of a known hash and well-formed")
	}
	return unacceptable("the audio has no fingerprint")
}

func iceChars(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// reachable lists the candidates that are tried.
func (d *description) reachable(r *remote, loopback bool) []string {
	var all []string
	for _, s := range d.places(r) {
		for _, a := range s.attrs {
			if a.key != "candidate" || len(all) == candidateMost {
				continue
			}
			if c, _, ok := candidate(a.value, loopback); ok {
				all = append(all, c)
			}
		}
		if len(all) > 0 {
			break
		}
	}
	return all
}

// candidate reads one candidate (RFC 8839 section 5.1) and returns what of it is
// needed, and the description that it belongs to where it says so. It is not ok
// when it cannot be tried: names, which are of multicast DNS, TCP, where it is
// the far end that connects, and addresses that no browser has.
func candidate(text string, loopback bool) (clean, ufrag string, ok bool) {
	f := strings.Fields(strings.TrimPrefix(text, "candidate:"))
	if len(f) < 8 || f[1] != "1" || !strings.EqualFold(f[2], "udp") || f[6] != "typ" || len(f[0]) > 32 || !iceChars(f[0]) {
		return "", "", false
	}
	priority, err := strconv.ParseUint(f[3], 10, 32)
	port, portErr := strconv.ParseUint(f[5], 10, 16)
	addr, addrErr := netip.ParseAddr(f[4])
	if err != nil || portErr != nil || addrErr != nil || port == 0 || addr.Zone() != "" {
		return "", "", false
	}
	addr = addr.Unmap()
	if addr.Is4() && (addr.As4()[0] == 0 || addr.As4()[0] >= 240) { // this network, reserved, broadcast (RFC 6890)
		return "", "", false
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() || addr.IsLoopback() && !loopback {
		return "", "", false
	}
	kind := f[7]
	switch kind {
	case "host":
	case "srflx", "prflx", "relay":
		kind += " raddr 0.0.0.0 rport 0"
	default:
		return "", "", false
	}
	for i := 8; i+1 < len(f); i += 2 {
		if f[i] == "ufrag" {
			ufrag = f[i+1]
		}
	}
	return fmt.Sprintf("%s 1 udp %d %s %d typ %s", f[0], priority, addr, port, kind), ufrag, true
}
