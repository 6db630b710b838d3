package tlscert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An authority is a small one of RFC 8555. It checks every signature, takes every
// nonce once, and certifies only what answers its challenges.
type authority struct {
	server *httptest.Server
	ca     tls.Certificate
	kinds  []string          // of challenges that it offers
	hosts  map[string]string // where a domain is reached

	mu       sync.Mutex
	nonces   map[string]bool
	accounts map[string]*ecdsa.PublicKey // by address
	contacts []string
	orders   []*order
	refused  []string // what its challenges found wrong
}

type order struct {
	account, domain, status string
	authz                   string // status
	token, kind             string
	cert                    []byte
}

func newAuthority(t *testing.T, kinds ...string) *authority {
	t.Helper()
	cert, key := issue(t, "ca", nil)
	ca, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	a := &authority{ca: ca, kinds: kinds, hosts: map[string]string{}, nonces: map[string]bool{}, accounts: map[string]*ecdsa.PublicKey{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /directory", func(w http.ResponseWriter, _ *http.Request) {
		a.send(w, http.StatusOK, map[string]any{
			"newNonce": a.url("nonce"), "newAccount": a.url("account"), "newOrder": a.url("order"),
			"meta": map[string]string{"termsOfService": "https://ca.example/terms"},
		})
	})
	mux.HandleFunc("HEAD /nonce", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Replay-Nonce", a.nonce()) })
	for path, h := range map[string]func(http.ResponseWriter, *http.Request, request){
		"account": a.account, "order": a.newOrder, "order/{n}": a.showOrder, "authz/{n}": a.showAuthz,
		"challenge/{n}/{kind}": a.challenge, "finalize/{n}": a.finalize, "cert/{n}": a.certificate,
	} {
		mux.HandleFunc("POST /"+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Replay-Nonce", a.nonce())
			q, kind, err := a.open(r)
			if err != nil {
				a.problem(w, kind, err)
				return
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			h(w, r, q)
		})
	}
	a.server = httptest.NewTLSServer(mux)
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) url(parts ...any) string {
	path := make([]string, len(parts))
	for i, p := range parts {
		path[i] = fmt.Sprint(p)
	}
	return a.server.URL + "/" + strings.Join(path, "/")
}

func (a *authority) nonce() string {
	n := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nonces[n] = true
	return n
}

func (a *authority) send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (a *authority) problem(w http.ResponseWriter, kind string, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": err.Error(), "status": 400})
}

// A request is what the client signed.
type request struct {
	payload []byte
	key     *ecdsa.PublicKey
	kid     string
}

func unbase(s string) []byte { b, _ := base64.RawURLEncoding.DecodeString(s); return b }

// open checks a signed request, RFC 8555 section 6.
func (a *authority) open(r *http.Request) (request, string, error) {
	var jws struct{ Protected, Payload, Signature string }
	var head struct {
		Alg, Kid, Nonce, URL string
		JWK                  *struct{ Kty, Crv, X, Y string }
	}
	if r.Header.Get("Content-Type") != "application/jose+json" {
		return request{}, "malformed", errors.New("another content type")
	}
	if err := json.NewDecoder(r.Body).Decode(&jws); err != nil {
		return request{}, "malformed", err
	}
	if err := json.Unmarshal(unbase(jws.Protected), &head); err != nil {
		return request{}, "malformed", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.nonces[head.Nonce] {
		return request{}, "badNonce", errors.New("a nonce that was not given, or used")
	}
	delete(a.nonces, head.Nonce)
	if want := a.server.URL + r.URL.Path; head.URL != want || head.Alg != "ES256" {
		return request{}, "unauthorized", fmt.Errorf("signed for %s with %s", head.URL, head.Alg)
	}
	q := request{payload: unbase(jws.Payload), kid: head.Kid}
	switch first := r.URL.Path == "/account"; {
	case first != (head.JWK != nil) || first != (head.Kid == ""):
		return request{}, "malformed", errors.New("a new account has a key, all others a name")
	case first:
		if head.JWK.Kty != "EC" || head.JWK.Crv != "P-256" {
			return request{}, "badPublicKey", errors.New("another key")
		}
		point := slices.Concat([]byte{4}, unbase(head.JWK.X), unbase(head.JWK.Y))
		var err error
		if q.key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
			return request{}, "badPublicKey", err
		}
	default:
		q.key = a.accounts[head.Kid]
	}
	sum, sig := sha256.Sum256([]byte(jws.Protected+"."+jws.Payload)), unbase(jws.Signature)
	if q.key == nil || len(sig) != 64 || !ecdsa.Verify(q.key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return request{}, "unauthorized", errors.New("not signed by the account")
	}
	return q, "", nil
}

func (a *authority) account(w http.ResponseWriter, _ *http.Request, q request) {
	var wish struct {
		TermsOfServiceAgreed, OnlyReturnExisting bool
		Contact                                  []string
	}
	if err := json.Unmarshal(q.payload, &wish); err != nil {
		a.problem(w, "malformed", err)
		return
	}
	for kid, key := range a.accounts {
		if key.Equal(q.key) {
			w.Header().Set("Location", kid)
			a.send(w, http.StatusOK, map[string]any{"status": "valid"})
			return
		}
	}
	if wish.OnlyReturnExisting || !wish.TermsOfServiceAgreed {
		a.problem(w, "accountDoesNotExist", errors.New("no such account, or its terms are not agreed to"))
		return
	}
	kid := a.url("account", len(a.accounts)+1)
	a.accounts[kid] = q.key
	a.contacts = append(a.contacts, wish.Contact...)
	w.Header().Set("Location", kid)
	a.send(w, http.StatusCreated, map[string]any{"status": "valid"})
}

func (a *authority) newOrder(w http.ResponseWriter, _ *http.Request, q request) {
	var wish struct {
		Identifiers []struct{ Type, Value string }
	}
	if err := json.Unmarshal(q.payload, &wish); err != nil || len(wish.Identifiers) != 1 || wish.Identifiers[0].Type != "dns" {
		a.problem(w, "unsupportedIdentifier", errors.New("one name, please"))
		return
	}
	a.orders = append(a.orders, &order{account: q.kid, domain: wish.Identifiers[0].Value, status: "pending", authz: "pending", token: rand.Text()})
	n := len(a.orders) - 1
	w.Header().Set("Location", a.url("order", n))
	a.send(w, http.StatusCreated, a.shown(n))
}

func (a *authority) shown(n int) map[string]any {
	o := a.orders[n]
	out := map[string]any{
		"status": o.status, "identifiers": []any{map[string]string{"type": "dns", "value": o.domain}},
		"authorizations": []string{a.url("authz", n)}, "finalize": a.url("finalize", n),
	}
	if o.status == "valid" {
		out["certificate"] = a.url("cert", n)
	}
	return out
}

// of finds the account's order that an address names.
func (a *authority) of(w http.ResponseWriter, r *http.Request, q request) (int, *order) {
	n := -1
	if _, err := fmt.Sscan(r.PathValue("n"), &n); err != nil || n < 0 || n >= len(a.orders) || a.orders[n].account != q.kid {
		a.problem(w, "unauthorized", errors.New("no order of this account"))
		return 0, nil
	}
	return n, a.orders[n]
}

func (a *authority) showOrder(w http.ResponseWriter, r *http.Request, q request) {
	if n, o := a.of(w, r, q); o != nil {
		w.Header().Set("Location", a.url("order", n))
		a.send(w, http.StatusOK, a.shown(n))
	}
}

func (a *authority) showAuthz(w http.ResponseWriter, r *http.Request, q request) {
	n, o := a.of(w, r, q)
	if o == nil {
		return
	}
	var challenges []any
	for _, kind := range a.kinds {
		challenges = append(challenges, a.shownChallenge(n, kind))
	}
	a.send(w, http.StatusOK, map[string]any{
		"status": o.authz, "identifier": map[string]string{"type": "dns", "value": o.domain}, "challenges": challenges,
	})
}

func (a *authority) shownChallenge(n int, kind string) map[string]string {
	return map[string]string{"type": kind, "url": a.url("challenge", n, kind), "token": a.orders[n].token, "status": a.orders[n].authz}
}

func (a *authority) challenge(w http.ResponseWriter, r *http.Request, q request) {
	n, o := a.of(w, r, q)
	if o == nil {
		return
	}
	point, err := q.key.Bytes()
	if err != nil {
		a.problem(w, "serverInternal", err)
		return
	}
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	thumb := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, x, y)) // RFC 7638
	answer := o.token + "." + base64.RawURLEncoding.EncodeToString(thumb[:])
	kind := r.PathValue("kind")
	try := map[string]func(domain, addr, token, answer string) error{"tls-alpn-01": dialALPN, "http-01": fetchToken}[kind]
	a.mu.Unlock() // whom it asks may ask something else meanwhile
	err = try(o.domain, a.hosts[o.domain], o.token, answer)
	a.mu.Lock()
	o.kind, o.authz, o.status = kind, "valid", "ready"
	if err != nil {
		o.authz, o.status = "invalid", "invalid"
		a.refused = append(a.refused, err.Error())
	}
	a.send(w, http.StatusOK, a.shownChallenge(n, kind))
}

