package admin

import (
	"crypto/tls"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

func TestPages(t *testing.T) {
	h := New(Config{Phone: newExchange(), Token: secret.New(secret1)})
	for _, host := range []string{"localhost", "192.0.2.1:8080", "phone.example.com"} {
		w := do(t, h, request{method: "GET", path: "/", host: host})
		require.Equal(t, 200, w.Code, "everybody gets the page, it holds no secret")
		require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		require.Equal(t, pagePolicy, w.Header().Get("Content-Security-Policy"))
		require.Contains(t, w.Header().Get("Permissions-Policy"), "microphone=(self)")
		require.Equal(t, "no-cache", w.Header().Get("Cache-Control"))
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
		require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
		require.Empty(t, w.Header().Get("Strict-Transport-Security"))
	}
	require.NoError(t, fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		address := strings.TrimPrefix(name, "web")
		if d.IsDir() {
			if address != "" {
				require.Equal(t, 404, do(t, h, request{method: "GET", path: address + "/"}).Code, "no listing")
			}
			return err
		}
		if name == "web/index.html" || contentTypes[path.Ext(name)] == "" {
			return err
		}
		w := do(t, h, request{method: "GET", path: address})
		require.Equal(t, 200, w.Code, name)
		require.Equal(t, contentTypes[path.Ext(name)], w.Header().Get("Content-Type"))
		if path.Ext(name) != ".html" {
			require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"), "the button of other sites loads it")
			require.Equal(t, "cross-origin", w.Header().Get("Cross-Origin-Resource-Policy"))
		}
		content, err := fs.ReadFile(web, name)
		require.NoError(t, err)
		require.Equal(t, string(content), w.Body.String())
		return err
	}))
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/index.html", 404},
		{"GET", "/assets/../../admin.go", 307},
		{"GET", "/assets/%2e%2e/static.go", 404},
		{"GET", "/nothing", 404},
		{"POST", "/", 405},
		{"HEAD", "/", 200},
	} {
		require.Equal(t, tt.want, do(t, h, request{method: tt.method, path: tt.path}).Code, tt)
	}
}

func TestPagesAreRevalidated(t *testing.T) {
	h := file([]byte("x"), "text/plain", true)
	get := func(tags ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.Header["If-None-Match"] = tags
		w := httptest.NewRecorder()
		h(w, r)
		return w
	}
	tag := get().Header().Get("ETag")
	require.Regexp(t, `^"[0-9a-f]{32}"$`, tag)
	for _, tt := range []struct {
		tags []string
		want int
	}{
		{nil, 200}, {[]string{""}, 200}, {[]string{`"x"`}, 200}, {[]string{tag}, 304}, {[]string{"W/" + tag}, 304}, {[]string{`"x", ` + tag}, 304}, {[]string{`"x"`, tag}, 304}, {[]string{"*"}, 304},
	} {
		w := get(tt.tags...)
		require.Equal(t, tt.want, w.Code, tt.tags)
		require.Equal(t, tag, w.Header().Get("ETag"))
		require.Equal(t, tt.want == 200, w.Body.Len() == 1)
		require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	}
}

func TestTransportSecurity(t *testing.T) {
	for _, tt := range []struct {
		host         string
		tls, trusted bool
		want         string
	}{
		{"phone.example.com", true, true, "max-age=15552000"},
		{"phone.example.com", true, false, ""},
		{"phone.example.com", false, true, ""},
		{"localhost:8443", true, true, ""},
	} {
		h := New(Config{Trusted: func() bool { return tt.trusted }})
		r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
		r.Host = tt.host
		if tt.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, tt.want, w.Header().Get("Strict-Transport-Security"), tt)
	}
}
