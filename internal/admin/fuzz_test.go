package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequests sends anything to the addresses that strangers reach: the answer
// is JSON, and what reaches the phone is within its bounds.
func FuzzRequests(f *testing.F) {
	paths := []string{"", "/token", "/tokens", "/config", "/S/offer", "/S/candidates", "/S/keys", "/S/text", "/S/hangup", "/S"}
	for i := range paths {
		f.Add(uint8(i), "application/json", ownPage, "203.0.113.1, 10.0.0.1", []byte(`{"sdp":"v=0","agent":"pizza","language":"de","variables":{"a":1,"b":"x","c":true},"token":"x"}`))
		f.Add(uint8(i), "text/plain", "null", "[::1]:80,", []byte(`{"candidates":[{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}]}`))
		f.Add(uint8(i), "application/json;", shop, "", []byte(`{"keys":"12#"}`))
		f.Add(uint8(i), "application/json; charset=utf-8", "", "unknown", []byte(`{"text":"a \ud800 pizza"} `))
	}
	f.Fuzz(func(t *testing.T, which uint8, kind, origin, hops string, body []byte) {
		phone := newExchange()
		h := New(Config{Phone: phone, Loopback: true, Origins: sites})
		session, c := phone.begin(ownPage)
		path := strings.ReplaceAll(paths[int(which)%len(paths)], "S", session)
		r := httptest.NewRequest(http.MethodPost, "/api/v1/rtc"+path, bytes.NewReader(body))
		r.Host = "127.0.0.1:8080"
		r.Header = http.Header{"Content-Type": {kind}, "Origin": {origin}, "X-Forwarded-For": {hops}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) || w.Code == http.StatusInternalServerError {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, o := range phone.offers {
			if o.Origin != ownPage && origin != "" || strings.TrimSpace(o.SDP) == "" || len(o.SDP) > maxPhoneBody || len(o.Variables) > maxVariables || !utf8.ValidString(o.SDP) {
				t.Fatalf("%+v", o)
			}
		}
		for _, did := range c.did {
			if origin != ownPage || !utf8.ValidString(did) {
				t.Fatalf("%q of %q", did, origin)
			}
		}
	})
}

// FuzzClient reads any headers that say where a request comes from.
func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1:1", "203.0.113.1, 10.0.0.2", "https", "a:443", "for=x")
	f.Add("[::1]:1", "[2001:db8::1]:1,,", "", "", "")
	f.Add("", "%", "HTTP", "\x00", "")
	front := newFront([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, "https://phone.example.com")
	f.Fuzz(func(t *testing.T, remote, hops, proto, host, forwarded string) {
		r := &http.Request{RemoteAddr: remote, Host: "here", Header: http.Header{
			"X-Forwarded-For": {hops}, "X-Forwarded-Proto": {proto}, "X-Forwarded-Host": {host}, "Forwarded": {forwarded},
		}}
		c := front.client(r)
		if c.scheme != "http" && c.scheme != "https" || c.addr.Is4In6() || c.addr.Zone() != "" {
			t.Fatalf("%+v", c)
		}
		network(c.addr)
		front.same(r)
	})
}
