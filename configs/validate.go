package configs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/target"
)

// Validate returns all that is wrong with the configuration, errors and
// warnings. Load calls it; call it for a configuration that was built in code.
func (c *Config) Validate(check Check) Problems {
	v := validator{config: c, check: check}
	v.sip()
	v.media()
	v.trunks()
	if c.Defaults.Name != "" {
		v.fail("defaults.name", "a name cannot be inherited, remove it")
	}
	if len(c.Agents) == 0 {
		v.fail("agents", "there is no agent, write at least a name and voiceflow.api_key")
	}
	names := map[string]int{}
	for i := range c.Agents {
		v.name(index("agents", i), c.Agents[i].Name, i, names)
		v.agent(index("agents", i), &c.Agents[i])
	}
	v.routes()
	for i, o := range v.config.SIP.Origins {
		if err := CheckOrigin(o); err != nil {
			v.fail(index("sip.origins", i), "%q %v", o, err)
		}
	}
	v.listener()
	v.rtc()
	v.store()
	return v.problems.sorted()
}

// A validator collects problems.
type validator struct {
	config   *Config
	check    Check
	problems Problems
}

func (v *validator) fail(path, format string, args ...any) { v.add(Error, path, format, args...) }
func (v *validator) warn(path, format string, args ...any) { v.add(Warning, path, format, args...) }

func (v *validator) add(s Severity, path, format string, args ...any) {
	v.problems = append(v.problems, Problem{Line: v.config.line(path), Path: path, Message: fmt.Sprintf(format, args...), Severity: s})
}

