package tlscert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	selfFile  = "self-signed.pem" // certificate and key
	selfLife  = 365 * 24 * time.Hour
	selfRenew = 30 * 24 * time.Hour // before it expires
)

// own is a certificate that the bridge signs itself, so that browsers have to be
// told once that it is right.
type own struct {
	config Config
	file   string // empty: kept in memory alone

	mu      sync.Mutex
	checked time.Time
	now     *tls.Certificate
}

func selfSigned(c Config) (*Source, error) {
	o := &own{config: c}
	folder, err := cacheFolder(c.Cache)
	if err != nil {
		c.Log.Warn("self-signed certificate cannot be kept, the next start makes another one", zap.Error(err))
	} else {
		o.file = filepath.Join(folder, selfFile)
		o.now = o.read()
	}
	if err := o.renew(); err != nil {
		return nil, err
	}
	return newSource(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return o.get(), nil }, func() bool { return false }), nil
}

// get returns the certificate and makes another one when its time has come.
func (o *own) get() *tls.Certificate {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.checked) >= checkEvery {
		if err := o.renew(); err != nil {
			o.config.Log.Error("self-signed certificate not renewed", zap.Error(err))
		}
	}
	return o.now
}

// renew makes a certificate when there is none, or the one that there is expires
// soon or lacks a name or an address of this machine.
func (o *own) renew() error {
	o.checked = time.Now()
	names, addrs := o.hosts()
	if o.now != nil && fits(o.now.Leaf, names, addrs, o.checked) {
		return nil
	}
	text, err := makeCertificate(names, addrs, o.checked)
	if err != nil {
		return fmt.Errorf("make a self-signed certificate: %w", err)
	}
	if o.now, err = pair(text); err != nil {
		return fmt.Errorf("make a self-signed certificate: %w", err)
	}
	o.config.Log.Info("self-signed certificate made", zap.Strings("names", names), zap.Stringers("addresses", addrs), zap.Time("expires", o.now.Leaf.NotAfter))
	if o.file != "" {
		if err := write(o.file, text); err != nil {
			o.config.Log.Warn("self-signed certificate cannot be kept, the next start makes another one", zap.Error(err))
		}
	}
	return nil
}

// hosts returns what the certificate has to name.
func (o *own) hosts() ([]string, []netip.Addr) {
	names := []string{"localhost"}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	hosts := slices.Clone(o.config.Hosts)
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if a, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
			addrs = append(addrs, a.Unmap().WithZone(""))
		} else if dnsName(h) {
			names = append(names, h)
		}
	}
	all, err := o.config.Addresses()
	if err != nil {
		o.config.Log.Warn("addresses of this machine not known", zap.Error(err))
	}
	for _, a := range all {
		addrs = append(addrs, a.Unmap().WithZone(""))
	}
	slices.Sort(names)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(names), slices.Compact(addrs)
}

// dnsName reports whether a name can stand in a certificate.
func dnsName(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, odd) && !strings.Contains("."+s+".", "..")
}

// fits reports whether a certificate still does. Addresses that are gone do no
// harm, and link-local ones of IPv6, which no browser can write, come and go with
// every virtual interface.
func fits(leaf *x509.Certificate, names []string, addrs []netip.Addr, now time.Time) bool {
	if now.Before(leaf.NotBefore) || now.Add(selfRenew).After(leaf.NotAfter) {
		return false
	}
	for _, name := range names {
		if !slices.Contains(leaf.DNSNames, name) {
			return false
		}
	}
	for _, a := range addrs {
		link := a.Is6() && a.IsLinkLocalUnicast()
		if !link && !slices.ContainsFunc(leaf.IPAddresses, net.IP(a.AsSlice()).Equal) {
			return false
		}
	}
	return true
}

// makeCertificate returns a certificate and its key in PEM.
func makeCertificate(names []string, addrs []netip.Addr, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "ivrbridge", Organization: []string{"ivrbridge self-signed"}},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(selfLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,

		BasicConstraintsValid: true,
	}
	for _, a := range addrs {
		t.IPAddresses = append(t.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func pair(text []byte) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// read returns the certificate that was kept, nil when there is none or it
// cannot be used.
func (o *own) read() *tls.Certificate {
	info, err := os.Stat(o.file)
	if err != nil {
		return nil
	}
	if info.Mode().Perm()&0o077 != 0 {
		o.config.Log.Warn("others could read the key of the self-signed certificate, another one is made", zap.String("file", o.file))
		return nil
	}
	text, err := os.ReadFile(o.file)
	if err == nil {
		var c *tls.Certificate
		if c, err = pair(text); err == nil {
			return c
		}
	}
	o.config.Log.Warn("kept certificate not usable, another one is made", zap.String("file", o.file), zap.Error(err))
	return nil
}

// write replaces the file at once: neither a crash nor another process sees half
// of it.
func write(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), selfFile+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone after the rename
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
