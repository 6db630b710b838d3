package media

import (
	"net/netip"
	"time"
)

// UDPPorts hands out UDP ports of addr from lo to hi, both included; the
// unspecified IPv6 address serves IPv4 as well. A pair that is closed stays bound
// and is drained until quarantine has passed without a packet (at most 20 times
// as long).
func UDPPorts(addr netip.Addr, lo, hi uint16, quarantine time.Duration) *PortRange {
	return newPortRange(addr, lo, hi, quarantine, bindUDP)
}

func bindUDP(at netip.AddrPort) (Port, error) { return newSocket(at) }
