package sdp

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	mostBytes   = 64 << 10
	mostStreams = 32
	mostFormats = 128 // of one stream

	defaultPtime = 20 * time.Millisecond
	leastPtime   = 10 * time.Millisecond
	mostPtime    = 60 * time.Millisecond
)

// A description is what matters of one that was received.
type description struct {
	times   string // the value of its t= line
	common  lines  // the session level
	streams []stream
}

// A stream is one m= line and what belongs to it.
type stream struct {
	lines

	kind    string
	port    uint16
	proto   string
	formats []string
	maps    map[string]format // by payload type
}

// lines can stand at either level; those of a stream win.
type lines struct {
	addr      string // of c=
	direction *Direction
	ptime     time.Duration
	maxPtime  time.Duration
	rtcp      string
	mux       bool
	muxOnly   bool
}

// A format is an rtpmap.
type format struct {
	name string // upper case
	rate int
	mono bool
}

func parse(text []byte) (*description, error) {
	if len(text) > mostBytes {
		return nil, malformed("description of %d bytes", len(text))
	}
	d, read := &description{}, false
	level := &d.common
	for line := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
		line = bytes.TrimSpace(line)
		if len(line) < 2 || line[1] != '=' {
			continue
		}
		read = true
		value := strings.TrimSpace(string(line[2:]))
		switch line[0] {
		case 't':
			if d.times == "" {
				d.times = value
			}
		case 'c':
			// A stream may have several for layered multicast: the first counts.
			if level.addr == "" {
				level.addr = value
			}
		case 'm':
			s, err := parseStream(value)
			if err != nil {
				return nil, err
			}
			if len(d.streams) == mostStreams {
				return nil, malformed("more than %d streams", mostStreams)
			}
			d.streams = append(d.streams, s)
			level = &d.streams[len(d.streams)-1].lines
		case 'a':
			level.attribute(value)
			if len(d.streams) > 0 {
				d.streams[len(d.streams)-1].rtpmap(value)
			}
		}
	}
	if !read {
		return nil, malformed("not a session description")
	}
	return d, nil
}

// parseStream reads "audio 49170/2 RTP/AVP 0 8".
func parseStream(value string) (stream, error) {
	fields := strings.Fields(value)
	if len(fields) < 4 || len(fields) > 3+mostFormats {
		return stream{}, malformed("m= line with %d fields", len(fields))
	}
	for _, f := range fields {
		if !printable(f) {
			return stream{}, malformed("m= line with control characters")
		}
	}
	number, _, _ := strings.Cut(fields[1], "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return stream{}, malformed("m= line with an impossible port")
	}
	return stream{
		kind: strings.ToLower(fields[0]), port: uint16(port), proto: fields[2], formats: fields[3:],
		maps: map[string]format{},
	}, nil
}

// printable keeps what we repeat in an answer free of anything but visible
// ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (l *lines) attribute(attribute string) {
	name, value, _ := strings.Cut(attribute, ":")
	value = strings.TrimSpace(value)
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "sendrecv":
		l.setDirection(SendRecv)
	case "sendonly":
		l.setDirection(SendOnly)
	case "recvonly":
		l.setDirection(RecvOnly)
	case "inactive":
		l.setDirection(Inactive)
	case "ptime":
		l.ptime = milliseconds(value)
	case "maxptime":
		l.maxPtime = milliseconds(value)
	case "rtcp":
		l.rtcp = value
	case "rtcp-mux":
		l.mux = true
	case "rtcp-mux-only":
		l.muxOnly = true
	}
}

func (l *lines) setDirection(d Direction) {
	if l.direction == nil {
		l.direction = &d
	}
}

// milliseconds is 0 for what is no sensible number.
func milliseconds(value string) time.Duration {
	ms, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ms > 0 && ms < 10000) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// rtpmap reads "rtpmap:101 telephone-event/8000".