// dialALPN is the validation of RFC 8737 section 3.
func dialALPN(domain, addr, _, answer string) error {
	d := tls.Dialer{Config: &tls.Config{ServerName: domain, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	state := c.(*tls.Conn).ConnectionState()
	cert := state.PeerCertificates[0]
	if state.NegotiatedProtocol != "acme-tls/1" || len(cert.DNSNames) != 1 || cert.DNSNames[0] != domain {
		return fmt.Errorf("protocol %q for %v", state.NegotiatedProtocol, cert.DNSNames)
	}
	sum := sha256.Sum256([]byte(answer))
	want, err := asn1.Marshal(sum[:])
	if err != nil {
		return err
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical && string(e.Value) == string(want) {
			return nil
		}
	}
	return errors.New("no digest of the answer")
}

// fetchToken is the validation of RFC 8555 section 8.3.
func fetchToken(domain, addr, token, answer string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/.well-known/acme-challenge/"+token, nil)
	if err != nil {
		return err
	}
	r.Host, r.Close = domain, true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1000))
	if err == nil && strings.TrimSpace(string(b)) != answer {
		err = fmt.Errorf("%d %q", res.StatusCode, b)
	}
	return err
}

func (a *authority) finalize(w http.ResponseWriter, r *http.Request, q request) {
	n, o := a.of(w, r, q)
	if o == nil {
		return
	}
	var wish struct{ CSR string }
	if err := json.Unmarshal(q.payload, &wish); err != nil || o.status != "ready" {
		a.problem(w, "orderNotReady", fmt.Errorf("status %s", o.status))
		return
	}
	csr, err := x509.ParseCertificateRequest(unbase(wish.CSR))
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil || len(csr.DNSNames) != 1 || csr.DNSNames[0] != o.domain {
		a.problem(w, "badCSR", fmt.Errorf("not for %s: %w", o.domain, err))
		return
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.ca.Leaf, csr.PublicKey, a.ca.PrivateKey)
	if err != nil {
		a.problem(w, "serverInternal", err)
		return
	}
	for _, b := range [][]byte{der, a.ca.Certificate[0]} {
		o.cert = append(o.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})...)
	}
	o.status = "valid"
	w.Header().Set("Location", a.url("order", n))
	a.send(w, http.StatusOK, a.shown(n))
}