// line returns the line of a path, or that of the nearest path around it.
func (c *Config) line(path string) int {
	for path != "" {
		if line, ok := c.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// name checks a name that is used in metrics, and that it is the only one.
func (v *validator) name(path, name string, i int, seen map[string]int) {
	path = join(path, "name")
	if name == "" {
		v.fail(path, "is missing")
		return
	}
	if !namePattern.MatchString(name) {
		v.fail(path, "%q has other characters than letters, digits, - _ and . or is longer than 63", name)
	}
	if first, dup := seen[name]; dup {
		v.fail(path, "%q is the name of entry %d too, write another one", name, first)
		return
	}
	seen[name] = i
}

func (v *validator) sip() {
	s := v.config.SIP
	if len(s.Listen) == 0 {
		v.fail("sip.listen", "is empty, write at least udp://0.0.0.0:5060")
	}
	secure := false
	for i, l := range s.Listen {
		secure = secure || l.Secure()
		for j, m := range s.Listen[:i] {
			if overlap(l, m) {
				v.fail(index("sip.listen", i), "%s uses the same port as %s in entry %d", l, m, j)
			}
		}
	}
	switch {
	case secure && (s.TLS.Cert == "" || s.TLS.Key == ""):
		v.fail("sip.tls", "tls:// and wss:// need cert and key")
	case (s.TLS.Cert == "") != (s.TLS.Key == ""):
		v.fail("sip.tls", "cert and key belong together, write both")
	case !secure && s.TLS.Cert != "":
		v.warn("sip.tls", "is not used: sip.listen has no tls:// and no wss://")
	}
	for key, path := range map[string]string{"cert": s.TLS.Cert, "key": s.TLS.Key, "client_ca": s.TLS.ClientCA} {
		v.file("sip.tls."+key, path)
	}
	if s.ExternalIP.Auto && s.STUN == "" {
		v.fail("sip.stun", "external_ip: auto needs a STUN server, write host:port")
	}
	if s.STUN != "" {
		v.hostPort("sip.stun", s.STUN)
	}
	v.atLeast("sip.max_calls", s.MaxCalls, 1)
}

// overlap reports whether two sockets cannot be open at the same time.
func overlap(a, b Listen) bool {
	if (a.Transport == "udp") != (b.Transport == "udp") || a.Addr.Port() != b.Addr.Port() {
		return false
	}
	x, y := a.Addr.Addr().Unmap(), b.Addr.Addr().Unmap()
	switch {
	case x == y:
		return true
	case x.IsUnspecified() && y.IsUnspecified():
		return true // [::] takes IPv4 too
	case x.IsUnspecified():
		return x.Is6() || y.Is4()
	case y.IsUnspecified():
		return y.Is6() || x.Is4()
	}
	return false
}

// Of an RTP port range: two ports serve a call, and both stay bound for about
// half a minute after it, so that no call inherits another one's stream.
const (
	portsPerCall       = 2
	quarantineSeconds  = 31
	typicalCallSeconds = 180
)

func (v *validator) media() {
	m, calls := v.config.Media, v.config.SIP.MaxCalls
	switch pairs := m.RTPPorts.Pairs(); {
	case pairs == 0:
		v.fail("media.rtp_ports", "%s has no even port with its odd successor, write a larger range", m.RTPPorts)
	case pairs < calls:
		v.warn("media.rtp_ports", "%s has room for %d calls, sip.max_calls is %d: write a larger range or a smaller limit", m.RTPPorts, pairs, calls)
	default:
		need := portsPerCall * (calls + quarantineSeconds*(calls+typicalCallSeconds-1)/typicalCallSeconds)
		if 2*pairs < need {
			v.warn("media.rtp_ports", "%s is tight: ports rest for %d s after a call, and %d calls want about %d ports", m.RTPPorts, quarantineSeconds, calls, need)
		}
	}
	if m.RTPPorts.Low < 1024 {
		v.warn("media.rtp_ports", "%s contains ports below 1024, which only root may open", m.RTPPorts)
	}
	for i, l := range v.config.SIP.Listen {
		if l.Transport == "udp" && m.RTPPorts.Contains(l.Addr.Port()) {
			v.fail(index("sip.listen", i), "port %d lies in media.rtp_ports %s", l.Addr.Port(), m.RTPPorts)
		}
	}
	if len(m.Codecs) == 0 {
		v.fail("media.codecs", "is empty, write PCMU, PCMA or both")
	}
	v.distinct("media.codecs", m.Codecs)
}

func (v *validator) trunks() {
	names := map[string]int{}
	peers := map[netip.Prefix]string{}
	for i := range v.config.Trunks {
		path, t := index("trunks", i), &v.config.Trunks[i]
		v.name(path, t.Name, i, names)
		v.trunk(path, t)
		for j, p := range t.Peers {
			if other, dup := peers[p]; dup && other != t.Name {
				v.warn(index(join(path, "peers"), j), "%s is a peer of %s too: its calls belong to that trunk", p, other)
				continue
			}
			peers[p] = t.Name
		}
	}
}

func (v *validator) trunk(path string, t *Trunk) {
	at := func(key string) string { return join(path, key) }
	if _, ok := Profile(t.Profile); !ok {
		v.fail(at("profile"), "%q is unknown, write one of %s", t.Profile, strings.Join(Profiles(), ", "))
	}
	if len(t.Peers) == 0 && len(t.Users) == 0 && t.Register.Registrar == "" {
		v.warn(path, "nobody can call in: there are neither peers nor users nor a registration")
	}
	for j, p := range t.Peers {
		if p.Bits() == 0 {
			v.warn(index(at("peers"), j), "%s lets everybody call without a password, write your carrier's networks", p)
		}
	}
	v.users(path, t)
	if t.Auth.Username == "" && (t.Auth.Password.Set() || t.Auth.Realm != "") {
		v.fail(at("auth.username"), "is missing")
	}
	if t.Auth.Username != "" && !t.Auth.Password.Set() {
		v.fail(at("auth.password"), "is missing, write env:NAME or file:PATH")
	}
	v.register(path, t)
	if t.Region != "" {
		v.check1(at("region"), target.CheckRegion(t.Region))
	}
	if t.SRTP == "require" && !slices.ContainsFunc(v.config.SIP.Listen, Listen.Secure) {
		v.warn(at("srtp"), "keys travel in SDP: without a tls:// socket in sip.listen others can read them")
	}
	if len(t.Transfer) == 0 {
		v.fail(at("transfer"), "is empty, write refer, bridge or both")
	}
	v.distinct(at("transfer"), t.Transfer)
}

func (v *validator) users(path string, t *Trunk) {
	at := join(path, "users")
	if len(t.Users) > 0 && len(t.Challenge) == 0 {
		v.fail(join(path, "challenge"), "users are only asked for passwords in these networks, write at least one")
	}
	if len(t.Users) == 0 && len(t.Challenge) > 0 {
		v.fail(at, "challenge needs users, write at least one with username and password")
	}
	seen := map[string]bool{}
	for i, u := range t.Users {
		switch {
		case u.Username == "":
			v.fail(join(index(at, i), "username"), "is missing")
		case seen[u.Username]:
			v.fail(join(index(at, i), "username"), "%q is there twice", u.Username)
		}
		seen[u.Username] = true
		if !u.Password.Set() {
			v.fail(join(index(at, i), "password"), "is missing, write env:NAME or file:PATH")
		}
	}
	for i, c := range t.Challenge {
		for _, p := range t.Peers {
			if p.Bits() <= c.Bits() && p.Contains(c.Addr()) {
				v.warn(index(join(path, "challenge"), i), "%s lies in the peers' %s, which is never challenged", c, p)
			}
		}
	}
}

func (v *validator) register(path string, t *Trunk) {
	r := t.Register
	if r.Registrar == "" {
		return
	}
	at := join(path, "register")
	if err := checkRegistrar(r.Registrar); err != nil {
		v.fail(at+".registrar", "%q %v, write such as sip:sip.example.com", r.Registrar, err)
	}
	v.between(at+".expires", r.Expires, time.Minute, 24*time.Hour)
	if t.Auth.Username == "" {
		v.fail(join(path, "auth.username"), "a registration needs it")
	}
}

func checkRegistrar(s string) error {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme != "sip" && scheme != "sips" {
		return errors.New("is no SIP URI")
	}
	if strings.ContainsAny(rest, "@ <>") {
		return errors.New("names a user or contains spaces")
	}
	return target.CheckTarget(scheme + ":x@" + rest)
}

func (v *validator) routes() {
	c := v.config
	if len(c.Routes) == 0 && len(c.Agents) > 1 {
		v.fail("routes", "there are several agents: write which one answers, such as - {to: \"+14155550100\", agent: %s}", c.Agents[0].Name)
	}
	covered := map[Route]int{}
	for i, r := range c.Routes {
		path := index("routes", i)
		if _, ok := c.Agent(r.Agent); !ok {
			v.unknown(join(path, "agent"), "agent", r.Agent, names(c.Agents, func(a Agent) string { return a.Name }))
		}
		if _, ok := c.Trunk(r.Trunk); !ok && r.Trunk != "" {
			v.unknown(join(path, "trunk"), "trunk", r.Trunk, names(c.Trunks, func(t Trunk) string { return t.Name }))
		}
		key := r
		key.Agent = ""
		if j, dup := covered[key]; dup {
			v.warn(path, "is never reached: entry %d takes the same calls", j)
		} else if j, all := covered[Route{}]; all {
			v.warn(path, "is never reached: entry %d takes every call", j)
		}
		if _, dup := covered[key]; !dup {
			covered[key] = i
		}
	}
}

func (v *validator) store() {
	dsn := v.config.Store.DSN.Reveal()
	scheme, rest, ok := strings.Cut(dsn, ":")
	switch {
	case ok && scheme == "sqlite" && rest != "":
	case ok && (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		if _, err := url.Parse(dsn); err != nil {
			v.fail("store.dsn", "is no address, write postgres://user:password@host/database")
		}
	default:
		v.fail("store.dsn", "is neither a file nor a database, write sqlite:ivrbridge.db or postgres://user:password@host/database")
	}
}

func (v *validator) unknown(path, what, name string, known []string) {
	switch near := nearest(name, known); {
	case name == "":
		v.fail(path, "is missing, write one of %s", strings.Join(known, ", "))
	case near != "":
		v.fail(path, "there is no %s %q, write %s", what, name, near)
	default:
		v.fail(path, "there is no %s %q, write one of %s", what, name, strings.Join(known, ", "))
	}
}

func (v *validator) check1(path string, err error) {
	if err != nil {
		v.fail(path, "%v", err)
	}
}

func (v *validator) atLeast(path string, n, least int) {
	if n < least {
		v.fail(path, "%d is too small, write at least %d", n, least)
	}
}

func (v *validator) between(path string, d, least, most time.Duration) {
	if d < least || d > most {
		v.fail(path, "%s is not between %s and %s", d, least, most)
	}
}

func (v *validator) distinct(path string, list []string) {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			v.fail(index(path, i), "%q is there twice", s)
		}
	}
}

func (v *validator) hostPort(path, s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.fail(path, "%q is no host:port", s)
	}
	return err == nil
}

func (v *validator) file(path, name string) {
	if name == "" {
		return
	}
	if info, err := os.Stat(name); err != nil {
		v.fail(path, "%v", err)
	} else if info.IsDir() {
		v.fail(path, "%s is a directory, write a file", name)
	}
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, item := range list {
		out[i] = name(item)
	}
	return out
}