func (s *stream) rtpmap(attribute string) {
	name, value, _ := strings.Cut(attribute, ":")
	if !strings.EqualFold(strings.TrimSpace(name), "rtpmap") {
		return
	}
	fields := strings.Fields(value)
	if len(fields) < 2 {
		return
	}
	parts := strings.Split(fields[1], "/")
	f := format{name: strings.ToUpper(parts[0]), rate: 8000, mono: true}
	if len(parts) > 1 {
		f.rate, _ = strconv.Atoi(parts[1])
	}
	if len(parts) > 2 {
		f.mono = parts[2] == "1"
	}
	if _, known := s.maps[fields[0]]; !known {
		s.maps[fields[0]] = f
	}
}

// format is what a payload type stands for. Those of G.711 are static and need
// no rtpmap (RFC 3551 section 6).
func (s *stream) format(payload string) format {
	if f, ok := s.maps[payload]; ok {
		return f
	}
	switch payload {
	case "0":
		return format{"PCMU", 8000, true}
	case "8":
		return format{"PCMA", 8000, true}
	}
	return format{}
}

func (f format) is(name string) bool {
	return f.name == name && f.rate == 8000 && f.mono
}

// isAudio reports whether the stream is audio over plain RTP. Feedback
// (RTP/AVPF) is an offer that we need not use.
func (s *stream) isAudio() bool {
	return s.kind == "audio" && (strings.EqualFold(s.proto, "RTP/AVP") || strings.EqualFold(s.proto, "RTP/AVPF"))
}

// address is where the other side receives.
func (d *description) address(s *stream) (netip.Addr, error) {
	value := s.addr
	if value == "" {
		value = d.common.addr
	}
	if value == "" {
		return netip.Addr{}, malformed("no c= line for the audio")
	}
	return parseAddress(value)
}

// parseAddress reads "IN IP4 192.0.2.1"; a suffix for multicast is cut off.
func parseAddress(value string) (netip.Addr, error) {
	fields := strings.Fields(value)
	if len(fields) < 3 || !strings.EqualFold(fields[0], "IN") {
		return netip.Addr{}, malformed("c= line that is no internet address")
	}
	text, _, _ := strings.Cut(fields[2], "/")
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}, unacceptable(warnAddress, "address in c= is a name, or malformed")
	}
	addr = addr.Unmap()
	if addr.IsMulticast() {
		return netip.Addr{}, unacceptable(warnMulticast, "multicast address in c=")
	}
	return addr, nil
}

// direction is what the other side wants to do.
func (d *description) direction(s *stream) Direction {
	switch {
	case s.direction != nil:
		return *s.direction
	case d.common.direction != nil:
		return *d.common.direction
	default:
		return SendRecv
	}
}

// packetTime is the length of the packets that the other side wants.
func (d *description) packetTime(s *stream) time.Duration {
	want, most := s.ptime, s.maxPtime
	if want == 0 {
		want = d.common.ptime
	}
	if most == 0 {
		most = d.common.maxPtime
	}
	if want == 0 {
		want = defaultPtime
	}
	if most > 0 {
		want = min(want, most)
	}
	return max(leastPtime, min(mostPtime, want.Truncate(10*time.Millisecond)))
}

// control is where the other side receives RTCP: at a=rtcp (RFC 3605), else at
// the port behind that of RTP (RFC 3550 section 11).
func (d *description) control(s *stream, addr netip.Addr) netip.AddrPort {
	if fields := strings.Fields(s.rtcp); len(fields) > 0 {
		if port, err := strconv.ParseUint(fields[0], 10, 16); err == nil {
			if len(fields) >= 4 {
				if other, err := parseAddress(strings.Join(fields[1:], " ")); err == nil {
					addr = other
				}
			}
			return netip.AddrPortFrom(addr, uint16(port))
		}
	}
	if s.port == 65535 {
		return netip.AddrPortFrom(addr, 0)
	}
	return netip.AddrPortFrom(addr, s.port+1)
}
