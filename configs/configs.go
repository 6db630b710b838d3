// Package configs reads the bridge's one YAML file.
//
// [Load] turns a document into a [Config] and reports every mistake in it at
// once, each with its line, its path and what to write instead. The package
// knows the meaning of the keys; it opens no socket, no database and no engine,
// and the settings of recognisers and synthesisers it hands on undecoded.
package configs

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// A Config is one immutable generation of the configuration. Running calls keep
// the one they began with.
type Config struct {
	SIP      SIP     `yaml:"sip" doc:"how the bridge is reached by telephone"`
	Media    Media   `yaml:"media" doc:"RTP and audio"`
	Trunks   []Trunk `yaml:"trunks" doc:"who may call and whom the bridge calls; none at all: local, with loopback, private and link-local sources"`
	Defaults Agent   `yaml:"defaults" doc:"anything of an agent, inherited by all of them"`
	Agents   []Agent `yaml:"agents" doc:"the Voiceflow agents that answer"`
	Routes   []Route `yaml:"routes" doc:"which agent answers which number; the first match wins; none at all: the only agent answers everything"`
	HTTP     HTTP    `yaml:"http" doc:"health, metrics, API, console and the browser phone"`
	RTC      RTC     `yaml:"rtc" doc:"calls from browsers"`
	Store    Store   `yaml:"store" doc:"where call records are kept"`
	Log      Log     `yaml:"log" doc:"the log on standard error"`

	lines map[string]int // path to line, for problems found after decoding
}

// SIP is how the bridge is reached by telephone.
type SIP struct {
	Listen     []Listen   `yaml:"listen" doc:"sockets: udp://, tcp://, tls://, ws://, wss://"`
	ExternalIP ExternalIP `yaml:"external_ip" doc:"advertised address; empty: the source address of the route to the peer; auto: asked by STUN"`
	STUN       string     `yaml:"stun" doc:"host:port of the STUN server that external_ip: auto asks"`
	MaxCalls   int        `yaml:"max_calls" doc:"calls at the same time; more are refused with 503"`
	TLS        TLS        `yaml:"tls" doc:"certificate of the tls:// and wss:// sockets"`
	Origins    []string   `yaml:"origins" doc:"sites whose pages may open SIP over WebSocket besides our own, such as https://shop.example.com"`
}

// TLS names the certificate of the listening sockets.
type TLS struct {
	Cert     string `yaml:"cert" doc:"path of the certificate chain, PEM"`
	Key      string `yaml:"key" doc:"path of the private key, PEM"`
	ClientCA string `yaml:"client_ca" doc:"path of the authorities whose client certificates are asked for; empty: none is asked for"`
}

// Media is what all calls' audio has in common.
type Media struct {
	RTPPorts PortRange `yaml:"rtp_ports" doc:"UDP ports for RTP and RTCP"`
	Codecs   []string  `yaml:"codecs" enum:"PCMU,PCMA" doc:"codecs in the order of preference"`
	Fetch    Fetch     `yaml:"fetch" doc:"fetching of audio that the agent names"`
}

// Fetch bounds where audio named by an agent may come from.
type Fetch struct {
	AllowPrivate []netip.Prefix `yaml:"allow_private" doc:"networks allowed besides public ones, such as 127.0.0.0/8"`
	AllowHTTP    bool           `yaml:"allow_http" doc:"http: too; from the networks of allow_private it always is"`
}

// A Trunk is one far side: a carrier, a PBX, or the softphones of an office.
type Trunk struct {
	Name       string         `yaml:"name" doc:"name in logs, metrics and routes"`
	Profile    string         `yaml:"profile" doc:"carrier profile that the other keys overlay"`
	Peers      []netip.Prefix `yaml:"peers" doc:"networks that may call and are never challenged"`
	Users      []User         `yaml:"users" doc:"callers asked for a password"`
	Challenge  []netip.Prefix `yaml:"challenge" doc:"networks that users call from"`
	Auth       Auth           `yaml:"auth" doc:"what the bridge answers when the trunk challenges it"`
	Register   Register       `yaml:"register" doc:"registration with the trunk"`
	ExternalIP ExternalIP     `yaml:"external_ip" doc:"overrides sip.external_ip"`
	Media      []netip.Prefix `yaml:"media" doc:"networks that RTP may use besides the SDP's and the signalling address"`
	Region     string         `yaml:"region" doc:"country of numbers without +, ISO 3166-1"`
	TrustedCLI bool           `yaml:"trusted_cli" doc:"the trunk vouches for callers' numbers"`
	SRTP       string         `yaml:"srtp" enum:"off,offer,require" doc:"encryption of audio"`
	Transfer   []string       `yaml:"transfer" enum:"refer,bridge" doc:"ways of handing a caller over, in this order"`

	// Local marks the trunk that exists when the file names none: it takes calls
	// and registrations from its peers without a password.
	Local bool `yaml:"-"`
}

