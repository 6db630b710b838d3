package rtc

import (
	"net"
	"net/netip"
	"time"
)

// A steady socket has no deadline for writing. Pion sets one, for a moment, to
// free a write of a peer that is closed; on the one socket of all peers it would
// fail what others are writing just then, and that would be lost. Writes to a UDP
// socket wait for nobody.
type steady struct{ *net.UDPConn }

// SetWriteDeadline implements [net.PacketConn].
func (steady) SetWriteDeadline(time.Time) error { return nil }

// ReadFromAddrPort implements [ice.AddrPortReaderWriter].
func (s steady) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	return s.ReadFromUDPAddrPort(b) //nolint:wrapcheck // the socket's own
}

// WriteToAddrPort implements [ice.AddrPortReaderWriter].
func (s steady) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to) //nolint:wrapcheck // the socket's own
}
