package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestClientBehindProxies(t *testing.T) {
	f := newFront([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:aa::/48"), netip.MustParsePrefix("127.0.0.1/32")}, "")
	for _, tt := range []struct {
		name, remote string
		header       http.Header
		want         client
	}{
		{"nobody between", "203.0.113.1:1", nil, client{netip.MustParseAddr("203.0.113.1"), "http", "here", false}},
		{"forged by a stranger", "203.0.113.1:1", http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"x"}}, client{netip.MustParseAddr("203.0.113.1"), "http", "here", true}},
		{"one proxy", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"Phone.example.com:443"}}, client{netip.MustParseAddr("203.0.113.1"), "https", "phone.example.com", true}},
		{"forged before the proxy", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"1.1.1.1, 203.0.113.1"}}, client{netip.MustParseAddr("203.0.113.1"), "http", "here", true}},
		{"two lines", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"1.1.1.1", "203.0.113.1"}}, client{netip.MustParseAddr("203.0.113.1"), "http", "here", true}},
		{"two proxies", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"1.1.1.1, 203.0.113.1, 2001:db8:aa::1"}, "X-Forwarded-Proto": {"https, http"}}, client{netip.MustParseAddr("203.0.113.1"), "https", "here", true}},
		{"trusted all the way", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, client{netip.MustParseAddr("10.0.0.3"), "http", "here", true}},
		{"with a port", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.1:4711"}}, client{netip.MustParseAddr("203.0.113.1"), "http", "here", true}},
		{"IPv6 with a port", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"[2001:db8::1]:4711"}}, client{netip.MustParseAddr("2001:db8::1"), "http", "here", true}},
		{"IPv6 in brackets", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"[2001:db8::1]"}}, client{netip.MustParseAddr("2001:db8::1"), "http", "here", true}},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", http.Header{"X-Forwarded-For": {"::ffff:203.0.113.1"}}, client{netip.MustParseAddr("203.0.113.1"), "http", "here", true}},
		{"garbage", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.1, unknown"}}, client{netip.MustParseAddr("10.0.0.1"), "http", "here", true}},
		{"proxy says nothing", "10.0.0.1:1", http.Header{"X-Forwarded-Proto": {"ftp"}}, client{netip.MustParseAddr("10.0.0.1"), "http", "here", false}},
		{"this machine through a proxy", "127.0.0.1:1", http.Header{"X-Forwarded-For": {"127.0.0.5"}}, client{netip.MustParseAddr("127.0.0.5"), "http", "here", false}},
		{"no address", "@", nil, client{netip.Addr{}, "http", "here", false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Host = tt.remote, "here"
			if tt.header != nil {
				r.Header = tt.header
			}
			require.Equal(t, tt.want, f.client(r))
		})
	}
}

// What strangers write to the left never changes whom a request counts for.
func TestClientCannotBeForged(t *testing.T) {
	f := newFront([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "")
	rapid.Check(t, func(t *rapid.T) {
		forged := rapid.SliceOf(rapid.OneOf(rapid.String(), rapid.Just("10.0.0.9"), rapid.Just("1.1.1.1"), rapid.Just(","))).Draw(t, "forged")
		hops := append(slices.Clone(forged), "203.0.113.1")
		for range rapid.IntRange(0, 3).Draw(t, "proxies") {
			hops = append(hops, "10.1.2.3")
		}
		r := &http.Request{Header: http.Header{"X-Forwarded-For": hops}, RemoteAddr: "10.0.0.1:1", Host: "here"}
		require.Equal(t, "203.0.113.1", f.client(r).addr.String())
		r.RemoteAddr = "203.0.113.2:1"
		require.Equal(t, "203.0.113.2", f.client(r).addr.String())
	})
}

func TestArrivedAtLoopback(t *testing.T) {
	for addr, want := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}: true, &net.TCPAddr{IP: net.IPv6loopback}: true, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}: false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = "localhost"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
		require.Equal(t, want, arrivedAtLoopback(r))
		s := newServer(Config{Loopback: true, Phone: newExchange(), Calls: newSwitchboard()})
		require.Equal(t, want, s.guard.local(r), "another listener serves the same handler")
		status, _ := s.guard.judge(r)
		require.Equal(t, want, status == 0)
	}
}

func TestLimitIsBounded(t *testing.T) {
	l := newLimit(time.Hour, 1)
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range maxAddresses {
		_, ok := l.take(at(i))
		require.True(t, ok)
	}
	_, ok := l.take(at(0))
	require.False(t, ok)
	_, ok = l.take(at(maxAddresses))
	require.True(t, ok)
	require.Len(t, l.byAddr, maxAddresses)
	require.Equal(t, maxAddresses, l.order.Len())
	_, ok = l.take(at(0))
	require.False(t, ok, "it was seen lately")
	_, ok = l.take(at(1))
	require.True(t, ok, "the one that was not seen for longest is forgotten")
	_, ok = l.take(netip.Addr{})
	require.True(t, ok)
	_, ok = l.take(netip.Addr{})
	require.False(t, ok)
}

func TestNetworks(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		require.Equal(t, want, network(netip.MustParseAddr(addr)).String())
	}
}

func TestValidOrigin(t *testing.T) {
	for s, want := range map[string]bool{
		"https://a.example.com": true, "http://localhost:3000": true, "capacitor://localhost": true, "chrome-extension://abc": true,
		"": false, "*": false, "null": false, "https://a.example.com/": false, "https://A.example.com": false, "https://u@a": false, "https://": false, "a": false, "https://a?b": false,
	} {
		require.Equal(t, want, validOrigin(s), s)
	}
}
