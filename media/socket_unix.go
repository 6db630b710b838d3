//go:build unix && (!linux || 386 || s390x)

package media

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
)

// A socket is a UDP socket outside the runtime's poller, by way of package
// syscall: slower than the Linux one, and it allocates. It serves development
// on other systems.
type socket struct {
	fd     int
	number uint16
	six    bool
}

func newSocket(at netip.AddrPort) (*socket, error) {
	addr := at.Addr().Unmap()
	s := &socket{number: at.Port(), six: addr.Is6()}
	family := syscall.AF_INET
	if s.six {
		family = syscall.AF_INET6
	}
	var err error
	if s.fd, err = syscall.Socket(family, syscall.SOCK_DGRAM, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	syscall.CloseOnExec(s.fd)
	if err = syscall.SetNonblock(s.fd, true); err == nil {
		err = syscall.Bind(s.fd, s.sockaddr(netip.AddrPortFrom(addr, at.Port())))
	}
	if err != nil {
		_ = syscall.Close(s.fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return s, nil
}

func (s *socket) sockaddr(at netip.AddrPort) syscall.Sockaddr {
	if s.six {
		return &syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	sa := &syscall.SockaddrInet4{Port: int(at.Port())}
	if ip := at.Addr().Unmap(); ip.Is4() {
		sa.Addr = ip.As4()
	}
	return sa
}

// Recv implements [Port].
func (s *socket) Recv(p []byte) (int, netip.AddrPort, error) {
	n, from, err := syscall.Recvfrom(s.fd, p, 0)
	if err != nil {
		return 0, netip.AddrPort{}, wouldBlock(err)
	}
	switch sa := from.(type) {
	case *syscall.SockaddrInet4:
		return n, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *syscall.SockaddrInet6:
		return n, netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	default:
		return n, netip.AddrPort{}, nil
	}
}

// Send implements [Port]. A connected socket is not one to the kernel here:
// systems differ in what they make of an address then.
func (s *socket) Send(p []byte, to netip.AddrPort) error {
	if !to.IsValid() || !s.six && !to.Addr().Unmap().Is4() {
		return syscall.EAFNOSUPPORT
	}
	return wouldBlock(syscall.Sendto(s.fd, p, 0, s.sockaddr(to)))
}

// Connect implements [Port]: the leg checks each source in any case.
func (s *socket) Connect(netip.AddrPort) error { return nil }

// LocalPort implements [Port].
func (s *socket) LocalPort() uint16 { return s.number }

// Close implements [Port].
func (s *socket) Close() error {
	if err := syscall.Close(s.fd); err != nil {
		return fmt.Errorf("close rtp port %d: %w", s.number, err)
	}
	return nil
}

func wouldBlock(err error) error {
	if err == syscall.EAGAIN || err == syscall.EINTR { //nolint:errorlint // an errno, never wrapped
		return ErrWouldBlock
	}
	return err
}
