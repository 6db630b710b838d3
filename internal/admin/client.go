package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// A front knows which reverse proxies stand before the listeners, and under
// which addresses browsers reach them.
type front struct {
	proxies []netip.Prefix
	public  string // origin; empty: as the requests say
}

func newFront(proxies []netip.Prefix, public string) *front {
	return &front{proxies: proxies, public: strings.ToLower(strings.TrimSuffix(public, "/"))}
}

// A client is where a request comes from.
type client struct {
	addr   netip.Addr // the right-most hop that is no trusted proxy; invalid: unknown
	scheme string     // as the browser wrote it
	host   string     // with a port other than the scheme's own, in lower case
	afar   bool       // a proxy passed it on for another host
}

// client reads a request. The X-Forwarded headers count as far as trusted
// proxies wrote them; everybody else could write what he likes.
func (f *front) client(r *http.Request) client {
	c := client{addr: remote(r), scheme: "http", host: r.Host}
	if r.TLS != nil {
		c.scheme = "https"
	}
	hops := elements(r.Header["X-Forwarded-For"])
	trusted := 0
	for f.trusts(c.addr) && trusted < len(hops) {
		addr, ok := hop(hops[len(hops)-1-trusted])
		trusted++
		if !ok {
			break
		}
		c.addr = addr
	}
	if trusted > 0 || f.trusts(c.addr) {
		if proto := at(elements(r.Header["X-Forwarded-Proto"]), trusted); proto == "http" || proto == "https" {
			c.scheme = proto
		}
		if host := at(elements(r.Header["X-Forwarded-Host"]), trusted); host != "" {
			c.host = host
		}
	}
	c.host = strings.ToLower(c.host)
	c.host = strings.TrimSuffix(c.host, map[string]string{"http": ":80", "https": ":443"}[c.scheme])
	// A proxy that is not trusted cannot say whom it serves, but that it serves
	// somebody else.
	last, ok := hop(at(hops, 1))
	switch {
	case trusted > 0:
		c.afar = !c.addr.IsLoopback()
	case len(hops) > 0:
		c.afar = !ok || !last.IsLoopback()
	default:
		c.afar = r.Header.Get("Forwarded") != ""
	}
	return c
}

func (f *front) trusts(addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(f.proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// own returns the origins of the pages that we serve, as far as a request tells.
func (f *front) own(r *http.Request) []string {
	c := f.client(r)
	out := []string{c.scheme + "://" + c.host}
	if f.public != "" {
		out = append(out, f.public)
	}
	return out
}

// same reports whether a request comes from one of our own pages or from no page
// at all. Browsers say it in Sec-Fetch-Site (and no page can change that), older
// ones by Origin alone.
func (f *front) same(r *http.Request) bool {
	origins := r.Header["Origin"]
	switch r.Header.Get("Sec-Fetch-Site") {
	case "":
		return len(origins) == 0 || len(origins) == 1 && slices.Contains(f.own(r), origins[0])
	case "same-origin":
		return len(origins) <= 1
	case "none": // an address that the user typed
		return len(origins) == 0
	}
	return false
}

// origin returns the origin of the page that a request comes from, "" when it
// comes from none.
func origin(r *http.Request) string { return strings.Join(r.Header["Origin"], ", ") }

// validOrigin reports whether s has the form in which programs write origins.
func validOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 300 && u.Scheme != "" && u.Host != "" && s == u.Scheme+"://"+strings.ToLower(u.Host)
}

// remote returns the other end of the connection.
func remote(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// hop reads an element of X-Forwarded-For: an address, some write a port too.
func hop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

// elements splits the lines of a header that is a list.
func elements(lines []string) []string {
	var out []string
	for _, l := range lines {
		for s := range strings.SplitSeq(l, ",") {
			out = append(out, strings.TrimSpace(s))
		}
	}
	return out
}

// at returns the nth element from the right, or the left-most one when there are
// fewer.
func at(l []string, n int) string {
	if len(l) == 0 {
		return ""
	}
	return l[max(0, len(l)-max(n, 1))]
}

// arrivedAtLoopback reports whether the connection ends at an address of this
// machine that others cannot reach. Without a connection nobody can tell, and
// the listener's address decides.
func arrivedAtLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	tcp, ok := local.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