// A User is a caller who is asked for digest credentials.
type User struct {
	Username string        `yaml:"username" doc:"user name"`
	Password secret.Secret `yaml:"password" doc:"password"`
}

// Auth is what the bridge answers to a trunk's challenge.
type Auth struct {
	Username string        `yaml:"username" doc:"user name"`
	Password secret.Secret `yaml:"password" doc:"password"`
	Realm    string        `yaml:"realm" doc:"realm that is answered; empty: the first seen is pinned"`
}

// Register is a registration with a trunk. An empty registrar means none.
type Register struct {
	Registrar string        `yaml:"registrar" doc:"SIP URI of the registrar; empty: no registration"`
	Expires   time.Duration `yaml:"expires" doc:"life time asked for"`
}

// A Route sends calls to an agent. Empty patterns match everything; in patterns
// ? stands for one character and * for any number of them.
type Route struct {
	To    string `yaml:"to" doc:"called number"`
	From  string `yaml:"from" doc:"calling number"`
	Trunk string `yaml:"trunk" doc:"name of the trunk"`
	Agent string `yaml:"agent" doc:"name of the agent"`
}

// Store is where call records are kept. The DSN is a secret because that of a
// database server holds its password.
type Store struct {
	DSN secret.Secret `yaml:"dsn" doc:"sqlite:PATH or postgres://user:password@host/database"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" doc:"least level"`
	Format string `yaml:"format" enum:"json,console" doc:"json, or console for a terminal"`
}

// DefaultTrunk returns a trunk with every default and no name.
func DefaultTrunk() Trunk {
	return Trunk{
		Profile:  "generic",
		Region:   "US",
		SRTP:     "off",
		Transfer: []string{"refer", "bridge"},
		Register: Register{Expires: 10 * time.Minute},
	}
}

// LocalTrunk returns the trunk that exists when the file names none: loopback,
// private and link-local sources, without a password.
func LocalTrunk() Trunk {
	t := DefaultTrunk()
	t.Name, t.Local = "local", true
	for _, p := range []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
		"::1/128", "fc00::/7", "fe80::/10",
	} {
		t.Peers = append(t.Peers, netip.MustParsePrefix(p))
	}
	return t
}

// Default returns what an empty file means: every default, the local trunk, no
// agent. It does not pass [Config.Validate], which wants an agent.
func Default() Config {
	unspecified := netip.IPv4Unspecified()
	return Config{
		SIP: SIP{
			Listen: []Listen{
				{Transport: "udp", Addr: netip.AddrPortFrom(unspecified, 5060)},
				{Transport: "tcp", Addr: netip.AddrPortFrom(unspecified, 5060)},
			},
			STUN:     "stun.cloudflare.com:3478",
			MaxCalls: 500,
		},
		Media: Media{
			RTPPorts: PortRange{Low: 20000, High: 29999},
			Codecs:   []string{"PCMU", "PCMA"},
		},
		Trunks:   []Trunk{LocalTrunk()},
		Defaults: DefaultAgent(),
		HTTP:     HTTP{Listen: "127.0.0.1:8080"},
		RTC:      RTC{Listen: "0.0.0.0:8189", MaxUnfinished: 200},
		Store:    Store{DSN: secret.New("sqlite:ivrbridge.db")},
		Log:      Log{Level: "info", Format: "json"},
	}
}

// Agent returns the agent called name.
func (c *Config) Agent(name string) (Agent, bool) {
	i := slices.IndexFunc(c.Agents, func(a Agent) bool { return a.Name == name })
	if i < 0 {
		return Agent{}, false
	}
	return c.Agents[i], true
}

// Trunk returns the trunk called name.
func (c *Config) Trunk(name string) (Trunk, bool) {
	i := slices.IndexFunc(c.Trunks, func(t Trunk) bool { return t.Name == name })
	if i < 0 {
		return Trunk{}, false
	}
	return c.Trunks[i], true
}
