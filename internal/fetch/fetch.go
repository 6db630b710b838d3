// Package fetch gets audio that an agent names by URL, and nothing else.
//
// The URLs come from outside, so that a flow must not be able to make the bridge
// talk to itself, to its neighbours or to a cloud's metadata service (CWE-918).
// Names are judged by the addresses that they resolve to at the moment of each
// dial, which a second answer of the DNS cannot change, and everything has a
// bound. The package does not know what audio is.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The reasons for not fetching. Test for them with errors.Is.
var (
	ErrURL       = errors.New("fetch: no address of audio")          // scheme, user, host or port
	ErrForbidden = errors.New("fetch: address not allowed")          // resolves to an address of ours or of a neighbour
	ErrTooLarge  = errors.New("fetch: too large")                    // more than MaxBytes
	ErrTimeout   = errors.New("fetch: took too long")                // longer than Timeout
	ErrRedirects = errors.New("fetch: too many redirects")           // more than MaxRedirects
	ErrEncoding  = errors.New("fetch: compressed answer not wanted") // Content-Encoding
)

// A StatusError is an answer other than 200.
type StatusError struct{ Status int }

// Error implements error.
func (e *StatusError) Error() string { return "fetch: the server answered " + strconv.Itoa(e.Status) }

// Config bounds fetching. Zero values mean the defaults of New.
type Config struct {
	AllowPrivate []netip.Prefix // networks allowed besides public ones
	AllowPorts   []uint16       // ports allowed besides 80 and 443; in networks of AllowPrivate every port is
	AllowHTTP    bool           // http: too; in networks of AllowPrivate it always is
	MaxBytes     int64          // 10 MiB
	Timeout      time.Duration  // 5 s, from the first dial to the last byte
	MaxRedirects int            // 3; negative: none
	Resolver     *net.Resolver  // nil: the system's
}

// MaxData is the longest data: URI, in bytes once decoded.
const MaxData = 4 << 20

// Body is what was fetched.
type Body struct {
	ContentType string // as the server said, may be empty; do not trust it
	Data        []byte
}

// A Fetcher fetches. It is safe for concurrent use and shares connections.
type Fetcher struct {
	config Config
	client *http.Client
}

// New returns a Fetcher. Close its idle connections with Close.
func New(c Config) *Fetcher {
	if c.MaxBytes <= 0 {
		c.MaxBytes = 10 << 20
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxRedirects == 0 {
		c.MaxRedirects = 3
	}
	f := &Fetcher{config: c}
	dialer := &net.Dialer{Timeout: c.Timeout, Control: f.control, Resolver: c.Resolver}
	f.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // the environment's would dial in our place
			DialContext:            dialer.DialContext,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    2,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    c.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > max(0, c.MaxRedirects) {
				return ErrRedirects
			}
			r.Header.Del("Referer") // the address before may hold a signature
			return f.check(r.URL)
		},
	}
	return f
}

// Close closes idle connections.
func (f *Fetcher) Close() { f.client.CloseIdleConnections() }

// Get fetches an http:, https: or data: URL. It may block until ctx ends or the
// time is up, so call it off the wheel. The errors are those of the package, a
// *[StatusError], or the network's.
func (f *Fetcher) Get(ctx context.Context, address string) (Body, error) {
	if len(address) >= 5 && strings.EqualFold(address[:5], "data:") {
		return f.data(address[5:])
	}
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return Body{}, fmt.Errorf("%w: it cannot be parsed", ErrURL)
	}
	if err := f.check(u); err != nil {
		return Body{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.config.Timeout, ErrTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return Body{}, fmt.Errorf("%w: %w", ErrURL, err)
	}
	r.Header.Set("Accept", "audio/*, application/octet-stream;q=0.5")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", "ivrbridge")
	response, err := f.client.Do(r)
	if err != nil {
		return Body{}, explain(ctx, err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	return f.read(ctx, response)
}

func (f *Fetcher) read(ctx context.Context, response *http.Response) (Body, error) {
	if response.StatusCode != http.StatusOK {
		return Body{}, &StatusError{Status: response.StatusCode}
	}
	if e := response.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return Body{}, fmt.Errorf("%w: %.32q", ErrEncoding, e)
	}
	if response.ContentLength > f.config.MaxBytes {
		return Body{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, response.ContentLength, f.config.MaxBytes)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, f.config.MaxBytes+1))
	if err != nil {
		return Body{}, explain(ctx, err)
	}
	if int64(len(data)) > f.config.MaxBytes {
		return Body{}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, f.config.MaxBytes)
	}
	return Body{ContentType: response.Header.Get("Content-Type"), Data: data}, nil
}

// explain unwraps the client's error, which quotes the whole URL: it may hold a
// signature.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrTimeout) {
		return ErrTimeout
	} else if cause != nil {
		return fmt.Errorf("fetch: %w", cause)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if errors.Is(err, ErrForbidden) || errors.Is(err, ErrURL) || errors.Is(err, ErrRedirects) {
		return err
	}
	return fmt.Errorf("fetch: %w", err)
}

// check judges what a URL says before anything is resolved.
func (f *Fetcher) check(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: the scheme is %.16q, only https, http and data are fetched", ErrURL, u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return fmt.Errorf("%w: there is no host", ErrURL)
	case u.User != nil:
		return fmt.Errorf("%w: it contains a user", ErrURL)
	}
	// Resolvers read 0x7f.1 and 2130706433 as addresses; a name's last label
	// begins with a letter.
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !isName(u.Hostname()) {
		return fmt.Errorf("%w: the host is neither a name nor an address", ErrURL)
	}
	return nil
}

func isName(host string) bool {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(host), "."), ".")
	top := labels[len(labels)-1]
	return top != "" && top[0] >= 'a' && top[0] <= 'z' && strings.Trim(host, nameBytes) == ""
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// control judges every address on the way to a socket: for each dial, so also
// for redirects and for names that resolve differently the second time.
func (f *Fetcher) control(network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: network %s", ErrForbidden, network)
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrForbidden, address)
	}
	ip := addr.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(f.config.AllowPrivate, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	port := addr.Port()
	switch {
	case !Public(ip):
		return fmt.Errorf("%w: %s is not public, name its network in media.fetch.allow_private", ErrForbidden, ip)
	case port == 80 && !f.config.AllowHTTP:
		return fmt.Errorf("%w: port 80 is not encrypted, allow it with media.fetch.allow_http", ErrForbidden)
	case port != 80 && port != 443 && !slices.Contains(f.config.AllowPorts, port):
		return fmt.Errorf("%w: port %d", ErrForbidden, port)
	}
	return nil
}