func (a *authority) certificate(w http.ResponseWriter, r *http.Request, q request) {
	if _, o := a.of(w, r, q); o != nil {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(o.cert)
	}
}

func (a *authority) config(cache string, domains ...string) Config {
	return Config{Cache: cache, ACME: ACME{Domains: domains, Email: "ops@example.com", Directory: a.url("directory"), Client: a.server.Client()}}
}

func (a *authority) kindsOfOrders() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, o := range a.orders {
		out = append(out, o.domain+" "+o.kind+" "+o.status)
	}
	return out
}

// browse gets a page of a domain at an address, trusting the authority alone,
// and returns the protocol.
func (a *authority) browse(t *testing.T, domain, addr string) (proto string, err error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.ca.Leaf)
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+domain+"/", nil)
	require.NoError(t, err)
	res, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	require.NoError(t, res.Body.Close())
	return res.Proto, nil
}

func TestCertificateOfAnAuthority(t *testing.T) {
	a := newAuthority(t, "http-01", "tls-alpn-01")
	dir := t.TempDir()
	s, err := New(a.config(dir, "phone.example.com", "other.example.com"))
	require.NoError(t, err)
	require.True(t, s.Trusted())
	addr := listen(t, s)
	a.hosts["phone.example.com"], a.hosts["other.example.com"] = addr, addr
	require.Empty(t, a.kindsOfOrders(), "nothing is asked for before somebody comes")

	for range 3 {
		proto, err := a.browse(t, "phone.example.com", addr)
		require.NoError(t, err, a.refused)
		require.Equal(t, "HTTP/2.0", proto)
	}
	require.Equal(t, []string{"phone.example.com tls-alpn-01 valid"}, a.kindsOfOrders())
	require.Equal(t, []string{"mailto:ops@example.com"}, a.contacts)
	_, err = a.browse(t, "evil.example.com", addr)
	require.Error(t, err, "a name that nobody listed")
	require.Len(t, a.kindsOfOrders(), 1)

	entries, err := os.ReadDir(filepath.Join(dir, "acme"))
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
	again, err := New(a.config(dir, "phone.example.com"))
	require.NoError(t, err)
	_, err = a.browse(t, "phone.example.com", listen(t, again))
	require.NoError(t, err)
	require.Len(t, a.kindsOfOrders(), 1, "the certificate was kept")
	_, err = a.browse(t, "other.example.com", addr)
	require.NoError(t, err)
	require.Len(t, a.kindsOfOrders(), 2)
	require.Len(t, a.accounts, 1)
}

