package tlscert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func leaf(t *testing.T, s *Source) *x509.Certificate {
	t.Helper()
	c, err := s.TLS().GetCertificate(&tls.ClientHelloInfo{ServerName: "localhost"})
	require.NoError(t, err)
	return c.Leaf
}

// machine is one whose addresses the test knows.
func machine(addrs ...string) func() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, a := range addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return func() ([]netip.Addr, error) { return out, nil }
}

func TestSelfSignedNamesTheMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	core, logs := observer.New(zapcore.DebugLevel)
	s, err := New(Config{Cache: dir, Hosts: []string{"Phone.Example.com", "203.0.113.7", "[2001:db8::7]", "", "bad name"}, Log: zap.New(core)})
	require.NoError(t, err)
	require.False(t, s.Trusted())
	c := leaf(t, s)
	host, err := os.Hostname()
	require.NoError(t, err)
	all, err := interfaces()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, name := range []string{"localhost", host, "phone.example.com", "203.0.113.7", "2001:db8::7", "127.0.0.1", "::1"} {
		require.NoError(t, c.VerifyHostname(name), name)
	}
	for _, a := range all {
		require.NoError(t, c.VerifyHostname(a.WithZone("").String()))
	}
	require.IsType(t, &ecdsa.PublicKey{}, c.PublicKey)
	require.False(t, c.IsCA)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, c.ExtKeyUsage)
	require.InDelta(t, 365*24, time.Until(c.NotAfter).Hours(), 1)
	require.NoError(t, c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature))
	info, err := os.Stat(filepath.Join(dir, selfFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")
	require.Equal(t, 1, logs.FilterMessage("self-signed certificate made").Len())

	again, err := New(Config{Cache: dir, Hosts: []string{"phone.example.com"}})
	require.NoError(t, err)
	require.Equal(t, c.Raw, leaf(t, again).Raw, "the next start has the same one")
}

func TestSelfSignedIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, here := t.TempDir(), machine("192.0.2.1", "fe80::1")
		open := func(a func() ([]netip.Addr, error), hosts ...string) *x509.Certificate {
			s, err := New(Config{Cache: dir, Addresses: a, Hosts: hosts})
			require.NoError(t, err)
			return leaf(t, s)
		}
		first := open(here)
		time.Sleep(334 * 24 * time.Hour)
		require.Equal(t, first.Raw, open(here).Raw)
		time.Sleep(2 * 24 * time.Hour)
		second := open(here)
		require.NotEqual(t, first.Raw, second.Raw, "it would expire within a month")

		require.Equal(t, second.Raw, open(machine()).Raw, "an address that is gone does no harm")
		require.Equal(t, second.Raw, open(machine("192.0.2.1", "fe80::2")).Raw, "nobody can browse a link-local address")
		third := open(machine("192.0.2.1", "198.51.100.1"))
		require.NotEqual(t, second.Raw, third.Raw)
		require.NoError(t, third.VerifyHostname("198.51.100.1"))
		require.NoError(t, open(machine("198.51.100.1"), "new.example.com").VerifyHostname("new.example.com"))
	})
}

func TestSelfSignedIsRenewedWhileItServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := machine("192.0.2.1")
		s, err := New(Config{Cache: t.TempDir(), Addresses: func() ([]netip.Addr, error) { return now() }})
		require.NoError(t, err)
		first := leaf(t, s)
		now = machine("192.0.2.2")
		time.Sleep(checkEvery - time.Nanosecond)
		require.Equal(t, first.Raw, leaf(t, s).Raw)
		time.Sleep(time.Nanosecond)
		second := leaf(t, s)
		require.NoError(t, second.VerifyHostname("192.0.2.2"))
		time.Sleep(selfLife)
		require.True(t, leaf(t, s).NotAfter.After(time.Now()))

		now = func() ([]netip.Addr, error) { return nil, errors.New("no interfaces") }
		time.Sleep(checkEvery)
		require.NotNil(t, leaf(t, s))
	})
}

func TestKeptCertificatesThatCannotBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"garbage": func(t *testing.T, file string) {
			t.Helper()
			require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
		},
		"empty":    func(t *testing.T, file string) { t.Helper(); require.NoError(t, os.WriteFile(file, nil, 0o600)) },
		"readable": func(t *testing.T, file string) { t.Helper(); require.NoError(t, os.Chmod(file, 0o644)) },
		"folder": func(t *testing.T, file string) {
			t.Helper()
			require.NoError(t, os.Remove(file))
			require.NoError(t, os.MkdirAll(filepath.Join(file, "x"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, err := New(Config{Cache: dir})
			require.NoError(t, err)
			spoil(t, filepath.Join(dir, selfFile))
			core, logs := observer.New(zapcore.WarnLevel)
			second, err := New(Config{Cache: dir, Log: zap.New(core)})
			require.NoError(t, err)
			require.NotEqual(t, leaf(t, first).Raw, leaf(t, second).Raw)
			require.NotZero(t, logs.Len())
		})
	}
}

func TestWithoutFolderTheCertificateStaysInMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	core, logs := observer.New(zapcore.WarnLevel)
	s, err := New(Config{Cache: file, Log: zap.New(core)})
	require.NoError(t, err)
	require.NoError(t, leaf(t, s).VerifyHostname("localhost"))
	require.Equal(t, 1, logs.Len())
	_, err = New(Config{Cache: file, ACME: ACME{Domains: []string{"phone.example.com"}}})
	require.ErrorContains(t, err, "make the folder of certificates", "an authority's patience is not to be tried at each start")
}

func TestDefaultFolder(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	_, err := New(Config{})
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(home, "ivrbridge", selfFile))
}

// issue returns a certificate for a name in PEM, signed by parent or by itself.
func issue(t *testing.T, name string, parent *tls.Certificate) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	var der []byte
	if parent == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
		der, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	} else {
		der, err = x509.CreateCertificate(rand.Reader, tmpl, parent.Leaf, k.Public(), parent.PrivateKey)
	}
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	tick := time.Now().Add(-time.Hour)
	put := func(file string, text []byte) {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		tick = tick.Add(time.Second)
		require.NoError(t, os.Chtimes(file, tick, tick))
	}
	cert, key := issue(t, "a.example.com", nil)
	put(certFile, cert)
	put(keyFile, key)
	core, logs := observer.New(zapcore.DebugLevel)
	s, err := New(Config{Cert: certFile, Key: keyFile, Log: zap.New(core)})
	require.NoError(t, err)
	require.Equal(t, []string{"a.example.com"}, leaf(t, s).DNSNames)
	require.False(t, s.Trusted(), "it is self-signed")

	ca, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	cert, key = issue(t, "b.example.com", &ca)
	put(certFile, cert)
	require.Equal(t, []string{"a.example.com"}, leaf(t, s).DNSNames, "the key does not fit yet")
	leaf(t, s)
	require.Equal(t, 1, logs.FilterMessage("changed certificate not usable, the old one stays").Len(), "said once")
	put(keyFile, key)
	require.Equal(t, []string{"b.example.com"}, leaf(t, s).DNSNames)
	require.True(t, s.Trusted())

	require.NoError(t, os.Remove(certFile))
	require.Equal(t, []string{"b.example.com"}, leaf(t, s).DNSNames, "a file that is missing for a moment")
	cert, key = issue(t, "c.example.com", nil)
	fresh := t.TempDir() // an exchange as orchestrators make it: what a link points at
	require.NoError(t, os.WriteFile(filepath.Join(fresh, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(fresh, "key.pem"), key, 0o600))
	require.NoError(t, os.Remove(keyFile))
	require.NoError(t, os.Symlink(filepath.Join(fresh, "cert.pem"), certFile))
	require.NoError(t, os.Symlink(filepath.Join(fresh, "key.pem"), keyFile))
	require.Equal(t, []string{"c.example.com"}, leaf(t, s).DNSNames)
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	cert, _ := issue(t, "a.example.com", nil)
	_, key := issue(t, "a.example.com", nil)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, cert, 0o600))
	require.NoError(t, os.WriteFile(b, key, 0o600))
	for want, c := range map[string]Config{
		"belong together":   {Cert: a},
		"no such file":      {Cert: a, Key: filepath.Join(dir, "c")},
		"does not match":    {Cert: a, Key: b},
		"read certificate:": {Cert: b, Key: b},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
}

// listen serves https with a source until the test ends.
func listen(t *testing.T, s *Source) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS())
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String()
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	s, err := New(Config{Cache: t.TempDir()})
	require.NoError(t, err)
	addr := listen(t, s)
	pool := x509.NewCertPool()
	pool.AddCert(leaf(t, s))
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: version}}
		c, err := d.DialContext(t.Context(), "tcp", addr)
		require.Equal(t, ok, err == nil, "%s: %v", tls.VersionName(version), err)
		if err == nil {
			require.NoError(t, c.Close())
		}
	}
}

func TestOthersThanACMEAnswerNoChallenge(t *testing.T) {
	s, err := New(Config{Cache: t.TempDir()})
	require.NoError(t, err)
	h := s.Challenge(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/acme-challenge/x", nil))
	require.Equal(t, http.StatusTeapot, w.Code)
}

func TestHandshakesAtTheSameTime(t *testing.T) {
	s, err := New(Config{Cache: t.TempDir(), Addresses: machine()})
	require.NoError(t, err)
	all := make(chan []byte)
	for range 20 {
		go func() {
			c, err := s.TLS().GetCertificate(nil)
			if err != nil {
				all <- nil
				return
			}
			all <- c.Leaf.Raw
		}()
	}
	first := <-all
	for range 19 {
		require.True(t, bytes.Equal(first, <-all))
	}
}
