package admin

import (
	"net/http"
	"net/netip"
)

// A Client is who sent a request, trusted proxies set aside.
type Client struct {
	Addr netip.Addr // invalid: unknown
	TLS  bool       // it speaks TLS, with us or with a proxy
	Host string     // that it asked for, with the port unless it is the usual one
	// Rebound says that it came to a loopback address by a name that is not this
	// machine's own: a page of another site can make its name resolve to us.
	Rebound bool
}

// Clients returns a function that tells who sent a request, for handlers that
// stand beside this package's.
func Clients(proxies []netip.Prefix, public string) func(*http.Request) Client {
	f := newFront(proxies, public)
	return func(r *http.Request) Client {
		c := f.client(r)
		rebound := arrivedAtLoopback(r) && !f.trusts(remote(r)) && !localName(r.Host)
		return Client{Addr: c.addr, TLS: c.scheme == "https", Host: c.host, Rebound: rebound}
	}
}
