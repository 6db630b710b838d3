package fetch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// metadata is a server on loopback that must never be reached.
func metadata(t *testing.T) (port string, connects *atomic.Int32) {
	t.Helper()
	connects = &atomic.Int32{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "credentials")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connects.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(t, err)
	return port, connects
}

func TestForbiddenAddressesAreNeverConnectedTo(t *testing.T) {
	port, connects := metadata(t)
	f := New(Config{AllowHTTP: true, Timeout: 2 * time.Second, Resolver: resolver(t, "127.0.0.1")})
	defer f.Close()
	for _, address := range []string{
		"http://127.0.0.1:PORT/", "http://127.1.2.3:PORT/", "https://127.0.0.1:PORT/", "http://localhost:PORT/",
		"http://LOCALHOST.:PORT/", "http://[::1]:PORT/", "http://[::]:PORT/", "http://0.0.0.0:PORT/",
		"http://0:PORT/", "http://0x7f.1:PORT/", "http://0x7f000001:PORT/", "http://2130706433:PORT/", "http://017700000001:PORT/",
		"http://127.1:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://[::ffff:7f00:1]:PORT/", "http://[::127.0.0.1]:PORT/",
		"http://[64:ff9b::7f00:1]:PORT/", "http://[2002:7f00:1::]:PORT/", "http://[64:ff9b:1::7f00:1]:PORT/",
		"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fe80::1%25lo]:PORT/",
		"http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/", "http://100.100.100.200/",
		"http://224.0.0.1/", "http://[ff02::1]/", "http://255.255.255.255/", "http://192.0.2.1/", "http://198.18.0.1/",
		"http://rebinding.example.com:PORT/", "http://rebinding.example.com./", "http://user@127.0.0.1:PORT/",
		"http://１２７.0.0.1:PORT/", "http://①②⑦.0.0.1:PORT/", "http://127。0。0。1:PORT/",
		"file:///etc/passwd", "gopher://127.0.0.1:PORT/", "ftp://127.0.0.1/", "//127.0.0.1:PORT/", "127.0.0.1:PORT",
		"http:127.0.0.1:PORT", "http:///etc/passwd", "http://", "", "http://127.0.0.1:PORT\r\nX: y/", "http://93.184.216.34:22/",
		" http://127.0.0.1:PORT/ ", "HTTP://127.0.0.1:PORT/",
	} {
		body, err := f.Get(t.Context(), strings.ReplaceAll(address, "PORT", port))
		require.Error(t, err, address)
		require.True(t, errors.Is(err, ErrForbidden) || errors.Is(err, ErrURL), "%s: %v", address, err)
		require.Empty(t, body.Data)
	}
	require.Zero(t, connects.Load())
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	port, connects := metadata(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:"+port)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:"+port)
	t.Setenv("ALL_PROXY", "http://127.0.0.1:"+port)
	f := New(Config{AllowHTTP: true, Resolver: resolver(t, "10.1.2.3")})
	_, err := f.Get(t.Context(), "http://audio.example.com/")
	require.ErrorIs(t, err, ErrForbidden)
	require.Zero(t, connects.Load())
}

// private allows addresses 127.9.0.0/16 alone, where the tests' servers are.
var private = []netip.Prefix{netip.MustParsePrefix("127.9.0.0/16")}

// serve starts a server at 127.9.0.1.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.9.0.1:0")
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(h)
	require.NoError(t, s.Listener.Close())
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func TestGet(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "audio/wav")
		_, _ = io.WriteString(w, "RIFF")
	})
	f := New(Config{AllowPrivate: private})
	defer f.Close()
	body, err := f.Get(t.Context(), base+"/a.wav?x=1")
	require.NoError(t, err)
	require.Equal(t, Body{ContentType: "audio/wav", Data: []byte("RIFF")}, body)
}

func TestRedirectsAreJudgedAgain(t *testing.T) {
	port, connects := metadata(t)
	var hops atomic.Int32
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metadata":
			http.Redirect(w, r, "http://127.0.0.1:"+port+"/", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/user":
			http.Redirect(w, r, "http://a:b@"+r.Host+"/", http.StatusFound)
		case "/loop":
			hops.Add(1)
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		case "/three":
			http.Redirect(w, r, "/two", http.StatusFound)
		case "/two":
			http.Redirect(w, r, "/one", http.StatusFound)
		case "/one":
			http.Redirect(w, r, "/audio", http.StatusFound)
		default:
			_, _ = io.WriteString(w, "referer="+r.Referer())
		}
	})
	f := New(Config{AllowPrivate: private})
	defer f.Close()
	for path, want := range map[string]error{"/metadata": ErrForbidden, "/file": ErrURL, "/user": ErrURL, "/loop": ErrRedirects} {
		_, err := f.Get(t.Context(), base+path)
		require.ErrorIs(t, err, want, path)
	}
	require.EqualValues(t, 4, hops.Load(), "one request and three redirects")
	require.Zero(t, connects.Load())
	body, err := f.Get(t.Context(), base+"/three")
	require.NoError(t, err)
	require.Equal(t, "referer=", string(body.Data))
}

