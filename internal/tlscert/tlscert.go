// Package tlscert gives an HTTPS listener its certificate: from files that are
// read again when they change, from an authority that speaks ACME, or one that it
// signs itself.
//
// It opens no listener and knows nothing of what is served.
package tlscert

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Config says where the certificate comes from: Cert and Key, else ACME when it
// has Domains, else it is self-signed.
type Config struct {
	Cert, Key string // paths of PEM files
	ACME      ACME
	Cache     string   // folder of what is made or fetched; empty: ivrbridge in the user's cache folder
	Hosts     []string // names and addresses of a self-signed one, besides those of this machine
	Log       *zap.Logger
	// Addresses returns those of this machine's interfaces; nil: asks the system.
	Addresses func() ([]netip.Addr, error)
}

// ACME is an authority of RFC 8555. Its terms are accepted.
type ACME struct {
	Domains   []string
	Email     string       // contact; empty: none
	Directory string       // address; empty: Let's Encrypt
	Client    *http.Client // reaches the authority; nil: the default one
}

// A Source hands certificates out. Its methods may be called from any goroutine.
type Source struct {
	config *tls.Config
	plain  func(http.Handler) http.Handler
	public func() bool
}

// New returns the source that a configuration asks for. It reads files, and
// makes a self-signed certificate when there is none; an authority is asked with
// the first handshake for each domain.
func New(c Config) (*Source, error) {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Addresses == nil {
		c.Addresses = interfaces
	}
	switch {
	case c.Cert != "" || c.Key != "":
		return fromFiles(c)
	case len(c.ACME.Domains) > 0:
		return fromACME(c)
	default:
		return selfSigned(c)
	}
}

// TLS returns the configuration of the listener: TLS 1.2 and later, HTTP/2 and
// HTTP/1.1. Each call returns a copy.
func (s *Source) TLS() *tls.Config { return s.config.Clone() }

// Trusted reports whether browsers may be expected to trust the certificate: it
// is no self-signed one.
func (s *Source) Trusted() bool { return s.public() }

// Challenge returns a handler for the plain listener that answers an authority's
// http-01 challenges (RFC 8555 section 8.3) and passes everything else on.
func (s *Source) Challenge(next http.Handler) http.Handler { return s.plain(next) }

func newSource(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), public func() bool) *Source {
	return &Source{
		config: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: get},
		plain:  func(next http.Handler) http.Handler { return next },
		public: public,
	}
}

func fromACME(c Config) (*Source, error) {
	folder, err := cacheFolder(c.Cache)
	if err != nil {
		return nil, err
	}
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(c.ACME.Domains...),
		Cache:      autocert.DirCache(filepath.Join(folder, "acme")),
		Email:      c.ACME.Email,
		Client:     &acme.Client{DirectoryURL: c.ACME.Directory, HTTPClient: c.ACME.Client, UserAgent: "ivrbridge"},
	}
	if c.ACME.Directory == "" {
		m.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	s := newSource(m.GetCertificate, func() bool { return true })
	s.config.NextProtos = append(s.config.NextProtos, acme.ALPNProto)
	s.plain = func(next http.Handler) http.Handler { return m.HTTPHandler(next) }
	return s, nil
}

// files is a pair of files.
type files struct {
	cert, key string
	log       *zap.Logger

	mu    sync.Mutex
	state [2]os.FileInfo // when they were read last
	now   *tls.Certificate
}

func fromFiles(c Config) (*Source, error) {
	if c.Cert == "" || c.Key == "" {
		return nil, errors.New("certificate and key belong together: name both files")
	}
	f := &files{cert: c.Cert, key: c.Key, log: c.Log}
	state, err := f.stat()
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if f.now, err = load(f.cert, f.key); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	f.state = state
	return newSource(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.get(), nil }, f.signed), nil
}

// get returns the certificate of the files as they are. While they do not fit
// together, as in the middle of an exchange, the one before stays.
func (f *files) get() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, err := f.stat()
	if err != nil || same(state[0], f.state[0]) && same(state[1], f.state[1]) {
		return f.now
	}
	f.state = state
	fresh, err := load(f.cert, f.key)
	if err != nil {
		f.log.Warn("changed certificate not usable, the old one stays", zap.String("file", f.cert), zap.Error(err))
		return f.now
	}
	f.now = fresh
	f.log.Info("certificate read again", zap.String("file", f.cert), zap.Time("expires", fresh.Leaf.NotAfter))
	return f.now
}

// signed reports whether somebody else signed the certificate.
func (f *files) signed() bool {
	leaf := f.get().Leaf
	return leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil
}

func (f *files) stat() (state [2]os.FileInfo, err error) {
	for i, name := range []string{f.cert, f.key} {
		if state[i], err = os.Stat(name); err != nil {
			return state, err
		}
	}
	return state, nil
}

// same reports whether a file, or what a link points at, is as it was.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func load(cert, key string) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// cacheFolder makes the folder of certificates, which nobody else may read.
func cacheFolder(name string) (string, error) {
	if name == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for certificates, name one in http.tls.cache: %w", err)
		}
		name = filepath.Join(base, "ivrbridge")
	}
	if err := os.MkdirAll(name, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of certificates: %w", err)
	}
	return name, nil
}

func interfaces() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out, nil
}

// checkEvery is how often the machine's addresses are looked at, by handshakes.
const checkEvery = time.Minute
