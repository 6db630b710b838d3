package media

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
)

const (
	reportEvery = 5 * time.Second // RFC 3550 section 6.2, less or more by half at random
	rtcpEvery   = 10              // turns between looks at the RTCP port
	rtcpBurst   = 4               // packets taken at a look
	ntpEpoch    = 2208988800      // 1970 in seconds of NTP
)

// A control is the RTCP of a leg. What comes informs the statistics and nothing
// else: no report, odd packet or BYE ever ends a call.
type control struct {
	cname  string
	sdp    netip.AddrPort
	mux    bool           // on the RTP port (RFC 5761)
	heard  netip.AddrPort // where RTCP came from, at the latched address
	next   time.Duration  // of our report
	turns  int
	told   uint32        // packets that had been sent at the last report
	said   bool          // there was a report
	peerSR uint32        // middle of the NTP time of their last sender report
	peerAt time.Duration // when it came
	lost   uint64        // at our last report, for its fraction
	expect uint64
}

func (c *control) apply(p *Params) {
	c.sdp, c.mux = p.RTCP, p.RTCP.IsValid() && p.RTCP == p.Remote
}

// dest is where reports go; invalid when that is not known.
func (c *control) dest(s *source) netip.AddrPort {
	switch {
	case !s.reachable || !c.sdp.IsValid():
		return netip.AddrPort{}
	case c.mux:
		return s.dest
	case s.dest == s.sdp:
		return c.sdp
	case c.heard.Addr() == s.dest.Addr():
		return c.heard // behind a NAT the port is learnt
	default:
		return netip.AddrPort{}
	}
}

// report sends our report when it is due, and looks for theirs.
func (l *Leg) report() {
	c := &l.control
	if c.turns++; c.turns >= rtcpEvery {
		c.turns = 0
		for range rtcpBurst {
			n, from, err := l.rtcp.Recv(l.shard.buf[:])
			if err != nil {
				break
			}
			l.reported(l.shard.buf[:n], unmap(from), l.arrival(l.rtcp))
		}
	}
	if c.next == 0 {
		c.next = l.now + jittered(reportEvery/2)
	}
	if l.now < c.next {
		return
	}
	c.next = l.now + jittered(reportEvery)
	if l.out.packets == 0 && !l.in.started {
		return
	}
	l.sendReport(nil)
	c.told = l.out.packets
}

func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d) } //nolint:gosec // spreads reports, guards nothing

// bye says that we leave.
func (l *Leg) bye() {
	if l.out.packets > 0 || l.control.said {
		l.sendReport(&rtcp.Goodbye{Sources: []uint32{l.out.ssrc}})
	}
}

// sendReport sends a compound packet (RFC 3550 section 6.1): a sender's or a
// receiver's report, the name, and what else there is.
func (l *Leg) sendReport(more rtcp.Packet) {
	c := &l.control
	to := c.dest(&l.source)
	if !to.IsValid() {
		return
	}
	var reports []rtcp.ReceptionReport
	if l.in.started {
		reports = []rtcp.ReceptionReport{l.reception()}
	}
	var first rtcp.Packet = &rtcp.ReceiverReport{SSRC: l.out.ssrc, Reports: reports}
	if l.out.packets != c.told || !c.said {
		ahead := samples(l.out.due - l.now)
		first = &rtcp.SenderReport{
			SSRC: l.out.ssrc, NTPTime: ntp(time.Now()), RTPTime: l.out.ts - uint32(ahead),
			PacketCount: l.out.packets, OctetCount: l.out.octets, Reports: reports,
		}
	}
	compound := []rtcp.Packet{first, &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
		Source: l.out.ssrc,
		Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: c.cname}},
	}}}}
	if more != nil {
		compound = append(compound, more)
	}
	b, err := rtcp.Marshal(compound)
	if err != nil {
		return // only for lists that are too long, which these are not
	}
	port := l.rtcp
	if c.mux {
		port = l.rtp
	}
	c.said = true
	l.transmit(port, b, to)
	l.shard.tally.n[sentReports]++
}

// reception is our report on their stream (RFC 3550 section 6.4.1).
func (l *Leg) reception() rtcp.ReceptionReport {
	c, r := &l.control, &l.in
	expected, lost := r.expectedTotal(), r.lostTotal()
	fraction := uint8(0)
	if e := expected - c.expect; e > 0 && lost > c.lost {
		fraction = uint8(min((lost-c.lost)*256/e, 255))
	}
	c.expect, c.lost = expected, lost
	report := rtcp.ReceptionReport{
		SSRC: r.ssrc, FractionLost: fraction, TotalLost: uint32(min(lost, 0x7FFFFF)),
		LastSequenceNumber: r.cycles + uint32(r.highest), Jitter: r.jitter / 16,
	}
	if c.peerSR != 0 {
		report.LastSenderReport = c.peerSR
		report.Delay = uint32((l.now - c.peerAt) * 65536 / time.Second)
	}
	return report
}

// reported takes an RTCP packet from the network.
func (l *Leg) reported(b []byte, from netip.AddrPort, at time.Duration) {
	c, s := &l.control, &l.source
	if !from.IsValid() || from.Addr() != s.dest.Addr() && from.Addr() != c.sdp.Addr() {
		l.reject(rejectedSource)
		return
	}
	packets, err := parseRTCP(b)
	if err != nil {
		l.reject(rejectedMalformed)
		return
	}
	l.shard.tally.n[receivedReports]++
	if from.Addr() == s.dest.Addr() {
		c.heard = from
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			c.peerSR, c.peerAt = uint32(p.NTPTime>>16), at
			l.heardOf(p.Reports, at)
		case *rtcp.ReceiverReport:
			l.heardOf(p.Reports, at)
		}
	}
}

// parseRTCP is rtcp.Unmarshal for what a stranger may have written.
func parseRTCP(b []byte) (packets []rtcp.Packet, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("parse rtcp: %v", fault)
		}
	}()
	if len(b) < 8 || len(b)%4 != 0 || b[0]>>6 != 2 {
		return nil, fmt.Errorf("parse rtcp: %d bytes are no compound packet", len(b))
	}
	if t := b[1]; t < 200 || t > 207 || int(binary.BigEndian.Uint16(b[2:]))*4+4 > len(b) {
		return nil, fmt.Errorf("parse rtcp: type %d", t)
	}
	return rtcp.Unmarshal(b) //nolint:wrapcheck // counted only
}

// heardOf takes what the far end says about our stream.
func (l *Leg) heardOf(reports []rtcp.ReceptionReport, at time.Duration) {
	for _, r := range reports {
		if r.SSRC != l.out.ssrc {
			continue
		}
		st := &l.stats
		st.RemoteLost = r.TotalLost
		st.RemoteLossRatio = float64(r.FractionLost) / 256
		st.RemoteJitter = time.Duration(r.Jitter) * time.Second / 8000
		if r.LastSenderReport == 0 {
			continue
		}
		// RFC 3550 section 6.4.1: A - LSR - DLSR, in units of 1/65536 s.
		arrived := uint32(ntp(l.engine.clock(at)) >> 16)
		if rtt := int32(arrived - r.LastSenderReport - r.Delay); rtt >= 0 && rtt < 60<<16 {
			st.RTT = time.Duration(rtt) * time.Second / 65536
		}
	}
}

// ntp is the 64-bit time of NTP.
func ntp(t time.Time) uint64 {
	ns := t.UnixNano()
	return uint64(ns/1e9+ntpEpoch)<<32 | uint64(ns%1e9)<<32/1e9
}