func TestCertificateThroughThePlainListener(t *testing.T) {
	a := newAuthority(t, "http-01")
	s, err := New(a.config(t.TempDir(), "phone.example.com"))
	require.NoError(t, err)
	plain := httptest.NewServer(s.Challenge(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	defer plain.Close()
	a.hosts["phone.example.com"] = plain.Listener.Addr().String()
	_, err = a.browse(t, "phone.example.com", listen(t, s))
	require.NoError(t, err, a.refused)
	require.Equal(t, []string{"phone.example.com http-01 valid"}, a.kindsOfOrders())
	for path, want := range map[string]int{"/": 418, "/api/v1/rtc": 418, "/.well-known/acme-challenge/unknown": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, plain.URL+path, nil)
		require.NoError(t, err)
		r.Host = "phone.example.com"
		res, err := plain.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
	}
}

func TestAuthorityThatReachesSomebodyElse(t *testing.T) {
	a := newAuthority(t, "tls-alpn-01")
	s, err := New(a.config(t.TempDir(), "phone.example.com"))
	require.NoError(t, err)
	stranger, err := New(Config{Cache: t.TempDir()})
	require.NoError(t, err)
	a.hosts["phone.example.com"] = listen(t, stranger)
	addr := listen(t, s)
	_, err = a.browse(t, "phone.example.com", addr)
	require.Error(t, err)
	require.NotEmpty(t, a.refused)
	for _, o := range a.kindsOfOrders() {
		require.NotContains(t, o, " valid")
	}
}
