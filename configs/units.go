package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Strings is a list that may be written as a single value.
type Strings []string

// A Listen is one socket that SIP arrives on, written udp://0.0.0.0:5060.
type Listen struct {
	Transport string // udp, tcp, tls, ws or wss
	Addr      netip.AddrPort
}

// String returns the form that the file uses.
func (l Listen) String() string {
	if l.Transport == "" {
		return ""
	}
	return l.Transport + "://" + l.Addr.String()
}

// Secure reports whether the socket needs a certificate.
func (l Listen) Secure() bool { return l.Transport == "tls" || l.Transport == "wss" }

// MarshalText implements encoding.TextMarshaler.
func (l Listen) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads transport://address:port. The port may be absent where the
// transport has one of its own (RFC 3261 section 19.1.2), and so may the
// address, which then is every IPv4 address.
func (l *Listen) UnmarshalText(text []byte) error {
	transport, rest, ok := strings.Cut(string(text), "://")
	if !ok {
		return errors.New("write transport://address:port, such as udp://0.0.0.0:5060")
	}
	ports := map[string]uint16{"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
	port, ok := ports[transport]
	if !ok {
		return fmt.Errorf("unknown transport %q, write one of udp, tcp, tls, ws, wss", transport)
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.HasPrefix(rest, ":") {
		rest = "0.0.0.0" + rest
	}
	if addr, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		*l = Listen{Transport: transport, Addr: netip.AddrPortFrom(addr, port)}
		return nil
	}
	addr, err := netip.ParseAddrPort(rest)
	if err != nil {
		return fmt.Errorf("%q is no address and port, write an IP address, such as %s://0.0.0.0:%d", rest, transport, port)
	}
	if addr.Port() == 0 {
		return fmt.Errorf("port 0 cannot be advertised, write %s://%s:%d", transport, addr.Addr(), port)
	}
	*l = Listen{Transport: transport, Addr: addr}
	return nil
}

// An ExternalIP is the address that is advertised in SIP and SDP. The zero value
// means the source address of the route to the peer.
type ExternalIP struct {
	Auto bool       // ask a STUN server
	Addr netip.Addr // valid when the file names one
}

// String returns the form that the file uses.
func (e ExternalIP) String() string {
	switch {
	case e.Auto:
		return "auto"
	case e.Addr.IsValid():
		return e.Addr.String()
	}
	return ""
}

// MarshalText implements encoding.TextMarshaler.
func (e ExternalIP) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads nothing, auto, or an IP address.
func (e *ExternalIP) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "":
		*e = ExternalIP{}
	case "auto":
		*e = ExternalIP{Auto: true}
	default:
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("%q is no IP address, write one, auto, or nothing", s)
		}
		if addr.IsUnspecified() || addr.IsMulticast() {
			return fmt.Errorf("nobody can send to %s, write a host's address, auto, or nothing", addr)
		}
		*e = ExternalIP{Addr: addr.Unmap()}
	}
	return nil
}

// A PortRange is an inclusive range of UDP ports, written 20000-29999.
type PortRange struct{ Low, High uint16 }

// String returns the form that the file uses.
func (p PortRange) String() string { return fmt.Sprintf("%d-%d", p.Low, p.High) }

// Pairs returns how many pairs of an even port and its odd successor the range
// holds: as many legs fit.
func (p PortRange) Pairs() int {
	low, high := int(p.Low)+int(p.Low)%2, int(p.High)
	return max(0, (high-low+1)/2)
}

// Contains reports whether port lies in the range.
func (p PortRange) Contains(port uint16) bool { return p.Low <= port && port <= p.High }

// MarshalText implements encoding.TextMarshaler.
func (p PortRange) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads LOW-HIGH.
func (p *PortRange) UnmarshalText(text []byte) error {
	const hint = "write lowest-highest, such as 20000-29999"
	lo, hi, ok := strings.Cut(string(text), "-")
	if !ok {
		return fmt.Errorf("%q is no range of ports, %s", text, hint)
	}
	low, err1 := strconv.ParseUint(strings.TrimSpace(lo), 10, 16)
	high, err2 := strconv.ParseUint(strings.TrimSpace(hi), 10, 16)
	switch {
	case err1 != nil || err2 != nil || low == 0:
		return fmt.Errorf("%q is no range of ports from 1 to 65535, %s", text, hint)
	case low > high:
		return fmt.Errorf("the range %s ends before it begins, write %d-%d", text, high, low)
	}
	*p = PortRange{Low: uint16(low), High: uint16(high)}
	return nil
}

// A Rate is a number of events per second, minute, hour or day, written 500/m.
// The zero value is no bound.
type Rate struct {
	Count int
	Per   time.Duration
}

var rateUnits = []struct {
	name string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// Limited reports whether the rate bounds anything.
func (r Rate) Limited() bool { return r.Count > 0 && r.Per > 0 }

// PerSecond returns events per second, 0 for no bound.
func (r Rate) PerSecond() float64 {
	if !r.Limited() {
		return 0
	}
	return float64(r.Count) / r.Per.Seconds()
}

// String returns the form that the file uses.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if u.per == r.Per {
			return fmt.Sprintf("%d/%s", r.Count, u.name)
		}
	}
	return ""
}

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads COUNT/UNIT with s, m, h or d; empty is no bound.
func (r *Rate) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Rate{}
		return nil
	}
	count, unit, ok := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if !ok || err != nil || n < 1 {
		return fmt.Errorf("%q is no rate, write a number per s, m, h or d, such as 500/m, or nothing for no bound", text)
	}
	for _, u := range rateUnits {
		if u.name == strings.TrimSpace(unit) {
			*r = Rate{Count: n, Per: u.per}
			return nil
		}
	}
	return fmt.Errorf("unknown unit %q of a rate, write s, m, h or d, such as %d/m", unit, n)
}

// parsePrefix reads a network or a single address. Bits behind the prefix are
// cut off.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network, write an address or a CIDR block, such as 192.0.2.0/24", s)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// parseDuration reads 10s, 1.5s or 2m30s. A bare 0 needs no unit.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, numeric := strconv.ParseFloat(s, 64); numeric == nil {
			return 0, fmt.Errorf("the duration %s has no unit, write %ss or %sms", s, s, s)
		}
		return 0, fmt.Errorf("%q is no duration, write a number and a unit, such as 10s, 1.5s or 300ms", s)
	}
	if d < 0 {
		return 0, fmt.Errorf("the duration %s is negative", s)
	}
	return d, nil
}
