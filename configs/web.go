package configs

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// HTTP is the listeners of health, metrics, API, console and the browser phone.
type HTTP struct {
	Listen         string         `yaml:"listen" doc:"host:port; empty: no HTTP"`
	Token          secret.Secret  `yaml:"token" doc:"bearer token of the API; required when listening elsewhere than on loopback"`
	HTTPS          string         `yaml:"https" doc:"host:port of the https listener; empty: none"`
	TLS            WebTLS         `yaml:"tls" doc:"certificate of the https listener; neither cert nor domains: a self-signed one is made and kept"`
	PublicURL      string         `yaml:"public_url" doc:"address that browsers reach us at, such as https://phone.example.com; empty: as they say"`
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" doc:"networks of reverse proxies whose X-Forwarded-For, -Proto and -Host count"`
}

// WebTLS says where the certificate of the https listener comes from.
type WebTLS struct {
	Cert  string `yaml:"cert" doc:"path of the certificate chain, PEM; read again when it changes"`
	Key   string `yaml:"key" doc:"path of the private key, PEM"`
	Cache string `yaml:"cache" doc:"folder of certificates that are made or fetched; empty: ivrbridge in the user's cache folder"`
	ACME  ACME   `yaml:"acme" doc:"certificates of an authority that speaks ACME, RFC 8555"`
}

// ACME is an authority that gives certificates without being asked twice.
type ACME struct {
	Domains   []string `yaml:"domains" doc:"names in the certificates; none: no ACME. The authority's terms are accepted"`
	Email     string   `yaml:"email" doc:"whom the authority may write to"`
	Directory string   `yaml:"directory" doc:"address of the authority's directory; empty: Let's Encrypt"`
}

// RTC is what browsers' calls need besides the agents.
type RTC struct {
	Listen        string      `yaml:"listen" doc:"address:port of media, the same number of UDP and TCP for all browser calls; empty: no browser calls"`
	ICEServers    []ICEServer `yaml:"ice_servers" doc:"STUN and TURN servers for the bridge and for the pages"`
	MaxUnfinished int         `yaml:"max_unfinished" doc:"most calls whose media does not run yet"`
	Trunk         string      `yaml:"trunk" doc:"trunk that callers of browsers are handed over by; empty: targets are called directly"`
}

// An ICEServer helps browsers and bridge to find a way to each other.
type ICEServer struct {
	URLs       Strings       `yaml:"urls" doc:"stun:host, turn:host?transport=udp and the like, RFC 7064 and 7065"`
	Username   string        `yaml:"username" doc:"user name at a TURN server"`
	Credential secret.Secret `yaml:"credential" doc:"password at a TURN server; pages get to know it"`
}

// Loopback reports whether the plain listener, or without one that of https, is
// reached from this machine alone.
func (h HTTP) Loopback() bool { return loopback(cmp.Or(h.Listen, h.HTTPS)) }

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (v *validator) listener() {
	h := v.config.HTTP
	open := ""
	if h.Listen != "" && v.hostPort("http.listen", h.Listen) && !loopback(h.Listen) {
		open = h.Listen
	}
	if h.HTTPS != "" && v.hostPort("http.https", h.HTTPS) {
		if !loopback(h.HTTPS) && open == "" {
			open = h.HTTPS
		}
		if clash(h.HTTPS, h.Listen) {
			v.fail("http.https", "%s is the same port as http.listen, write another one, such as 0.0.0.0:8443", h.HTTPS)
		}
	}
	if open != "" && !h.Token.Set() {
		v.warn("http.token", "is missing: on %s only health and metrics are served, the API and the console are off", open)
	}
	if n := len(h.Token.Reveal()); n > 0 && n < 16 {
		v.warn("http.token", "is short, write at least 16 characters")
	}
	v.certificate(h)
	v.publicURL(h.PublicURL)
	for i, p := range h.TrustedProxies {
		if p.Bits() == 0 {
			v.warn(index("http.trusted_proxies", i), "%s lets everybody say which address he has, write your proxies' networks", p)
		}
	}
}

