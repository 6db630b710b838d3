package media

import (
	"net/netip"
	"time"
)

// Stats counts what a leg has done and seen.
type Stats struct {
	SSRC, RemoteSSRC  uint32
	Remote            netip.AddrPort // where we send
	Latched           bool           // it is settled
	Connected         bool           // the socket is connected to it
	Sent, SentOctets  uint64         // RTP packets and bytes of payload
	Received          uint64         // RTP packets from the far end, duplicates and late ones included
	ReceivedOctets    uint64
	Lost              uint64 // packets that never came (RFC 3550 appendix A.3)
	Late, Duplicates  uint64 // came too late to be heard; came twice
	Jitter            time.Duration
	RemoteLost        uint32  // packets of ours that the far end misses
	RemoteLossRatio   float64 // of them, since its last report
	RemoteJitter, RTT time.Duration
	Rejected          Rejected
	SendErrors        uint64 // ICMP errors included
	Keys, DoubledKeys uint64 // keys told as events; keys that came both ways
	Closed            bool   // the figures are final
}

// Rejected counts packets that were dropped, by reason.
type Rejected struct {
	Source      uint64 // not from an address that is allowed
	Learning    uint64 // from an allowed one that has not shown enough to be followed
	PayloadType uint64 // not negotiated
	Malformed   uint64
}

// Stats returns the counters as of the leg's last slot. It may be called from
// any goroutine, and after Close.
func (l *Leg) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shared
}

// publish makes the counters visible, unless someone is reading them.
func (l *Leg) publish() {
	st := &l.stats
	st.SSRC, st.RemoteSSRC = l.out.ssrc, l.in.ssrc
	st.Remote, st.Latched, st.Connected = l.source.dest, l.source.locked, l.source.connected
	st.Lost = l.in.lostTotal()
	if st.Lost > l.in.tallied {
		l.shard.tally.n[lostPackets] += st.Lost - l.in.tallied
		l.in.tallied = st.Lost
	}
	counts := l.in.lane.order.Counts()
	l.shard.tally.n[latePackets] += counts.Late - st.Late
	l.shard.tally.n[duplicatePackets] += counts.Duplicate - st.Duplicates
	st.Late, st.Duplicates = counts.Late, counts.Duplicate
	st.Jitter = time.Duration(l.in.jitter/16) * time.Second / 8000
	if l.mu.TryLock() {
		l.shared = *st
		l.mu.Unlock()
	}
}

// reject counts a packet that was dropped.
func (l *Leg) reject(why counter) {
	l.shard.tally.n[why]++
	switch why {
	case rejectedSource:
		l.stats.Rejected.Source++
	case rejectedLearning:
		l.stats.Rejected.Learning++
	case rejectedPayload:
		l.stats.Rejected.PayloadType++
	default:
		l.stats.Rejected.Malformed++
	}
}
