package load

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A message is what the load caller understands of SIP: enough for the bridge,
// too little for strangers.
type message struct {
	status  int    // of a response, 0 for a request
	method  string // of the request, or of the one that a response is to
	uri     string
	cseq    int
	callID  string
	to      string // with its tag
	from    string
	contact string // URI
	vias    []string
	body    []byte
}

// parse reads a message; what is none is nil.
func parse(raw []byte) *message {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		return nil
	}
	lines := strings.Split(string(head), "\r\n")
	m := &message{body: body}
	first := strings.SplitN(lines[0], " ", 3)
	if len(first) != 3 {
		return nil
	}
	if first[0] == "SIP/2.0" {
		m.status, _ = strconv.Atoi(first[1])
	} else {
		m.uri = first[1]
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "call-id":
			m.callID = value
		case "to":
			m.to = value
		case "from":
			m.from = value
		case "via":
			m.vias = append(m.vias, value)
		case "contact":
			_, rest, _ := strings.Cut(value, "<")
			m.contact, _, _ = strings.Cut(rest, ">")
		case "cseq":
			number, method, _ := strings.Cut(value, " ")
			m.cseq, _ = strconv.Atoi(number)
			m.method = method
		}
	}
	return m
}

// answer is the response of a user agent that agrees to everything.
func (m *message) answer(code int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d Whatever\r\n", code)
	for _, v := range m.vias {
		fmt.Fprintf(&b, "Via: %s\r\n", v)
	}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContent-Length: 0\r\n\r\n", m.from, m.to, m.callID, m.cseq, m.method)
	return []byte(b.String())
}

// sound is where an SDP wants its sound.
func sound(sdp []byte) netip.AddrPort {
	var addr netip.Addr
	var port int
	for line := range strings.Lines(string(sdp)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 3 && fields[0] == "c=IN":
			addr, _ = netip.ParseAddr(fields[2])
		case len(fields) > 1 && fields[0] == "m=audio":
			port, _ = strconv.Atoi(fields[1])
		}
	}
	if !addr.IsValid() || port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

// keyType is the payload type of our telephone events.
const keyType = 101

// offer is an SDP that wants sound at an address.
func offer(at netip.AddrPort) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 0 %[3]d\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:%[3]d telephone-event/8000\r\na=fmtp:%[3]d 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
		at.Addr(), at.Port(), keyType)
}