var (
	domainPattern = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])$`)
	emailPattern  = regexp.MustCompile(`^[^@\s<>]+@[^@\s<>]+$`)
)

func (v *validator) certificate(h HTTP) {
	t := h.TLS
	if (t.Cert == "") != (t.Key == "") {
		v.fail("http.tls", "cert and key belong together, write both")
	}
	v.file("http.tls.cert", t.Cert)
	v.file("http.tls.key", t.Key)
	if t.Cert != "" && len(t.ACME.Domains) > 0 {
		v.fail("http.tls.acme.domains", "there is a certificate in http.tls.cert already, remove one of them")
	}
	if len(t.ACME.Domains) == 0 && (t.ACME.Email != "" || t.ACME.Directory != "") {
		v.warn("http.tls.acme", "is not used without domains")
	}
	if h.HTTPS == "" && (t.Cert != "" || len(t.ACME.Domains) > 0) {
		v.warn("http.tls", "is not used: http.https is empty")
	}
	for i, d := range t.ACME.Domains {
		if len(d) > 253 || !domainPattern.MatchString(d) {
			v.fail(index("http.tls.acme.domains", i), "%q is no public name of a host, write such as phone.example.com", d)
		}
	}
	v.distinct("http.tls.acme.domains", t.ACME.Domains)
	if t.ACME.Email != "" && !emailPattern.MatchString(t.ACME.Email) {
		v.fail("http.tls.acme.email", "%q is no mail address", t.ACME.Email)
	}
	if d := t.ACME.Directory; d != "" {
		if u, err := url.Parse(d); err != nil || u.Host == "" || u.Scheme != "https" || u.User != nil {
			v.fail("http.tls.acme.directory", "%q is no https address, write such as https://acme-v02.api.letsencrypt.org/directory", d)
		}
	}
}

func (v *validator) publicURL(s string) {
	if s == "" {
		return
	}
	if err := CheckOrigin(strings.TrimSuffix(s, "/")); err != nil {
		v.fail("http.public_url", "%q %v", s, err)
		return
	}
	if insecure(s) {
		v.warn("http.public_url", "browsers give the microphone to https alone, write https")
	}
}

func (v *validator) origins(path string, origins []string) {
	for i, o := range origins {
		if err := CheckOrigin(o); err != nil {
			v.fail(index(path, i), "%q %v", o, err)
		} else if insecure(o) {
			v.warn(index(path, i), "browsers give the microphone to https alone, write https")
		}
	}
	v.distinct(path, origins)
	if len(origins) > 0 && v.config.RTC.Listen == "" {
		v.warn(path, "is not used: rtc.listen is empty")
	}
}

// CheckOrigin says why s is not the origin of a site as browsers write it (RFC
// 6454 section 6.2): nothing else would ever equal what they send.
func CheckOrigin(s string) error {
	const hint = "write such as https://shop.example.com"
	u, err := url.Parse(s)
	switch {
	case s == "*":
		return errors.New("would let every site call, write each one, such as https://shop.example.com")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return errors.New("is no site, " + hint)
	case u.User != nil || strings.Contains(u.Host, "*"):
		return errors.New("is no single site, " + hint)
	}
	host := strings.ToLower(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
		if addr.Is6() {
			host = "[" + host + "]"
		}
	} else if strings.ContainsFunc(host, func(r rune) bool { return r > 0x7e || r <= ' ' }) {
		return errors.New("has letters that browsers encode, write the name in its xn-- form")
	}
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return errors.New("has no port of TCP, " + hint)
		}
		host += ":" + strconv.FormatUint(n, 10)
	}
	if want := u.Scheme + "://" + host; s != want {
		return fmt.Errorf("is not as browsers write it, write %s", want)
	}
	return nil
}

// insecure reports whether an origin is one of those that browsers keep the
// microphone from.
func insecure(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && !loopback(net.JoinHostPort(u.Hostname(), "0")) && !strings.HasSuffix(u.Hostname(), ".localhost")
}

func (v *validator) rtc() {
	r := v.config.RTC
	v.atLeast("rtc.max_unfinished", r.MaxUnfinished, 1)
	if _, ok := v.config.Trunk(r.Trunk); r.Trunk != "" && !ok {
		v.unknown("rtc.trunk", "trunk", r.Trunk, names(v.config.Trunks, func(t Trunk) string { return t.Name }))
	}
	for i, s := range r.ICEServers {
		v.iceServer(index("rtc.ice_servers", i), s)
	}
	if r.Listen == "" {
		return
	}
	addr, err := netip.ParseAddrPort(r.Listen)
	if err != nil {
		v.fail("rtc.listen", "%q is no address and port, write an IP address, such as 0.0.0.0:8189", r.Listen)
		return
	}
	if addr.Port() == 0 {
		v.fail("rtc.listen", "port 0 cannot be advertised, write %s:8189", addr.Addr())
		return
	}
	for i, l := range v.config.SIP.Listen {
		if l.Addr.Port() == addr.Port() && (l.Addr.Addr() == addr.Addr() || l.Addr.Addr().IsUnspecified() || addr.Addr().IsUnspecified()) {
			v.fail("rtc.listen", "%s is the same port as %s in entry %d of sip.listen, write another one", r.Listen, l, i)
		}
	}
	for _, other := range []struct{ path, listen string }{{"http.listen", v.config.HTTP.Listen}, {"http.https", v.config.HTTP.HTTPS}} {
		if clash(r.Listen, other.listen) {
			v.fail("rtc.listen", "%s is the same port as %s, write another one", r.Listen, other.path)
		}
	}
	if p := v.config.Media.RTPPorts; p.Contains(addr.Port()) {
		v.warn("rtc.listen", "port %d lies in media.rtp_ports %s, write one outside", addr.Port(), p)
	}
}

// clash reports whether two host:port name the same TCP port of the same address.
func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	anywhere := []string{"", "0.0.0.0", "::"}
	return hostA == hostB || slices.Contains(anywhere, hostA) || slices.Contains(anywhere, hostB)
}

var icePattern = regexp.MustCompile(`^(stuns?|turns?):([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:\?transport=(udp|tcp))?$`)

func (v *validator) iceServer(path string, s ICEServer) {
	if len(s.URLs) == 0 {
		v.fail(join(path, "urls"), "is missing, write such as stun:stun.example.com")
	}
	turn := false
	for i, u := range s.URLs {
		m := icePattern.FindStringSubmatch(u)
		if m == nil || strings.HasPrefix(m[1], "stun") && m[4] != "" {
			v.fail(index(join(path, "urls"), i), "%q is no STUN or TURN server, write such as stun:stun.example.com:3478 or turn:turn.example.com?transport=udp", u)
			continue
		}
		if n, err := strconv.ParseUint(m[3], 10, 16); m[3] != "" && (err != nil || n == 0) {
			v.fail(index(join(path, "urls"), i), "%q has no port from 1 to 65535", u)
		}
		turn = turn || strings.HasPrefix(m[1], "turn")
	}
	if turn && s.Username == "" {
		v.fail(join(path, "username"), "is missing: TURN servers want one")
	}
	if turn && !s.Credential.Set() {
		v.fail(join(path, "credential"), "is missing, write env:NAME or file:PATH")
	}
}
