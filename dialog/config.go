package dialog

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

// Config says which agent a client talks to. All API generations share it.
type Config struct {
	// API is the generation: one of Generations. Empty: dm.
	API string `yaml:"api" json:"api"`
	// URL is the runtime's address without a path, or with the prefix that a
	// proxy wants.
	URL string `yaml:"url" json:"url"`
	// APIKey is a Dialog Manager key (VF.DM.…). Only a runtime on this machine
	// may do without.
	APIKey secret.Secret `yaml:"api_key" json:"api_key"`
	// Project is the project's id, which every API but dm needs.
	Project string `yaml:"project" json:"project"`
	// Environment is production, development, staging, main, an id, or auto: the
	// first that is there of those that the API's projects usually have.
	Environment string `yaml:"environment" json:"environment"`

	// Timeout is the longest that one request may take; a shorter one comes with
	// the context. 0: 20 s, after which the runtime itself gives up.
	Timeout time.Duration `yaml:"-" json:"-"`
	// HTTP sends the requests; nil: a client of its own. Its transport should
	// drop idle connections before 75 s, as the runtime does after 76 s.
	HTTP *http.Client `yaml:"-" json:"-"`
	// Log may be nil.
	Log *zap.Logger `yaml:"-" json:"-"`
}

// EnvironmentAuto is the environment that looks for one that answers.
const EnvironmentAuto = "auto"

const defaultTimeout = 20 * time.Second

// DefaultConfig is Voiceflow's public cloud, without a key.
func DefaultConfig() Config {
	return Config{URL: runtimeCloud, Environment: EnvironmentAuto}
}

// headerToken is what a header of ours may hold.
var headerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`)

// Validate reports all that is wrong, each with what to write instead.
func (c *Config) Validate() error {
	var errs []error
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		errs = append(errs, errors.New("url: write an address such as https://general-runtime.voiceflow.com"))
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		errs = append(errs, fmt.Errorf("url: %q is no address of a server, write https://general-runtime.voiceflow.com", u.Redacted()))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, errors.New("url: write it without user, query and fragment; the key belongs into api_key"))
	case strings.Contains(u.Path, "/state/") || strings.HasSuffix(u.Path, "/interact"):
		errs = append(errs, errors.New("url: write it without /state/user/…, only the server's address"))
	}
	g, known := generations[c.name()]
	if !known {
		errs = append(errs, fmt.Errorf("api: %q is unknown, write one of %s", c.API, strings.Join(Generations(), ", ")))
	}
	key, token := c.APIKey.Reveal(), g.token
	switch {
	case key == "" && token && (u == nil || !local(u.Hostname())):
		errs = append(errs, errors.New("api_key: create a personal access token (vfp_…) in Voiceflow's account settings and write env:VOICEFLOW_API_KEY"))
	case key == "" && (u == nil || !local(u.Hostname())):
		errs = append(errs, errors.New("api_key: copy a Dialog API key (VF.DM.…) from the agent's settings in Voiceflow and write env:VOICEFLOW_API_KEY"))
	case strings.HasPrefix(strings.ToLower(key), "bearer "):
		errs = append(errs, errors.New("api_key: write the key alone, without Bearer"))
	case strings.HasPrefix(key, "VF.WS."):
		errs = append(errs, errors.New("api_key: this is a workspace key (VF.WS.…), copy the agent's Dialog API key (VF.DM.…)"))
	case token && key != "" && !strings.HasPrefix(key, "vfp_"):
		errs = append(errs, fmt.Errorf("api_key: api %s takes a personal access token (vfp_…), create one in Voiceflow's account settings", c.API))
	case !token && strings.HasPrefix(key, "vfp_"):
		errs = append(errs, errors.New("api_key: this is a personal access token (vfp_…), which api stable alone takes; copy the agent's Dialog API key (VF.DM.…)"))
	case key != "" && !headerToken.MatchString(key):
		errs = append(errs, errors.New("api_key: write the key alone, without quotes, spaces or line breaks"))
	}
	if c.Environment != "" && !headerToken.MatchString(c.Environment) {
		errs = append(errs, fmt.Errorf("environment: %q cannot be one, write auto, production, development, staging, main or an id", c.Environment))
	}
	if g.project && c.Project == "" {
		errs = append(errs, fmt.Errorf("project: is missing: api %s needs the project's id", c.API))
	}
	if c.Project != "" && !headerToken.MatchString(c.Project) {
		errs = append(errs, fmt.Errorf("project: %q cannot be an id", c.Project))
	}
	return errors.Join(errs...)
}

// local reports whether host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// name is the API's name.
func (c *Config) name() string {
	if c.API == "" {
		return apiDM
	}
	return c.API
}

func (c *Config) generation() generation { return generations[c.name()] }

// candidates are the environments to try, in this order.
func (c *Config) candidates() []string {
	if c.Environment == "" || c.Environment == EnvironmentAuto {
		return c.generation().auto
	}
	return []string{c.Environment}
}

// authorization is the value of the header that proves who we are.
func (c *Config) authorization() string {
	key := c.APIKey.Reveal()
	if key != "" && c.generation().token {
		return "Bearer " + key
	}
	return key
}
