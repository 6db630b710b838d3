package sdp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoOffer is returned by [Session.Accept] when there is no offer of ours
// that the answer could belong to.
var ErrNoOffer = errors.New("sdp: answer without an offer")

const (
	eventName    = "TELEPHONE-EVENT"
	eventPayload = 101 // what we offer; answers take theirs
)

// A Session is the state of offer and answer in one dialog. The zero value is
// ready. It is not safe for concurrent use.
type Session struct {
	id      uint64 // of o=
	version uint64
	body    string // what we sent last, without o=

	current Media
	agreed  bool
	slots   []slot // the m-lines of the dialog, in order
	active  int    // which of them is our audio

	offered *offer // ours, until they make one
}

// A slot is an m-line of the dialog. Both sides repeat all of them in every
// later offer (RFC 3264 section 8).
type slot struct {
	kind, proto string
	formats     []string
}

// An offer is one of ours that an answer may come for.
type offer struct {
	local  Local
	codecs []Codec
	slots  []slot
	active int
}

// Current is what holds now, and whether anything was agreed yet.
func (s *Session) Current() (Media, bool) { return s.current, s.agreed }

// Answer takes an offer, the first or a later one, and makes the answer. Every
// stream is answered in its place: the audio stream in use if it is still
// there, else the first that can be used, and the others with port 0 (RFC 3264
// section 6). The offer's first codec that we have is the one we send; the
// answer lists all that we have. On failure, an *Error, all stays as it was.
func (s *Session) Answer(text []byte, l Local) ([]byte, Media, error) {
	d, err := parse(text)
	if err != nil {
		return nil, Media{}, err
	}
	active, m, err := s.choose(d, l)
	if err != nil {
		return nil, Media{}, err
	}
	chosen := &d.streams[active]
	slots := make([]slot, len(d.streams))
	for i := range d.streams {
		slots[i] = slot{d.streams[i].kind, d.streams[i].proto, d.streams[i].formats}
	}
	w := writer{local: l, times: d.times, ptime: m.Ptime, mux: m.RTCPMux}
	w.direction = m.Direction
	w.formats = m.formats(chosen)
	out := s.write(w, slots, active)
	s.current, s.agreed, s.slots, s.active, s.offered = m, true, slots, active, nil
	return out, m, nil
}

// choose finds the stream to use. Where none can be used, the error is that of
// the first audio stream.
func (s *Session) choose(d *description, l Local) (int, Media, error) {
	order := make([]int, 0, len(d.streams)+1)
	if s.agreed && s.active < len(d.streams) {
		order = append(order, s.active)
	}
	for i := range d.streams {
		order = append(order, i)
	}
	var first error
	for _, i := range order {
		m, err := d.negotiate(&d.streams[i], l, codecsOf(l))
		if err == nil {
			return i, m, nil
		}
		if d.streams[i].kind == "audio" && first == nil {
			first = err
		}
	}
	if first == nil {
		first = unacceptable(warnMedia, "no audio stream")
	}
	return 0, Media{}, first
}