func TestLimits(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/announced":
			w.Header().Set("Content-Length", "1001")
			_, _ = w.Write(make([]byte, 1001))
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 512)); err != nil {
					return
				}
			}
		case "/fits":
			_, _ = w.Write(make([]byte, 1000))
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b})
		case "/stalls":
			w.Header().Set("Content-Length", "2")
			_, _ = w.Write([]byte{1})
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/cut":
			w.Header().Set("Content-Length", "2")
			_, _ = w.Write([]byte{1})
		default:
			http.NotFound(w, r)
		}
	})
	f := New(Config{AllowPrivate: private, MaxBytes: 1000, Timeout: 5 * time.Second})
	defer f.Close()
	for path, want := range map[string]error{"/announced": ErrTooLarge, "/endless": ErrTooLarge, "/gzip": ErrEncoding, "/cut": io.ErrUnexpectedEOF} {
		_, err := f.Get(t.Context(), base+path)
		require.ErrorIs(t, err, want, path)
	}
	body, err := f.Get(t.Context(), base+"/fits")
	require.NoError(t, err)
	require.Len(t, body.Data, 1000)

	_, err = f.Get(t.Context(), base+"/nothing?signature=s3cret")
	status, ok := errors.AsType[*StatusError](err)
	require.True(t, ok)
	require.Equal(t, 404, status.Status)
	require.NotContains(t, err.Error(), "s3cret")

	hasty := New(Config{AllowPrivate: private, Timeout: 50 * time.Millisecond})
	_, err = hasty.Get(t.Context(), base+"/stalls?signature=s3cret")
	require.ErrorIs(t, err, ErrTimeout)
	require.NotContains(t, err.Error(), "s3cret")

	hungUp := errors.New("hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(hungUp)
	_, err = f.Get(ctx, base+"/stalls")
	require.ErrorIs(t, err, hungUp)
}

func TestNoConnectionErrorQuotesTheURL(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.9.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = New(Config{AllowPrivate: private}).Get(t.Context(), fmt.Sprintf("http://%s/?signature=s3cret", l.Addr()))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestPlainHTTPAndOddPortsWantPermission(t *testing.T) {
	f := New(Config{AllowPorts: []uint16{8443}})
	require.ErrorIs(t, f.control("tcp4", "93.184.216.34:80", nil), ErrForbidden)
	require.ErrorIs(t, f.control("tcp4", "93.184.216.34:22", nil), ErrForbidden)
	require.ErrorIs(t, f.control("udp4", "93.184.216.34:443", nil), ErrForbidden)
	require.ErrorIs(t, f.control("tcp4", "nonsense", nil), ErrForbidden)
	require.NoError(t, f.control("tcp4", "93.184.216.34:443", nil))
	require.NoError(t, f.control("tcp4", "93.184.216.34:8443", nil))
	require.NoError(t, f.control("tcp6", "[2606:2800:220:1::1]:443", nil))
	require.NoError(t, New(Config{AllowHTTP: true}).control("tcp4", "93.184.216.34:80", nil))
	require.NoError(t, New(Config{AllowPrivate: private}).control("tcp6", "[::ffff:127.9.0.5]:99", nil))
}

func TestDataURIs(t *testing.T) {
	f := New(Config{})
	for _, tt := range []struct {
		address, contentType, data string
		err                        error
	}{
		{address: "data:audio/mpeg;base64,SUQz", contentType: "audio/mpeg", data: "ID3"},
		{address: "DATA:audio/mpeg;BASE64,SUQz", contentType: "audio/mpeg", data: "ID3"},
		{address: "data:audio/wav;codecs=1;base64,-_-_", contentType: "audio/wav;codecs=1", data: "\xfb\xff\xbf"},
		{address: "data:;base64,SQ==", data: "I"},
		{address: "data:;base64,SQ%3D%3D", data: "I"},
		{address: "data:,a%20b", data: "a b"},
		{address: "data:audio/mpeg;base64", err: ErrURL},
		{address: "data:;base64,!!!", err: ErrURL},
		{address: "data:,%zz", err: ErrURL},
		{address: "data:;base64," + base64.StdEncoding.EncodeToString(make([]byte, MaxData+1)), err: ErrTooLarge},
		{address: "data:," + strings.Repeat("x", 3*MaxData+2000), err: ErrTooLarge},
	} {
		body, err := f.Get(t.Context(), tt.address)
		require.ErrorIs(t, err, tt.err)
		require.Equal(t, tt.contentType, body.ContentType)
		require.Equal(t, tt.data, string(body.Data))
	}
}

func FuzzData(f *testing.F) {
	f.Add("audio/mpeg;base64,SUQz")
	f.Add(",%41")
	fetcher := New(Config{})
	f.Fuzz(func(t *testing.T, s string) {
		body, err := fetcher.data(s)
		if err != nil && !errors.Is(err, ErrURL) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		if len(body.Data) > len(s) {
			t.Fatal("decoding made it longer")
		}
	})
}

// resolver answers every name with one address.
func resolver(t *testing.T, address string) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Response = true
			m.Additionals = nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
