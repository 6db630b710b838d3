package fetch

import (
	"net/netip"
	"slices"
)

// special are the networks that are not the public internet, from the IANA
// special-purpose address registries (RFC 6890) and those that carry an IPv4
// address inside (RFC 6052, RFC 3056, RFC 4380).
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16",
	"3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

// Public reports whether an address belongs to the public internet: neither
// loopback, private, link-local, carrier-grade NAT, multicast nor documentation,
// nor one of IPv6 that embeds an address of IPv4.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return addr.IsValid() && addr.IsGlobalUnicast() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
