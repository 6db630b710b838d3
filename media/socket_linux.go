//go:build linux && !386 && !s390x

package media

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// A socket is a UDP socket outside the runtime's poller: the wheel asks it when
// its slot comes, so that an arriving packet wakes nobody. The system calls are
// raw, because they never wait: a call costs neither a scheduler entry nor an
// allocation. Everything handed to the kernel lives in the struct.
type socket struct {
	fd        int
	number    uint16
	six       bool // an IPv6 socket, which may serve IPv4 by mapped addresses
	connected bool

	to    netip.AddrPort // what toRaw holds
	toRaw syscall.RawSockaddrAny
	toLen uintptr

	from    syscall.RawSockaddrAny
	iov     syscall.Iovec
	hdr     syscall.Msghdr
	control [64]byte
}

const soTimestampNS = 35 // SO_TIMESTAMPNS and SCM_TIMESTAMPNS

func newSocket(at netip.AddrPort) (*socket, error) {
	addr := at.Addr().Unmap()
	family := syscall.AF_INET
	if addr.Is6() {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd, number: at.Port(), six: addr.Is6()}
	if err := s.setUp(netip.AddrPortFrom(addr, at.Port())); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *socket) setUp(at netip.AddrPort) error {
	if s.six {
		only := 1
		if at.Addr().IsUnspecified() {
			only = 0
		}
		if err := syscall.SetsockoptInt(s.fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// Without the kernel's time stamps jitter is measured in steps of a slot.
	_ = syscall.SetsockoptInt(s.fd, syscall.SOL_SOCKET, soTimestampNS, 1)
	// Expedited forwarding (RFC 4594 section 4.1), where the system lets us.
	if s.six {
		_ = syscall.SetsockoptInt(s.fd, syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, 46<<2)
	} else {
		_ = syscall.SetsockoptInt(s.fd, syscall.IPPROTO_IP, syscall.IP_TOS, 46<<2)
	}
	var sa syscall.Sockaddr
	if s.six {
		sa = &syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa = &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	if err := syscall.Bind(s.fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return nil
}

// Recv implements [Port].
func (s *socket) Recv(p []byte) (int, netip.AddrPort, error) {
	if len(p) == 0 {
		return 0, netip.AddrPort{}, ErrWouldBlock
	}
	s.iov.Base = &p[0]
	s.iov.SetLen(len(p))
	s.hdr.Name = (*byte)(unsafe.Pointer(&s.from)) //nolint:gosec // the kernel fills it
	s.hdr.Namelen = syscall.SizeofSockaddrAny
	s.hdr.Iov = &s.iov
	s.hdr.Iovlen = 1
	s.hdr.Control = &s.control[0]
	s.hdr.SetControllen(len(s.control))
	n, _, errno := syscall.RawSyscall(syscall.SYS_RECVMSG, uintptr(s.fd),
		uintptr(unsafe.Pointer(&s.hdr)), syscall.MSG_DONTWAIT) //nolint:gosec // lives in s
	if errno != 0 {
		s.hdr.SetControllen(0)
		if errno == syscall.EAGAIN || errno == syscall.EINTR {
			return 0, netip.AddrPort{}, ErrWouldBlock
		}
		return 0, netip.AddrPort{}, errno
	}
	return int(n), s.source(), nil
}

// source is the address in from.
func (s *socket) source() netip.AddrPort {
	if s.from.Addr.Family == syscall.AF_INET {
		sa := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&s.from)) //nolint:gosec // by its family
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), swap(sa.Port))
	}
	sa := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&s.from)) //nolint:gosec // by its family
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), swap(sa.Port))
}

// swap turns a port number from or to network order.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port)) //nolint:gosec // its own bytes
	return uint16(b[0])<<8 | uint16(b[1])
}

// Stamp implements stamper: the kernel's time of the last datagram.
func (s *socket) Stamp() (time.Time, bool) {
	const size = unsafe.Sizeof(syscall.Timespec{})
	if uintptr(s.hdr.Controllen) < syscall.SizeofCmsghdr+size {
		return time.Time{}, false
	}
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&s.control[0])) //nolint:gosec // the kernel filled it
	if h.Level != syscall.SOL_SOCKET || h.Type != soTimestampNS {
		return time.Time{}, false
	}
	var ts syscall.Timespec
	copy((*[size]byte)(unsafe.Pointer(&ts))[:], s.control[syscall.SizeofCmsghdr:]) //nolint:gosec // its own bytes
	return time.Unix(ts.Unix()), true
}

// Send implements [Port].
func (s *socket) Send(p []byte, to netip.AddrPort) error {
	if len(p) == 0 {
		return nil
	}
	var name *syscall.RawSockaddrAny
	var size uintptr
	if !s.connected {
		if to != s.to {
			if !s.reaches(to) {
				return syscall.EAFNOSUPPORT
			}
			s.toLen = s.raw(&s.toRaw, to)
			s.to = to
		}
		name, size = &s.toRaw, s.toLen
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), //nolint:gosec // lives in its leg
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(name)), size) //nolint:gosec // lives in s
	switch errno {
	case 0:
		return nil
	case syscall.EAGAIN, syscall.EINTR:
		return ErrWouldBlock
	default:
		return errno
	}
}

// reaches tells whether an address is of the socket's family: the kernel would
// take the zero address that is left otherwise for this host.
func (s *socket) reaches(to netip.AddrPort) bool {
	return to.IsValid() && (s.six || to.Addr().Unmap().Is4())
}

// raw writes addr to sa and returns its length.
func (s *socket) raw(sa *syscall.RawSockaddrAny, addr netip.AddrPort) uintptr {
	*sa = syscall.RawSockaddrAny{}
	if s.six {
		six := (*syscall.RawSockaddrInet6)(unsafe.Pointer(sa)) //nolint:gosec // room for any family
		six.Family, six.Port, six.Addr = syscall.AF_INET6, swap(addr.Port()), addr.Addr().As16()
		return syscall.SizeofSockaddrInet6
	}
	four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(sa)) //nolint:gosec // room for any family
	four.Family, four.Port = syscall.AF_INET, swap(addr.Port())
	if ip := addr.Addr().Unmap(); ip.Is4() {
		four.Addr = ip.As4()
	}
	return syscall.SizeofSockaddrInet4
}

// Connect implements [Port].
func (s *socket) Connect(to netip.AddrPort) error {
	if !to.IsValid() {
		if !s.connected {
			return nil
		}
		s.connected = false
		none := syscall.RawSockaddrAny{}
		none.Addr.Family = syscall.AF_UNSPEC
		return s.connect(&none, syscall.SizeofSockaddrInet4)
	}
	if !s.reaches(to) {
		return os.NewSyscallError("connect", syscall.EAFNOSUPPORT)
	}
	var sa syscall.RawSockaddrAny
	if err := s.connect(&sa, s.raw(&sa, to)); err != nil {
		return err
	}
	s.connected = true
	return nil
}

func (s *socket) connect(sa *syscall.RawSockaddrAny, size uintptr) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(sa)), size) //nolint:gosec // read at once
	if errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

// LocalPort implements [Port].
func (s *socket) LocalPort() uint16 { return s.number }

// Close implements [Port].
func (s *socket) Close() error {
	if err := syscall.Close(s.fd); err != nil {
		return fmt.Errorf("close rtp port %d: %w", s.number, err)
	}
	return nil
}