// Offer makes an offer of ours: in an INVITE, in the answer to an INVITE
// without a description, or in a re-INVITE, where all streams of the dialog
// appear again with their payload types. What was agreed holds until Accept.
func (s *Session) Offer(l Local) ([]byte, error) {
	if !l.Addr.IsValid() || l.Port == 0 {
		return nil, fmt.Errorf("sdp: offer from %v port %d", l.Addr, l.Port)
	}
	o := &offer{local: l, codecs: codecsOf(l), slots: []slot{{kind: "audio", proto: "RTP/AVP"}}}
	event := uint8(eventPayload)
	payloads := [numCodecs]int16{-1, -1}
	ptime := l.Ptime
	if ptime == 0 {
		ptime = defaultPtime
	}
	if s.agreed {
		o.slots, o.active = slices.Clone(s.slots), s.active
		payloads = s.current.Payloads
		if s.current.HasEvent {
			event = s.current.Event
		} else if payloads[PCMU] == eventPayload || payloads[PCMA] == eventPayload {
			event = eventPayload - 1
		}
		// The codec in use comes first, so that a hold does not change it.
		slices.SortStableFunc(o.codecs, func(a, b Codec) int { return rank(a != s.current.Codec) - rank(b != s.current.Codec) })
		if l.Ptime == 0 {
			ptime = s.current.Ptime
		}
	}
	var formats []entry
	for _, c := range o.codecs {
		payload := c.static()
		if payloads[c] >= 0 {
			payload = uint8(payloads[c])
		}
		formats = append(formats, entry{payload, c.String() + "/8000", ""})
	}
	if !l.NoEvents {
		formats = append(formats, eventEntry(event))
	}
	w := writer{local: l, ptime: ptime, mux: l.RTCPMux, direction: l.Direction, formats: formats}
	out := s.write(w, o.slots, o.active)
	s.offered = o
	return out, nil
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// Accept takes the answer to our last offer. It may come more than once, as
// in a 183 and the 200 that follows it. On failure, an *Error or [ErrNoOffer],
// all stays as it was.
func (s *Session) Accept(answer []byte) (Media, error) {
	o := s.offered
	if o == nil {
		return Media{}, ErrNoOffer
	}
	d, err := parse(answer)
	if err != nil {
		return Media{}, err
	}
	if o.active >= len(d.streams) {
		return Media{}, unacceptable(warnMedia, "answer without our audio stream")
	}
	m, err := d.negotiate(&d.streams[o.active], o.local, o.codecs)
	if err != nil {
		return Media{}, err
	}
	// What we had not offered is no hold of theirs.
	m.Held = m.Held && o.local.Direction.Send()
	slots := slices.Clone(o.slots)
	slots[o.active].formats = d.streams[o.active].formats
	s.current, s.agreed, s.slots, s.active = m, true, slots, o.active
	return m, nil
}

func codecsOf(l Local) []Codec {
	if len(l.Codecs) == 0 {
		return []Codec{PCMU, PCMA}
	}
	var out []Codec
	for _, c := range l.Codecs {
		if c < numCodecs && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// negotiate compares a stream of theirs with what we can do.
func (d *description) negotiate(st *stream, l Local, codecs []Codec) (Media, error) {
	m := Media{Payloads: [numCodecs]int16{-1, -1}}
	switch {
	case st.kind != "audio":
		return m, unacceptable(warnMedia, "no audio stream")
	case !st.isAudio():
		return m, unacceptable(warnTransport, "audio stream that is not RTP/AVP")
	case st.port == 0:
		return m, unacceptable(warnMedia, "audio stream with port 0")
	}
	if !m.takeFormats(st, codecs) {
		return m, unacceptable(warnFormat, "no codec in common")
	}
	addr, err := d.address(st)
	if err != nil {
		return m, err
	}
	if l.Addr.IsValid() && !addr.IsUnspecified() && addr.Is4() != l.Addr.Unmap().Is4() {
		return m, unacceptable(warnAddress, "address of the other version of IP")
	}
	m.Remote = netip.AddrPortFrom(addr, st.port)
	m.RTCP = d.control(st, addr)
	if (st.mux || st.muxOnly) && l.RTCPMux {
		m.RTCPMux, m.RTCP = true, m.Remote
	}
	if l.NoEvents {
		m.Event, m.HasEvent = 0, false
	}
	m.Ptime = d.packetTime(st)
	theirs := d.direction(st)
	if addr.IsUnspecified() { // a hold of RFC 2543: nothing may be sent there
		theirs = theirs.And(SendOnly)
	}
	m.Held = !theirs.Recv()
	m.Direction = theirs.Reverse().And(l.Direction)
	return m, nil
}

// takeFormats picks the codecs and telephone events of a stream in its order,
// and reports whether there is a codec.
func (m *Media) takeFormats(st *stream, codecs []Codec) bool {
	found := false
	for _, text := range st.formats {
		number, err := strconv.ParseUint(text, 10, 7)
		if err != nil {
			continue
		}
		payload, f := uint8(number), st.format(text)
		if f.is(eventName) && !m.HasEvent {
			m.Event, m.HasEvent = payload, true
			continue
		}
		for _, c := range codecs {
			if !f.is(c.String()) || m.Payloads[c] >= 0 {
				continue
			}
			m.Payloads[c] = int16(payload)
			if !found {
				m.Codec, m.PayloadType, found = c, payload, true
			}
		}
	}
	return found
}

// formats lists what was taken of the offer, in its order. Telephone events
// come last: some take the first for the codec.
func (m *Media) formats(st *stream) []entry {
	var out []entry
	for _, text := range st.formats {
		number, err := strconv.ParseUint(text, 10, 7)
		if err != nil {
			continue
		}
		payload := uint8(number)
		if slices.ContainsFunc(out, func(e entry) bool { return e.payload == payload }) {
			continue
		}
		for c := range numCodecs {
			if m.Payloads[c] == int16(payload) {
				out = append(out, entry{payload, c.String() + "/8000", ""})
			}
		}
	}
	if m.HasEvent {
		out = append(out, eventEntry(m.Event))
	}
	return out
}

// An entry is a payload type with its rtpmap and fmtp.
type entry struct {
	payload   uint8
	name, fmt string
}

func eventEntry(payload uint8) entry { return entry{payload, "telephone-event/8000", "0-15"} }

// A writer holds what a description of ours says.
type writer struct {
	local     Local
	times     string
	formats   []entry
	ptime     time.Duration
	direction Direction
	mux       bool
}

// write makes a description. Its version in o= grows only when anything else
// in it changed since the last one (RFC 3264 section 8).
func (s *Session) write(w writer, slots []slot, active int) []byte {
	addr := w.local.Addr.Unmap()
	network := "IP4"
	if addr.Is6() {
		network = "IP6"
	}
	where := fmt.Sprintf("IN %s %s", network, addr.WithZone(""))
	var b strings.Builder
	fmt.Fprintf(&b, "s=%s\r\nc=%s\r\nt=%s\r\n", sessionName(w.local.Name), where, sessionTimes(w.times))
	for i, sl := range slots {
		if i == active {
			w.stream(&b, sl)
			continue
		}
		fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", sl.kind, sl.proto, strings.Join(sl.formats, " "))
	}
	body := b.String()
	if s.id == 0 {
		s.id = 1 + rand.Uint64N(1<<53) //nolint:gosec // Unique, not secret (RFC 8866 section 5.2).
		s.version = s.id
	} else if body != s.body {
		s.version++
	}
	s.body = body
	return fmt.Appendf(nil, "v=0\r\no=- %d %d %s\r\n%s", s.id, s.version, where, body)
}

func (w writer) stream(b *strings.Builder, sl slot) {
	fmt.Fprintf(b, "m=%s %d %s", sl.kind, w.local.Port, sl.proto)
	for _, f := range w.formats {
		fmt.Fprintf(b, " %d", f.payload)
	}
	b.WriteString("\r\n")
	for _, f := range w.formats {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", f.payload, f.name)
		if f.fmt != "" {
			fmt.Fprintf(b, "a=fmtp:%d %s\r\n", f.payload, f.fmt)
		}
	}
	fmt.Fprintf(b, "a=ptime:%d\r\n", w.ptime.Milliseconds())
	if w.mux {
		b.WriteString("a=rtcp-mux\r\n")
	}
	fmt.Fprintf(b, "a=%s\r\n", w.direction)
}

// sessionName must not be empty (RFC 8866 section 5.3).
func sessionName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return -1
		}
		return r
	}, name)
	if name == "" {
		return "-"
	}
	return name
}

// sessionTimes repeats those of an offer (RFC 3264 section 6).
func sessionTimes(times string) string {
	fields := strings.Fields(times)
	if len(fields) != 2 {
		return "0 0"
	}
	for _, f := range fields {
		if _, err := strconv.ParseUint(f, 10, 64); err != nil {
			return "0 0"
		}
	}
	return fields[0] + " " + fields[1]
}
